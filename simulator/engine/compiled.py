"""The rules of `reference`, compiled: the same events in the same order, and the same bits.

An event is a number: rank r ends its kernel, or call c of a coflow ends its latency or its bytes.
Sums are taken in the order of `reference` and of `fairshare.max_min_few`.

`records` says what there is, `rows` and `coflows` what happens to it, `sharing` how fast bytes
move, `pace` how fast kernels run. All is compiled to one object, which is loaded without numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.compiled import MachineCode
from simulator.engine.coflows import begin, close, settle
from simulator.engine.heap import take
from simulator.engine.instants import INSTANT
from simulator.engine.places import MANY, placed, places_of
from simulator.engine.records import BEGUN, DONE, FAILED, HEAP, MOVING, State
from simulator.engine.rows import arrived, computed, ready
from simulator.engine.state import nothing, state_of
from simulator.errors import EngineError
from simulator.fairshare import UNBOUNDED
from simulator.program import Program
from simulator.progress import counting
from simulator.timeline import Timeline

# Python sees neither Ctrl-C nor the time while machine code runs: it comes back after so many rows,
# which takes some hundredths of a second, or where flows are many about one. Coming back is free.
_SLICE = 16_384


def run(program: Program, many: int = MANY) -> Timeline:
    """Execute one step. Rows that wait for each other keep the end -1. Errors: EngineError if a rate is unbounded.

    many: rows from which those of all ranks lie side by side in memory, which changes nothing else.
    """
    places = places_of(program, many)
    state = placed(state_of(program), places)
    execute, tell = CODE.ready(), counting("rows", len(program.rank))
    left = True
    while left:
        execute(state)
        tell(int(state.counts[DONE]))
        left = bool(state.counts[HEAP]) and not state.counts[FAILED]
    if state.counts[FAILED]:
        raise EngineError(UNBOUNDED)
    return Timeline(
        program,
        issue=places.listed(state.issue),
        due=places.listed(state.due),
        arrive=places.listed(state.arrive),
        start=places.listed(state.start),
        end=places.listed(state.end),
        slowed=places.listed(state.slowed),
        executor="compiled",
        events=int(state.counts[DONE]),
    )


def _execute(s: State) -> None:
    """Run until so many more rows have ended, to the end, or until a rate is unbounded."""
    counts = s.counts
    if not counts[BEGUN]:
        _begin(s)
    pause = counts[DONE] + _SLICE
    while counts[HEAP] and not counts[FAILED] and counts[DONE] < pause:
        due = _collect(s)
        now = s.event[s.instant[due - 1]].at
        for i in range(due):
            _act(s, s.instant[i], now)
        settle(s, now)


def _begin(s: State) -> None:
    """Make ready what waits for nothing."""
    s.counts[BEGUN] = 1
    for row in s.initial:
        ready(s, row, 0.0)
    settle(s, 0.0)


def _collect(s: State) -> int:
    """Move all events of the next instant from the heap to s.instant, in their order. Return how many there are."""
    events, heap, counts, due = s.event, s.heap, s.counts, 0
    last = events[heap[0]].at + INSTANT
    while counts[HEAP] and events[heap[0]].at <= last:
        s.instant[due] = heap[0]
        due += 1
        take(events, heap, counts)
    return due


def _act(s: State, event: int, now: float) -> None:
    """Do what an event stands for."""
    # Numbers of the size in which records hold them: of another size, all that is called with them
    # would be compiled once more.
    call: Any = np.int32(event - len(s.rank))
    row: Any = np.int32(event - len(s.rank) - (len(s.call) - 1))
    if call < 0:
        computed(s, event, now)
    elif row >= 0:
        arrived(s, row, now)
    elif s.call[call].state == MOVING:
        close(s, call, now)
    else:
        begin(s, call, now)


CODE = MachineCode(_execute, nothing())
"""The executor's machine code."""

"""The clock of the zero-bubble search: one greedy run, and the replay of an order that is known.

Both are plain functions over arrays, so that short runs are not compiled and long ones are
(`compiled.with_callees`). A rank that can do nothing waits for the end of time, `inf`; when all do,
the run has failed, and its times are `inf`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Lines = NDArray[Any]

F, I, W = range(3)  # noqa: E741 - the field's names
_WAIT = -1
_INF = np.inf


class Rules(NamedTuple):
    """What one greedy run keeps to."""

    late_w: float
    """Share of a W that may reach beyond the arrival of what comes next."""
    late_f: float
    """Share of an F that may reach beyond the arrival of the next I."""
    alternate: bool
    """Where both an F and an I have arrived: F after I, else I first."""
    limit: float
    """Chunks that a rank may hold activations of."""
    kept: float
    """Share of a chunk that is held on from its I to its W, 0 to 1."""


# What is known of one rank. A record, because compiled code counts references for each array that
# it takes out of a tuple, and that takes longer than all the rest.
_RANK = np.dtype(
    [
        ("wake", "f8"),  # when it decides next
        ("free", "f8"),  # when its running action ends
        ("first", "f8"),  # when its first action begins
        ("ahead", "f8"),  # forwards that may run beyond input gradients
        ("seconds", "f8", 3),  # durations of F, I and W
        ("begun", "i8", 3),  # its F, I and W that have begun
        ("last", "i8"),  # kind of the latest of them
    ]
)


def greedy(
    micro_batches: int, times: Floats, comm: float, ahead: Floats, rules: Rules
) -> tuple[float, float, Codes]:
    """Return the longest stage, the end and the order [rank, step] of one greedy run.

    times: of F, I, W [kind, rank]. comm: to the next rank. ahead: forwards that may run beyond
    input gradients [rank]. The longest stage lasts from a rank's first action to its last.
    """
    ranks = len(ahead)
    lines = _begin(times, ahead)
    ready = np.full((2, ranks, micro_batches), _INF)  # when inputs of F and I arrive, if known
    ready[F, 0] = 0.0
    codes = np.zeros((ranks, 3 * micro_batches), dtype=np.int64)
    earlier = _tree(len(lines))
    left = codes.size
    while left:
        rank = earlier[1]
        line = lines[rank]
        now = line["wake"]
        if now == _INF:
            return _INF, _INF, codes
        next_f, next_i = _arrivals(line, rules, ready, rank)
        kind = _choice(line, rules, next_f, next_i)
        # Ranks decide in the order of their clocks, so nothing that is handed on arrives
        # earlier than what has been decided before.
        if kind == _WAIT:
            # Wait for what is known to come; where nothing is known, until a neighbour starts
            # something.
            line["wake"] = next_i if next_f <= now else min(next_i, next_f)
        else:
            left -= 1
            end = _start(line, codes, rank, kind)
            receiver = _hand_on(lines, ready, rank, kind, end + comm)
            if receiver != rank:
                _wake(lines[receiver], now)
                _update(lines, earlier, receiver)
        _update(lines, earlier, rank)
    longest = end = 0.0
    for line in lines[:ranks]:
        longest = max(longest, line["free"] - line["first"])
        end = max(end, line["free"])
    return longest, end, codes


def _begin(times: Floats, ahead: Floats) -> Lines:
    """Return ranks before anything has run; as many as a full tree has leaves, the last ones never wake."""
    ranks = len(ahead)
    size = 1
    while size < ranks:
        size *= 2
    lines = np.zeros(size, dtype=_RANK)
    for rank in range(size):
        line = lines[rank]
        line["wake"] = 0.0 if rank < ranks else _INF
        line["first"] = _INF
        line["last"] = _WAIT
        if rank < ranks:
            line["ahead"] = ahead[rank]
            for kind in range(3):
                line["seconds"][kind] = times[kind, rank]
    return lines


def _tree(size: int) -> Codes:
    """Return a tree of who decides first, by rank where two tie: node 1 is the root, the leaves come last [node]."""
    earlier = np.arange(-size, size)
    for node in range(size - 1, 0, -1):
        earlier[node] = earlier[2 * node]
    return earlier


def _update(lines: Lines, earlier: Codes, rank: int) -> None:
    """Bring the tree in order after a rank's time to decide has changed."""
    node = (rank + len(lines)) // 2
    while node:
        one, two = earlier[2 * node], earlier[2 * node + 1]
        earlier[node] = one if lines[one]["wake"] <= lines[two]["wake"] else two
        node //= 2


def _wake(line: Any, now: float) -> None:
    """Let a rank decide again now, or when it is free."""
    line["wake"] = min(line["wake"], max(line["free"], now))


def _arrivals(line: Any, rules: Rules, ready: Floats, rank: int) -> tuple[float, float]:
    """Return when the next F, if memory allows it, and the next I of a rank arrive."""
    begun = line["begun"]
    f, i, w = begun[F], begun[I], begun[W]
    next_f = next_i = _INF
    held = f - i + rules.kept * (i - w) + 1
    if f < ready.shape[2] and held <= rules.limit and f - i < line["ahead"]:
        next_f = ready[F, rank, f]
    if i < f:
        next_i = ready[I, rank, i]
    return next_f, next_i


def _choice(line: Any, rules: Rules, next_f: float, next_i: float) -> int:
    """Return the kind of action that a rank starts now, or that it waits. next_f, next_i: as in `_arrivals`."""
    now = line["wake"]
    # Input gradients first: the rank before waits for them, and they free the way for forwards.
    if next_i <= now:
        return F if next_f <= now and rules.alternate and line["last"] == I else I
    if next_f <= now and now + (1 - rules.late_f) * line["seconds"][F] <= next_i:
        return F
    # Nothing has arrived: a W, on which no other rank waits, may fill the gap.
    arrives = max(now, min(next_i, next_f))
    put_off = line["begun"][W] < line["begun"][I]
    if put_off and now + (1 - rules.late_w) * line["seconds"][W] <= arrives:
        return W
    return _WAIT


def _start(line: Any, codes: Codes, rank: int, kind: int) -> float:
    """Start an action of a rank now. Return when it ends."""
    now, begun = line["wake"], line["begun"]
    step = begun[F] + begun[I] + begun[W]
    codes[rank, step] = kind
    begun[kind] += 1
    end: float = now + line["seconds"][kind]
    line["first"] = min(line["first"], now)
    line["last"] = kind
    line["free"] = end
    line["wake"] = end if step + 1 < codes.shape[1] else _INF
    return end


def _hand_on(lines: Lines, ready: Floats, rank: int, kind: int, arrival: float) -> int:
    """Tell who waits for the action that a rank has just started. Return that rank, or the own one."""
    number = lines[rank]["begun"][kind] - 1
    last = ready.shape[1] - 1
    receiver = rank
    if kind == F and rank < last:
        receiver = rank + 1
        ready[F, receiver, number] = arrival
    elif kind == F:  # the last rank turns round by itself
        ready[I, rank, number] = lines[rank]["free"]
    elif kind == I and rank > 0:
        receiver = rank - 1
        ready[I, receiver, number] = arrival
    return receiver


class _Replay(NamedTuple):
    """The state of the replay of an order."""

    ready: Floats
    """When inputs of F and I arrive, `inf` until that is known [F or I, rank, micro-batch]."""
    begun: Codes
    """Actions that have run [kind, rank]."""
    free: Floats
    """When the latest action ends [rank]."""
    first: Floats
    """When the first action begins [rank]."""


def replay(codes: Codes, times: Floats, comm: float) -> tuple[float, float]:
    """Return the longest stage and the end of an order, `inf` for one that deadlocks. codes: as from `greedy`."""
    ranks, steps = codes.shape
    ready = np.full((2, ranks, steps // 3), _INF)
    ready[F, 0] = 0.0
    begun = np.zeros((3, ranks), np.int64)
    state = _Replay(ready, begun, np.zeros(ranks), np.full(ranks, _INF))
    left, before = ranks * steps, -1
    while left and left != before:
        before = left
        for rank in range(ranks):
            for step in range(begun[:, rank].sum(), steps):
                if not _replayed(state, times, comm, rank, codes[rank, step]):
                    break
                left -= 1
    if left:
        return _INF, _INF
    return (state.free - state.first).max(), state.free.max()


def _replayed(state: _Replay, times: Floats, comm: float, rank: int, kind: int) -> bool:
    """Run the next action of a kind on a rank, as soon as its input is there. Return whether that is known."""
    number = state.begun[kind, rank]
    start = state.free[rank]
    if kind != W:
        start = max(start, state.ready[kind, rank, number])
    if start == _INF:
        return False
    end = start + times[kind, rank]
    state.free[rank] = end
    state.first[rank] = min(state.first[rank], start)
    state.begun[kind, rank] += 1
    if kind == F and rank == len(state.free) - 1:
        state.ready[I, rank, number] = end
    elif kind == F:
        state.ready[F, rank + 1, number] = end + comm
    elif kind == I and rank:
        state.ready[I, rank - 1, number] = end + comm
    return True

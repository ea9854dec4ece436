"""Executes a Program over a network.

`run` is the verb. Its executors are two, with one signature, the same rules and the same results to
the last bit, and in one table: `simpy` is the reference, `compiled` is forty times as fast once its
machine code is there.

The steady state of a pipeline is executed micro-batch by micro-batch, although it seems to repeat.
On V3's step on 2,048 GPUs two overlapped pairs take the same time as the two before to 1e-13 of it
where experts are equally popular, but where they are not, as they are by default, a rank's waits die
away over tens of micro-batches: after 60 of 100 pairs neighbouring periods still differ by 4e-6. A
period that is skipped would so be a period that is guessed, to save 7 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from simulator.engine import compiled
from simulator.errors import EngineError
from simulator.program import Program
from simulator.progress import doing
from simulator.timeline import Timeline

__all__ = ["CODE", "EXECUTORS", "run"]

CODE = compiled.CODE
"""Machine code of the compiled executor."""

# The reference takes about 7 s for so many rows, as long as compiling takes, once.
_MANY = 300_000


def _simpy(program: Program) -> Timeline:
    from simulator.engine import reference  # SimPy: only where it is used

    return reference.run(program)


EXECUTORS: dict[str, Callable[[Program], Timeline]] = {
    "simpy": _simpy,
    "compiled": compiled.run,
}
"""name -> function from a program to its timeline, in which rows that wait for each other end at -1."""


def run(program: Program, executor: str = "auto") -> Timeline:
    """Execute one step. executor: a row of EXECUTORS, or `auto`.

    Which one `auto` takes shows in nothing but the time that it needs: the compiled one where its
    machine code is on disk or the program is so large that compiling it pays at once, else SimPy.
    Errors: EngineError if rows are left that wait for each other, or a rate is unbounded.
    """
    if executor == "auto":
        return replace(run(program, _quicker(program)), executor="auto")
    if executor not in EXECUTORS:
        known = ", ".join(EXECUTORS)
        raise EngineError(
            f"{executor!r} is not an executor of programs. Choose from: auto, {known}."
        )
    with doing("executing"):
        timeline = EXECUTORS[executor](program)
    left = np.flatnonzero(timeline.end < 0)
    if len(left):
        few = program.label[left[:3]]  # [op] label
        names = [program.labels[label] for label in few.tolist()]
        first = ", ".join(names)
        raise EngineError(f"{len(left)} ops wait for each other, first {first}")
    return timeline


def _quicker(program: Program) -> str:
    """Return the executor that ends first, compiling included."""
    if compiled.CODE.on_disk() or len(program.rank) >= _MANY:
        return "compiled"
    return "simpy"

"""Executes a Program over a network.

`run` is the verb. Its executors are two, with one signature, the same rules and the same results,
and in one table: `simpy` is the reference, `compiled` is for large programs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from simulator.engine import reference
from simulator.errors import EngineError
from simulator.program import Program
from simulator.timeline import Timeline

__all__ = ["EXECUTORS", "run"]

# The reference takes about 4 s for so many rows; loading what numba has compiled 1 s, compiling it
# 20 s, once.
_MANY = 300_000


def _compiled(program: Program) -> Timeline:
    from simulator.engine import compiled  # numba: only where it is used

    return compiled.run(program)


EXECUTORS: dict[str, Callable[[Program], Timeline]] = {
    "simpy": reference.run,
    "compiled": _compiled,
}
"""name -> function from a program to its timeline, in which rows that wait for each other end at -1."""


def run(program: Program, executor: str = "auto") -> Timeline:
    """Execute one step. executor: a row of EXECUTORS, or `auto`, which goes by the number of rows.

    Errors: EngineError if rows are left that wait for each other, or a rate is unbounded.
    """
    if executor == "auto":
        many = len(program.rank) >= _MANY
        executor = "compiled" if many else "simpy"
    if executor not in EXECUTORS:
        known = ", ".join(EXECUTORS)
        raise EngineError(
            f"{executor!r} is not an executor of programs. Choose from: auto, {known}."
        )
    timeline = EXECUTORS[executor](program)
    left = np.flatnonzero(timeline.end < 0)
    if len(left):
        few = program.label[left[:3]]  # [op] label
        names = [program.labels[label] for label in few.tolist()]
        first = ", ".join(names)
        raise EngineError(f"{len(left)} ops wait for each other, first {first}")
    return timeline

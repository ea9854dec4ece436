"""What a pool takes and gives back."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

Function = Callable[[Any], Any]
"""What runs a job: payload -> value. At a module's top level, where workers find it by name."""
TRIES = 3
"""How often a job is begun before its worker's death counts as the job's own fault."""


@dataclass(frozen=True, slots=True)
class Job:
    """One call."""

    key: str
    """What tells it from the others."""
    payload: Any
    """The argument, picklable."""
    group: str = ""
    """Jobs of a group share what a process keeps in memory; a worker prefers its own group."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job."""

    job: Job
    """The job."""
    value: Any = None
    """What the function returned."""
    error: str = ""
    """Why there is no value, empty where there is one."""
    seconds: float = 0.0
    """Time of the call itself, as its worker measured it [s]."""
    tries: int = 1
    """How often it was begun."""


Outcomes = Generator[Outcome, None, None]
"""Outcomes as they come; closing it gives up the rest."""
Pool = Callable[[Function, Sequence[Job], Any], Outcomes]
"""(function, jobs, number of workers or address) -> outcomes in the order in which they finish."""


def called(function: Function, payload: Any) -> tuple[Any, str, float]:
    """Return what a call returned, what it raised instead, and the time that it took [s]."""
    started = time.perf_counter()
    try:
        value, error = function(payload), ""
    except Exception as fault:  # whatever it is, the other jobs go on
        kind = type(fault).__name__
        value, error = None, f"{kind}: {fault}"
    return value, error, time.perf_counter() - started

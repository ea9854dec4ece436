"""What a pool takes and gives back."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

Function = Callable[[Any], Any]
TRIES = 3
"""How often a job is begun before its worker's death counts as the job's own fault: once, and two more times."""


@dataclass(frozen=True, slots=True)
class Job:
    """One call. key: tells it from the others. payload: the argument, picklable.

    group: jobs of a group share what a process keeps in memory; a worker takes the next of its own
    group first.
    """

    key: str
    payload: Any
    group: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job.

    value: what the function returned. error: why there is no value, empty where there is one.
    seconds: of the call itself, as its worker measured it. tries: how often it was begun.
    """

    job: Job
    value: Any = None
    error: str = ""
    seconds: float = 0.0
    tries: int = 1


Pool = Callable[[Function, Sequence[Job], Any], Generator[Outcome, None, None]]


def called(function: Function, payload: Any) -> tuple[Any, str, float]:
    """Return what a call returned, what it raised instead, and the time that it took [s]."""
    started = time.perf_counter()
    try:
        value, error = function(payload), ""
    except Exception as fault:  # whatever it is, the other jobs go on
        value, error = None, f"{type(fault).__name__}: {fault}"
    return value, error, time.perf_counter() - started

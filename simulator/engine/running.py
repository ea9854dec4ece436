"""What the reference executor has on its way: flows, kernels, what is due, what waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from simulator.program import Coflow


@dataclass(slots=True, eq=False)
class Flow:
    """A coflow that is moving bytes."""

    kind: Coflow
    """What it is."""
    instance: int
    """Which of the calls of its kind."""
    left: float
    """Bytes of its slowest link that were left at the time `since` [B]."""
    since: float
    """When `left` was true [s]."""
    rate: float = 0.0
    """At which it has moved since [B/s]."""
    version: int = 0
    """How often its rate has changed. SimPy cannot cancel a timeout: wake-ups of older versions are ignored."""
    moving: bool = True
    """Whether it has not ended."""


Flows: TypeAlias = dict[Flow, None]
"""A set that keeps its order."""


@dataclass(slots=True)
class Kernels:
    """The row that has the SMs of a rank."""

    row: int
    """Which."""
    left: float
    """What was left of it at the time `since`, at its speed alone [s]."""
    since: float
    """When `left` was true [s]."""
    speed: float = 0.0
    """At which it has run since, relative to its speed alone."""
    done: float = 0.0
    """When its kernels are over, were the host quick enough [s]."""
    version: int = 0
    """How often its speed has changed, as of a flow."""


@dataclass(slots=True)
class Call:
    """One instance of a coflow before it starts."""

    rows: list[int] = field(default_factory=list)
    """Of the members that have arrived."""


class Due(NamedTuple):
    """Something that is due, in the order in which it is done."""

    at: float
    """When [s]."""
    order: int
    """How many things were planned before it."""
    act: Callable[[], None]
    """What to do."""
    holds: Callable[[], bool]
    """Tells whether it has not been replaced since."""


class Waiting(NamedTuple):
    """A row that waits for SMs, in the order in which they get them."""

    since: float
    """When it became ready [s]."""
    row: int
    """Among those of one instant the first of the program is the first."""

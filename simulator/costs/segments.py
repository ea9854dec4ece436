"""Runs of kernels that wait for nothing in between, and what stands between these in a phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from simulator.compute import INSENSITIVE, Sensitivity
from simulator.ops import Transfer


class Shape:
    """What decides which rows blocks have: equal shapes, equal rows. Hashed once, since it is looked up often."""

    __slots__ = ("_hash", "items")

    def __init__(self, items: tuple[object, ...]) -> None:
        self.items = items
        self._hash = hash(items)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Shape) and self.items == other.items)

    def __reduce__(self) -> tuple[type[Shape], tuple[object, ...]]:
        """Hash anew in another process, whose strings have other hashes."""
        return Shape, (self.items,)


class Launches(NamedTuple):
    """How the host launches the kernels of a row, one after another."""

    host: tuple[float, ...] = ()
    """What launching each takes [kernel] s."""
    kernels: tuple[float, ...] = ()
    """What each takes on a healthy GPU, with the gap behind it [kernel] s."""

    @property
    def total(self) -> float:
        """Return how long the host is busy [s]."""
        return sum(self.host)

    @property
    def first(self) -> float:
        """Return how long the host is busy until the first kernel is launched [s]."""
        return self.host[0] if self.host else 0.0


NO_LAUNCHES = Launches()
"""Of what the host does not launch by itself."""


class Busy(NamedTuple):
    """What a row keeps busy."""

    seconds: float
    """The GPU: of kernels on a healthy one, 0 of transfers [s]."""
    launches: Launches = NO_LAUNCHES
    """The host."""
    drains: bool = False
    """Whether the host waits for what the row waits for before it launches it."""
    sensitivity: Sensitivity = INSENSITIVE
    """Of its kernels to transfers that run next to them, mean over their time."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Kernels that run one after another, with nothing to wait for in between."""

    seconds: dict[str, float]
    """Class of op, as the breakdown names it -> time [s]."""
    flops: dict[str, float]
    """Dtype -> executed FLOPs."""
    recomputed: float
    """Of those FLOPs, what the forward pass ran before."""
    launches: Launches = NO_LAUNCHES
    """How the host launches them."""
    measured: float = 0.0
    """Of the time of its GEMMs, that of shapes between measured ones [s]."""
    sensitivity: Sensitivity = INSENSITIVE
    """To transfers that run next to it, mean over its time."""

    @property
    def total(self) -> float:
        """Return the time of the segment [s]."""
        return sum(self.seconds.values())

    @property
    def busy(self) -> Busy:
        """Return what it keeps busy."""
        return Busy(self.total, self.launches, sensitivity=self.sensitivity)

    @property
    def shape(self) -> tuple[object, ...]:
        """Return nothing: segments are told apart by what they add to sums, see `BlockCost.columns`."""
        return ()


@dataclass(frozen=True, slots=True)
class Hop:
    """A transfer inside a phase."""

    transfer: Transfer
    """The collective, with its group and its bytes."""
    concurrent: int
    """How many of the segments that follow do not wait for it, or `ops.LATE`."""

    @property
    def shape(self) -> tuple[object, ...]:
        """Return what tells its row from others."""
        moved = self.transfer
        return (moved.name, moved.group, round(moved.bytes), self.concurrent)


@dataclass(frozen=True, slots=True)
class Join:
    """Where the kernels that follow wait for what earlier phases left on its way."""

    @property
    def shape(self) -> tuple[object, ...]:
        """Return what tells it from segments and transfers."""
        return ("join",)

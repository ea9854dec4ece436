"""What may happen to a run, in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Cause(NamedTuple):
    """A kind of failure that stops the whole run."""

    name: str
    """What fails."""
    rate: float
    """Failures of all parts of the cluster together [1/s]."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """When the run is saved, and what that takes."""

    every: float
    """Training between two checkpoints [s]."""
    stall: float = 0.0
    """How long the run waits at each [s]: all of the write, or the copy to the host's memory."""
    lag: float = 0.0
    """How long after the stall the checkpoint is safe [s]: the rest of an asynchronous write."""


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Planned stops, before each of which the run is saved."""

    every: float = 0.0
    """Wall time between two [s]; 0: none."""
    takes: float = 0.0
    """How long each takes [s]."""


@dataclass(frozen=True, slots=True)
class Slow:
    """Nodes that slow the whole run down until somebody finds them."""

    rate: float = 0.0
    """How often one appears in the cluster [1/s]."""
    pace: float = 1.0
    """Speed of the run while there is one, over its own."""
    found: float = 0.0
    """How long until the run is restarted without it [s]."""


@dataclass(frozen=True, slots=True)
class Risks:
    """All that may happen to a run."""

    checkpoints: Checkpoints
    """When it is saved."""
    causes: tuple[Cause, ...] = ()
    """What stops it."""
    detection: float = 0.0
    """From a failure until somebody, or a watchdog, stops the run [s]."""
    restart: float = 0.0
    """From there until it trains again, loading included [s]."""
    spares: int = -1
    """Nodes that stand ready to replace failed ones; -1: as many as it takes."""
    repair: float = 0.0
    """How long a failed node is away [s]."""
    maintenance: Maintenance = Maintenance()
    """Planned stops."""
    slow: Slow = Slow()
    """Slow nodes."""

    @property
    def rate(self) -> float:
        """Return how often the run stops [1/s]."""
        return sum(cause.rate for cause in self.causes)

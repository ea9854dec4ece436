"""Many seeded replicas of a run, and what most of them stay within."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from simulator.goodput.replica import Outcome, replica
from simulator.goodput.risks import Risks

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Goodput:
    """What of the wall time of many replicas is training."""

    shares: tuple[float, float, float]
    """Training over wall time, P10, P50 and P90 of replicas."""
    stretch: tuple[float, float, float]
    """Wall time over training, P10, P50 and P90."""
    mean: float
    """Wall time over training, mean over replicas."""
    error: float
    """Standard error of that mean."""
    parts: dict[str, float]
    """Part of the wall time -> its share, mean over replicas."""
    failures: float
    """Failures of a replica, mean."""


def goodput(work: float, risks: Risks, *, replicas: int = 200, seed: int = 0) -> Goodput:
    """Return what of the wall time is training. work: at full speed [s]. seed: of all chance."""
    outcomes = [replica(work, risks, (seed, number)) for number in range(replicas)]
    return _summary(work, outcomes)


def _summary(work: float, outcomes: Sequence[Outcome]) -> Goodput:
    walls = np.array([outcome.wall for outcome in outcomes])  # [replica] s
    low, middle, high = np.quantile(walls / work, QUANTILES).tolist()
    parts = {}
    for field in fields(Outcome):
        if field.name != "failures":
            seconds = [getattr(outcome, field.name) for outcome in outcomes]
            parts[field.name] = float(np.sum(seconds) / walls.sum())
    return Goodput(
        shares=(1.0 / high, 1.0 / middle, 1.0 / low),
        stretch=(low, middle, high),
        mean=float(walls.mean() / work),
        error=float(walls.std() / work / np.sqrt(len(walls))),
        parts=parts,
        failures=float(np.mean([outcome.failures for outcome in outcomes])),
    )

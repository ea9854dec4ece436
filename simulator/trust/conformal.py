"""Intervals that hold as many published runs as they say, whatever the errors are.

Locally weighted split conformal prediction (Lei et al., JASA 113, 2018, section 5.2): around the
median error of the runs that are most like a run stands a width, from the spread of their errors
and from what the run itself is unsure of; then all widths are stretched by the one factor with which
four of five runs would have been inside, each judged without its own publication.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.trust.cases import PublishedRun
from simulator.trust.likeness import Likeness

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
LEVEL = 0.8
"""Share of runs whose published figure an interval should hold."""
NEAREST = 12
"""Runs that speak for one; more where several are as like it as the last of these."""
FLOOR = 0.03
"""Least width on either side, logarithm of time: two systems of one maker differ by as much."""


class Likely(NamedTuple):
    """Where published over simulated time lies, by the runs most like one; logarithms."""

    middle: float
    """Weighted median."""
    low: float
    """Weighted quantile below which a tenth lies."""
    high: float
    """Weighted quantile above which a tenth lies."""
    runs: tuple[int, ...]
    """Which runs these are, the most like first."""


class Sides(NamedTuple):
    """How far an interval reaches from its middle; logarithms of time, not below 0."""

    down: float
    """Towards shorter steps."""
    up: float
    """Towards longer ones."""

    @classmethod
    def of(cls, low: float, high: float) -> Sides:
        """Return the sides between two factors around 1."""
        return cls(max(0.0, -float(np.log(low))), max(0.0, float(np.log(high))))


class Sample:
    """Published runs as arrays: what intervals are learnt from."""

    def __init__(self, runs: Sequence[PublishedRun]) -> None:
        self.runs = tuple(runs)
        self.error = -np.log([run.ratio for run in runs])  # [run] log of published over simulated
        self.likeness = Likeness([run.kind for run in runs], [run.gpus for run in runs])
        self.publication = np.array([run.publication for run in runs])
        _, group, size = np.unique(
            [run.twins for run in runs], return_inverse=True, return_counts=True
        )
        self.weight: Floats = 1.0 / size[group]  # [run] near-twins count once together
        far = [self.likeness.distances(run.kind, run.gpus) for run in runs]
        self.far: Floats = np.array(far)  # [run, run]
        self.own = tuple(
            hypot(Sides.of(*run.hosts), Sides.of(*run.assumed)) for run in runs
        )  # [run]

    def likely(self, far: Floats, used: Mask) -> Likely:
        """Return what the most like runs say of one. far: how unlike it each is [run]."""
        count = min(NEAREST, int(used.sum()))
        apart = np.where(used, far, np.inf)
        last = np.sort(apart)[count - 1]
        near = np.flatnonzero(apart <= last + 1e-9)  # [near] run
        weight = np.exp(-apart[near]) * self.weight[near]
        # Runs of one publication are wrong together: ten count as three.
        _, group = np.unique(self.publication[near], return_inverse=True)
        total = np.bincount(group, weight)  # [publication]
        weight = weight / np.sqrt(total[group])
        low, middle, high = quantiles(self.error[near], weight, (0.1, 0.5, 0.9))
        order = np.argsort(apart[near], kind="stable")
        return Likely(middle, low, high, tuple(near[order].tolist()))

    def stretch(self, used: Mask) -> float:
        """Return the factor on all widths with which LEVEL of the used runs would have been inside."""
        scores = []
        for run in np.flatnonzero(used).tolist():
            others = used & (self.publication != self.publication[run])
            likely = self.likely(self.far[run], others)
            scores.append(score(self.error[run], likely.middle, width(likely, self.own[run])))
        (needed,) = quantiles(np.array(scores), self.weight[used], (LEVEL,))
        return needed


def width(likely: Likely, own: Sides) -> Sides:
    """Return how far an interval reaches before it is stretched. own: of the run itself."""
    published = Sides(
        max(likely.middle - likely.low, FLOOR), max(likely.high - likely.middle, FLOOR)
    )
    return hypot(published, own)


def hypot(*parts: Sides) -> Sides:
    """Return parts that do not depend on each other together: they add as squares."""
    down = np.sqrt(sum(part.down**2 for part in parts))
    up = np.sqrt(sum(part.up**2 for part in parts))
    return Sides(float(down), float(up))


def score(error: float, middle: float, sides: Sides) -> float:
    """Return how many widths an error is from the middle."""
    off = error - middle
    return off / sides.up if off > 0 else -off / sides.down


def quantiles(values: Floats, weights: Floats, shares: Sequence[float]) -> tuple[float, ...]:
    """Return weighted quantiles, interpolated between values."""
    order = np.argsort(values, kind="stable")
    weight = weights[order]
    # Each value stands in the middle of its weight.
    position = (np.cumsum(weight) - weight / 2.0) / weight.sum()
    found = np.interp(shares, position, values[order])
    return tuple(found.tolist())


class Judged(NamedTuple):
    """A published run, and the interval that the others give it."""

    run: PublishedRun
    """The run."""
    low: float
    """Shortest expected time over the simulated one."""
    high: float
    """Longest expected time over the simulated one."""
    weight: float
    """How much it counts: near-twins once together."""

    @property
    def inside(self) -> bool:
        """Tell whether the published time lies inside."""
        return self.low <= 1.0 / self.run.ratio <= self.high


def judged(runs: Sequence[PublishedRun]) -> tuple[Judged, ...]:
    """Return every run with its interval, each publication left out in turn."""
    sample = Sample(runs)
    found = []
    for publication in np.unique(sample.publication):
        used = sample.publication != publication
        stretch = sample.stretch(used)
        for run in np.flatnonzero(~used).tolist():
            likely = sample.likely(sample.far[run], used)
            sides = width(likely, sample.own[run])
            low = float(np.exp(likely.middle - stretch * sides.down))
            high = float(np.exp(likely.middle + stretch * sides.up))
            found.append(Judged(sample.runs[run], low, high, float(sample.weight[run])))
    return tuple(found)


def coverage(found: Sequence[Judged]) -> float:
    """Return the share of runs inside their intervals, near-twins once."""
    total = sum(one.weight for one in found)
    return sum(one.weight for one in found if one.inside) / total

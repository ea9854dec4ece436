"""Spans: when every op of a Program started and ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.program import Program

Floats = NDArray[np.float64]
Intervals = tuple[Floats, Floats]
"""Start and end of disjoint intervals, in order [s]."""


@dataclass(frozen=True)
class Timeline:
    """What the executor measured of a program."""

    program: Program
    """What ran."""
    arrive: Floats
    """When each op's own rank was ready for it [op] s."""
    start: Floats
    """When each op started; a transfer, when its last member arrived [op] s."""
    end: Floats
    """When each op ended [op] s."""
    executor: str
    """Who ran it: a row of `engine.EXECUTORS`."""
    events: int
    """How many events the executor handled."""

    @property
    def step_time(self) -> float:
        """Return the time from the first start to the last end [s]."""
        return float(self.end.max(initial=0.0))


def union(start: Floats, end: Floats) -> Intervals:
    """Return the union of intervals as disjoint intervals in order."""
    if not len(start):
        return start, end
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate(end[order])
    fresh = np.concatenate([[True], start[1:] > end[:-1]])
    last = np.concatenate([fresh[1:], [True]])
    return start[fresh], end[last]


def measure(start: Floats, end: Floats) -> float:
    """Return the length of disjoint intervals."""
    return float(np.sum(end - start))


def subtract(start: Floats, end: Floats, minus: Intervals) -> Intervals:
    """Return the parts of disjoint intervals outside of other disjoint intervals; both in order."""
    edges = np.unique(np.concatenate([start, end, *minus]))
    left, right = edges[:-1], edges[1:]
    keep = _inside(left, (start, end)) & ~_inside(left, minus)
    return left[keep], right[keep]


def covered(spans: Intervals, other: Intervals) -> float:
    """Return how long some of `spans` lie inside of `other`; both disjoint and in order."""
    return measure(*spans) - measure(*subtract(*spans, other))


def _inside(points: Floats, intervals: Intervals) -> NDArray[np.bool_]:
    """Tell for each point whether it lies in one of disjoint intervals [start, end)."""
    start, end = intervals
    if not len(start):
        return np.zeros(len(points), dtype=bool)
    latest = np.searchsorted(start, points, side="right") - 1  # interval that began last [point]
    inside: NDArray[np.bool_] = (latest >= 0) & (points < end[np.maximum(latest, 0)])
    return inside

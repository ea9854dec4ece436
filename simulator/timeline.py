"""Spans: when every op of a Program started and ended."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.program import Program

Floats = NDArray[np.float64]


class Intervals(NamedTuple):
    """Disjoint intervals in order; each includes its start and not its end."""

    start: Floats
    """When each begins [interval] s."""
    end: Floats
    """When each ends [interval] s."""


@dataclass(frozen=True)
class Timeline:
    """What the executor measured of a program."""

    program: Program
    """What ran."""
    issue: Floats
    """When the host of each op's rank began to launch it [op] s."""
    due: Floats
    """When what each op waits for had ended [op] s."""
    arrive: Floats
    """When each op's own rank was ready for it: that, and launched [op] s."""
    start: Floats
    """When each op started; a transfer, when its last member arrived [op] s."""
    end: Floats
    """When each op ended [op] s."""
    slowed: Floats
    """How much longer than alone each op's kernels took, for transfers next to them [op] s."""
    executor: str
    """Who was asked to run it: a row of `engine.EXECUTORS`, or `auto`."""
    events: int
    """How many events the executor handled."""

    @cached_property  # asked for by every class of ranks, of millions of rows
    def step_time(self) -> float:
        """Return the time from the first start to the last end [s]."""
        return float(self.end.max(initial=0.0))

    @cached_property
    def computing(self) -> list[Intervals]:
        """Return when kernels have the SMs of each class of ranks [rank class]."""
        is_kernel = self.program.coflow < 0  # [op]
        kernels = [rows[is_kernel[rows]] for rows in self.program.rows_by_rank]
        return [union(self.start[rows], self.end[rows]) for rows in kernels]


def union(start: Floats, end: Floats) -> Intervals:
    """Return the union of intervals, which may overlap, as disjoint intervals in order."""
    if not len(start):
        return Intervals(start, end)
    # By start, with the latest end so far: a long interval may reach over several that follow it.
    order = np.argsort(start, kind="stable")
    begin = start[order]  # [interval] s
    reach = np.maximum.accumulate(end[order])  # [interval] s
    # A gap in front of an interval separates it from all that came before.
    gap = begin[1:] > reach[:-1]  # [interval but the first]
    opens = np.concatenate([[True], gap])
    closes = np.concatenate([gap, [True]])
    return Intervals(begin[opens], reach[closes])


def measure(intervals: Intervals) -> float:
    """Return the length of disjoint intervals [s]."""
    return float(np.sum(intervals.end - intervals.start))


def subtract(intervals: Intervals, minus: Intervals) -> Intervals:
    """Return the parts of disjoint intervals outside of other disjoint intervals; both in order."""
    minus = _touching(minus, intervals)
    # Between two neighbouring edges nothing changes, so the left one answers for the whole piece.
    edges = np.concatenate([*intervals, *minus])  # [edge] s
    edges.sort()
    pieces = np.flatnonzero(edges[1:] != edges[:-1])  # of some length [piece] edge
    pieces = pieces[_inside(edges[pieces], intervals)]
    pieces = pieces[~_inside(edges[pieces], minus)]
    return Intervals(edges[pieces], edges[pieces + 1])


def covered(spans: Intervals, other: Intervals) -> float:
    """Return how long some of `spans` lie inside of `other`; both disjoint and in order [s]."""
    return measure(spans) - measure(subtract(spans, other))


def _touching(intervals: Intervals, others: Intervals) -> Intervals:
    """Return those of some disjoint intervals that meet any of some others; all in order."""
    # Of the others that are not over when an interval begins, it meets the first one or none.
    following = np.searchsorted(others.end, intervals.start, side="right")  # [interval] other
    start = np.append(others.start, np.inf)  # behind the last there is none to be met
    met = start[following] < intervals.end
    return Intervals(intervals.start[met], intervals.end[met])


def _inside(points: Floats, intervals: Intervals) -> NDArray[np.bool_]:
    """Tell for each point whether it lies in one of disjoint intervals [start, end). points: in order."""
    if not len(intervals.start):
        return np.zeros(len(points), dtype=bool)
    # Intervals are disjoint, so only the one that began last can hold a point. How many have begun
    # is added up, because there are fewer intervals to be looked up than points.
    begins = np.searchsorted(points, intervals.start)  # [interval] first point in or behind it
    begun = np.cumsum(np.bincount(begins, minlength=len(points) + 1)[:-1])  # [point]
    end = intervals.end[begun - 1]  # [point] s; of no account where none has begun
    inside: NDArray[np.bool_] = (begun > 0) & (points < end)
    return inside

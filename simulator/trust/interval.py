"""An interval on the step, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.report import Report
from simulator.trust.cases import published_runs
from simulator.trust.conformal import LEVEL, Likely, Sample, Sides, hypot, width
from simulator.trust.kind import kind_of
from simulator.trust.parts import kernels, links


class Part(NamedTuple):
    """Something that a result may be wrong by."""

    name: str
    """What it is."""
    low: float
    """The step over the simulated one, at the short end."""
    high: float
    """The same at the long end."""
    source: str
    """Where it is from."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a step is expected to lie if it ran."""

    level: float
    """Share of runs that should be inside."""
    low: float
    """Shortest step [s]."""
    high: float
    """Longest step [s]."""
    simulated: float
    """The simulated step [s]."""
    parts: tuple[Part, ...]
    """What it comes from; they add as squares and do not sum up."""
    like: tuple[str, ...]
    """Published cases most like this run, the most like first."""
    like_errors: tuple[float, float]
    """Simulated over published time of four fifths of them, less one: from and to."""

    @property
    def factors(self) -> tuple[float, float]:
        """Return both ends over the simulated step."""
        return self.low / self.simulated, self.high / self.simulated

    def of(self, figure: float, *, rate: bool = False) -> tuple[float, float]:
        """Return the ends of a figure in proportion to the step, or to one over it."""
        low, high = self.factors
        if rate:
            return figure / high, figure / low
        return figure * low, figure * high


class Steps(NamedTuple):
    """The step under other choices, its own included [s]."""

    hosts: Sequence[float]
    """At each measured pace of hosts; nothing where the stack's own was measured."""
    assumed: Sequence[float]
    """With each alternative to what was not published."""


def interval(report: Report, steps: Steps) -> Interval:
    """Return the interval on a simulated step."""
    scenario = report.scenario
    sample = _sample(scenario.topology.name, scenario.workload.name, own=scenario.as_published)
    every = np.ones(len(sample.runs), dtype=bool)
    far = sample.likeness.distances(kind_of(scenario), scenario.topology.gpus)
    likely = sample.likely(far, every)
    hosts, assumed = _sides(report, steps.hosts), _sides(report, steps.assumed)
    own = hypot(hosts, assumed)
    # Published runs were simulated with the same tables: their errors hold those of kernels and
    # links, unless this run hangs on them more than any of those do.
    tables = math.hypot(kernels(report), links(report))
    sides = width(likely, own)
    sides = Sides(max(sides.down, tables), max(sides.up, tables))
    stretch = _stretch(scenario.topology.name, scenario.workload.name, own=scenario.as_published)
    low = math.exp(likely.middle - stretch * sides.down)
    high = math.exp(likely.middle + stretch * sides.up)
    return Interval(
        level=LEVEL,
        low=report.step_time * low,
        high=report.step_time * high,
        simulated=report.step_time,
        parts=_parts(report, likely, hosts, assumed),
        like=tuple(sample.runs[run].case for run in likely.runs),
        like_errors=(math.exp(-likely.high) - 1.0, math.exp(-likely.low) - 1.0),
    )


def _parts(report: Report, likely: Likely, hosts: Sides, assumed: Sides) -> tuple[Part, ...]:
    """Return what an interval comes from, as factors of the simulated step."""
    by_kernels, by_links = kernels(report), links(report)
    return (
        Part(
            "published runs like this one",
            math.exp(likely.low),
            math.exp(likely.high),
            f"{len(likely.runs)} runs, their publications' figures over simulated ones",
        ),
        Part(
            "kernels",
            1.0 - by_kernels,
            1.0 + by_kernels,
            "residuals of the kernel tables, by share",
        ),
        Part("links", 1.0 - by_links, 1.0 + by_links, "residuals of collectives, by share exposed"),
        Part("hosts", *_factors(hosts), "measured paces of hosts, lean to ordinary"),
        Part("assumed settings", *_factors(assumed), "alternatives to what was not published"),
    )


def _factors(sides: Sides) -> tuple[float, float]:
    return math.exp(-sides.down), math.exp(sides.up)


def _sides(report: Report, steps: Sequence[float]) -> Sides:
    """Return how far some steps are from the simulated one."""
    ratios = [1.0, *(step / report.step_time for step in steps)]
    return Sides.of(min(ratios), max(ratios))


@lru_cache(maxsize=64)
def _sample(topology: str, workload: str, *, own: bool) -> Sample:
    """Return the published runs. own: without those of this cluster and workload."""
    # Else a published run would be trusted because its own error is known.
    runs = published_runs()
    if own:
        runs = tuple(run for run in runs if (run.topology, run.workload) != (topology, workload))
    return Sample(runs)


@lru_cache(maxsize=64)
def _stretch(topology: str, workload: str, *, own: bool) -> float:
    sample = _sample(topology, workload, own=own)
    return sample.stretch(np.ones(len(sample.runs), dtype=bool))

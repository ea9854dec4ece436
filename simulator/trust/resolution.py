"""How large a difference of two steps must be to be one: what both have in common is wrong in both.

The errors of two runs are correlated, so that their intervals say little about which is faster. What
counts is by how much errors differ from run to run, and published pairs say that: of two runs that
one publication measured, the difference of their errors is what a simulated difference is off by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from simulator.report import Report
from simulator.trust.cases import PublishedRun, published_runs
from simulator.trust.conformal import LEVEL, quantiles
from simulator.trust.kind import Kind, kind_of
from simulator.trust.likeness import generation


class Closeness(Enum):
    """What two runs have in common."""

    SAME_MODEL = "of one model and kind"
    """One model on as many GPUs, in one kind: layout, schedule or recomputation differ."""
    SAME_KIND = "of one kind"
    """Generation of GPUs, dense or MoE, precision and stack."""
    OTHER_KIND = "of different kinds"
    """Any two."""


class Compared(NamedTuple):
    """What decides how close two runs are."""

    kind: Kind
    """What it is."""
    model: str
    """Its model or workload."""
    gpus: int
    """On how many GPUs."""


def closeness(first: Compared, other: Compared) -> Closeness:
    """Return what two runs have in common."""
    # GPUs of one generation share kernels, and what is wrong with them.
    kinds = [run.kind._replace(gpu=generation(run.kind.gpu)) for run in (first, other)]
    if kinds[0] != kinds[1]:
        return Closeness.OTHER_KIND
    alike = (first.model, first.gpus) == (other.model, other.gpus)
    return Closeness.SAME_MODEL if alike else Closeness.SAME_KIND


class Limit(NamedTuple):
    """What differences of errors are of published pairs as close as two runs."""

    size: float
    """LEVEL of them are smaller, logarithm of time."""
    pairs: int
    """Number of pairs."""


def limits(runs: Sequence[PublishedRun]) -> Mapping[Closeness, Limit]:
    """Return the limit of each closeness, by pairs of runs that one publication measured."""
    found = {}
    for close in Closeness:
        differences, owners = [], []
        for first, other in combinations(runs, 2):
            if first.publication == other.publication and _close(first, other) == close:
                differences.append(abs(np.log(first.ratio / other.ratio)))
                owners.append(first.publication)
        # A publication of a hundred pairs counts as ten.
        _, owner, count = np.unique(owners, return_inverse=True, return_counts=True)
        weight = 1.0 / np.sqrt(count[owner])  # [pair]
        (size,) = quantiles(np.array(differences), weight, (LEVEL,))
        found[close] = Limit(size, len(differences))
    return found


def _close(first: PublishedRun, other: PublishedRun) -> Closeness:
    return closeness(
        Compared(first.kind, first.workload, first.gpus),
        Compared(other.kind, other.workload, other.gpus),
    )


@dataclass(frozen=True, slots=True)
class Resolution:
    """Whether two steps differ, as far as the simulator can tell."""

    ratio: float
    """Time of one GPU for a token, of the other run over the first, less one."""
    low: float
    """The least that this may be, at 80%."""
    high: float
    """The most."""
    limit: float
    """Relative difference from which two such runs are told apart."""
    closeness: Closeness
    """What the two have in common."""
    pairs: int
    """Published pairs as close as they are."""

    @property
    def told_apart(self) -> bool:
        """Tell whether the sign of the difference can be relied on."""
        return self.low * self.high > 0

    @property
    def sentence(self) -> str:
        """Return what can be said of the difference."""
        pairs = f"{self.pairs} published pairs {self.closeness.value}"
        if self.told_apart:
            between = f"{self.low:+.1%} to {self.high:+.1%}"
            return f"time for a token {self.ratio:+.1%}, {between} by the errors of {pairs}"
        return (
            f"time for a token {self.ratio:+.1%}: smaller than what can be told apart, "
            f"{self.limit:.1%} by the errors of {pairs}"
        )


class Paced(NamedTuple):
    """A report with its step at the measured paces of hosts."""

    report: Report
    """The report."""
    hosts: Mapping[str, float]
    """Pace -> step [s]; empty where the stack's own pace was measured."""


def resolution(first: Paced, other: Paced) -> Resolution:
    """Return whether two steps differ. Hosts of both are slow or fast together."""
    close = closeness(_compared(first.report), _compared(other.report))
    limit = _limits()[close]
    difference = np.log(_cost(other.report) / _cost(first.report))
    low, high = difference - limit.size, difference + limit.size
    for pace in first.hosts.keys() & other.hosts.keys():
        # At another pace the difference may be another one, whatever else is wrong.
        here = other.hosts[pace] / other.report.step_time
        there = first.hosts[pace] / first.report.step_time
        moved = difference + np.log(here / there)
        low, high = min(low, moved - limit.size), max(high, moved + limit.size)
    return Resolution(
        ratio=float(np.expm1(difference)),
        low=float(np.expm1(low)),
        high=float(np.expm1(high)),
        limit=float(np.expm1(limit.size)),
        closeness=close,
        pairs=limit.pairs,
    )


@lru_cache(maxsize=1)
def _limits() -> Mapping[Closeness, Limit]:
    return limits(published_runs())


def _compared(report: Report) -> Compared:
    scenario = report.scenario
    return Compared(kind_of(scenario), scenario.model.name, scenario.topology.gpus)


def _cost(report: Report) -> float:
    """Return the time of one GPU that a token takes [s]."""
    scenario = report.scenario
    return report.step_time * scenario.topology.gpus / scenario.tokens_per_step

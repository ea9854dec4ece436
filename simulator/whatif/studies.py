"""One scenario simulated, with what others say of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from simulator.engine import run
from simulator.program import lower
from simulator.report import Report, as_dict, summarise
from simulator.scenario import Scenario
from simulator.timeline import Timeline
from simulator.trust import Interval, Steps, interval
from simulator.trust import as_dict as trust_dict
from simulator.whatif.alternatives import Span, spans
from simulator.whatif.hosts import HostInterval, host_interval
from simulator.whatif.penalties import Imbalance, Stragglers, imbalance, stragglers
from simulator.whatif.remedies import Remedy, remedies
from simulator.whatif.sensitivity import Sensitivity
from simulator.whatif.spread import Spread, SpreadCost, spread_cost
from simulator.whatif.waits import Waits, waits


@dataclass(frozen=True)
class Study:
    """A simulated step, its report, and the answers of other scenarios that were asked for."""

    timeline: Timeline
    """The executed step."""
    report: Report
    """Its summary."""
    wall: float
    """How long lowering and executing took here [s]."""
    remedies: tuple[Remedy, ...] = ()
    """What would make the run fit; nothing where it fits."""
    imbalance: Imbalance | None = None
    """What unequal experts cost; None where they are equal."""
    stragglers: Stragglers | None = None
    """What slow GPUs cost; None where none is slow."""
    spread: Spread | None = None
    """What unequal GPUs cost, or would cost; None where it was not asked for."""
    waits: Waits | None = None
    """What waiting for peers at exchanges may add; None where nobody waits."""
    hosts: HostInterval | None = None
    """The step at other paces of hosts; None where the stack's own was measured."""
    assumed: tuple[Span, ...] = ()
    """What was not published, with its alternatives."""

    sensitivity: tuple[Sensitivity, ...] = ()
    """The constants on which the step hangs most; nothing where nobody asked."""

    @property
    def trust(self) -> Interval:
        """Return how far to trust the step: an interval, and where it comes from."""
        paces = self.hosts.steps if self.hosts else {}
        others = [other.step_time for span in self.assumed for other in span.alternatives]
        steps = Steps(
            hosts=tuple(paces.values()),
            assumed=tuple(step for step in others if step is not None),
        )
        return interval(self.report, steps)

    def as_dict(self) -> dict[str, Any]:
        """Return the study as `simulate run --json` writes it: the report, and what was asked."""
        remedies = [_remedy(remedy) for remedy in self.remedies]
        imbalance = _imbalance(self.imbalance) if self.imbalance else None
        stragglers = _stragglers(self.stragglers) if self.stragglers else None
        assumed = [_span(span) for span in self.assumed]
        # Answers stand next to what they are about, where readers of the report look for them.
        tree = as_dict(self.report)
        tree["memory"]["remedies"] = remedies
        tree["engine"]["wall_s"] = self.wall
        tree["imbalance"] = imbalance
        tree["stragglers"] = stragglers
        tree["spread"] = _spread(self.spread) if self.spread else None
        tree["waits"] = _waits(self.waits) if self.waits else None
        tree["host"] = _hosts(self.hosts) if self.hosts else None
        tree["assumed"] = assumed
        tree["sensitivity"] = [_sensitivity(row) for row in self.sensitivity]
        tree["trust"] = trust_dict(self.trust, self.report)
        return tree


def simulate(scenario: Scenario) -> Report:
    """Return the report of a scenario."""
    return summarise(run(lower(scenario)))


def study(scenario: Scenario, *, penalties: bool = True, alternatives: bool = False) -> Study:
    """Simulate a scenario and what bears on it.

    penalties: what unequal experts and slow GPUs cost and what would make the run fit, each found by
    simulating or pricing again. alternatives: the step with every alternative to what is assumed.
    """
    # The step alone is timed: what else is asked for is no property of the executor.
    started = time.perf_counter()
    timeline = run(lower(scenario))
    wall = time.perf_counter() - started
    report = summarise(timeline)
    assumed = spans(scenario) if alternatives else ()
    if not penalties:
        return Study(timeline, report, wall, assumed=assumed)
    return Study(
        timeline,
        report,
        wall,
        remedies=() if report.fits else remedies(scenario),
        imbalance=imbalance(report),
        stragglers=stragglers(report),
        spread=spread_cost(timeline, report),
        waits=waits(timeline.program),
        hosts=host_interval(report),
        assumed=assumed,
    )


def _remedy(remedy: Remedy) -> dict[str, Any]:
    return {
        "key": remedy.key,
        "value": remedy.value,
        "peak_bytes": remedy.peak,
        "added_kernel_s": remedy.seconds,
    }


def _imbalance(penalty: Imbalance) -> dict[str, Any]:
    return {
        "lost_s": penalty.lost,
        "worst_gpu_load": penalty.worst_share,
        "mean_worst_gpu_load": penalty.mean_share,
        "dropped": penalty.dropped,
    }


def _stragglers(penalty: Stragglers) -> dict[str, Any]:
    return {
        "lost_s": penalty.lost,
        "slowest_speed": penalty.slowest,
        "gpus_slow": penalty.gpus,
    }


def _spread(spread: Spread) -> dict[str, Any]:
    return {
        "own": _spread_cost(spread.own) if spread.own else None,
        "would_cost": [_spread_cost(cost) for cost in spread.costs],
    }


def _spread_cost(cost: SpreadCost) -> dict[str, float]:
    return {"deviation": cost.deviation, "lost_s": cost.lost}


def _waits(found: Waits) -> dict[str, Any]:
    return {
        "exchanges": found.exchanges,
        "nodes": found.nodes,
        "least_s": found.least,
        "most_s": found.most,
        "added_at_most_s": found.added,
        "source": found.source,
    }


def _hosts(interval: HostInterval) -> dict[str, Any]:
    steps = {f"{pace}_step_s": seconds for pace, seconds in interval.steps.items()}
    return {"pace": interval.pace, **steps}


def _sensitivity(row: Sensitivity) -> dict[str, Any]:
    return {"constant": row.name, "value": row.value, "up": row.up, "down": row.down}


def _span(span: Span) -> dict[str, Any]:
    alternatives = [
        {"value": alternative.value, "step_time_s": alternative.step_time}
        for alternative in span.alternatives
    ]
    return {
        "key": span.key,
        "value": span.value,
        "rule": span.rule,
        "alternatives": alternatives,
    }

"""What other scenarios say, as the sentences that a terminal and a page share."""

from __future__ import annotations

from simulator.report import Report
from simulator.units import format_seconds
from simulator.whatif.spread import Spread
from simulator.whatif.waits import Waits


def cost_sentence(report: Report, costs: str, seconds: float) -> str:
    """Return what something costs a step. costs: it and its verb. seconds: what the step takes longer with it [s]."""
    share = abs(seconds) / report.step_time
    size = f"{format_seconds(abs(seconds))} ({share:.1%} of the step)"
    if seconds < 0:
        # Other times are another order of events, in which a kernel may happen to wait for less.
        return f"{costs} nothing: the step happens to be {size} shorter with it than without"
    return f"{costs} {size}"


def spread_sentence(report: Report, spread: Spread) -> str:
    """Return what GPUs of unequal speed cost, or would."""
    if spread.own:
        differ = f"GPUs that differ by {spread.own.deviation:.1%} (topology.spread) cost"
        return cost_sentence(report, differ, spread.own.lost)
    deviations = [f"{cost.deviation:.0%}" for cost in spread.costs]
    lost = ", ".join(_share(report, cost.lost) for cost in spread.costs)
    listed = f"{', '.join(deviations[:-1])} or {deviations[-1]}"
    return (
        f"GPUs are taken to be alike; if they differed by {listed}, the step would take {lost} more"
    )


def waits_sentence(report: Report, waits: Waits) -> str:
    """Return what waiting for peers at exchanges may add."""
    least, most = format_seconds(waits.least), format_seconds(waits.most)
    return (
        f"Waiting for peers at {waits.exchanges:,.0f} dispatches and combines is not in the step: "
        f"{least} to {most} each, up to {_share(report, waits.added)} if nothing hides it "
        f"({waits.source})"
    )


def _share(report: Report, seconds: float) -> str:
    return f"{format_seconds(seconds)} ({seconds / report.step_time:.1%})"

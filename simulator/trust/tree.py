"""How far to trust a result, as `--json` writes it and as people read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulator.report import Report
from simulator.trust.interval import Interval
from simulator.trust.resolution import Resolution
from simulator.units import format_seconds

SHOWN = 0.0005
"""Parts that move the step by less would print as nothing."""
NAMED = 3
"""Cases that text names; `--json` names all."""


def as_dict(found: Interval, report: Report) -> dict[str, Any]:
    """Return an interval with what follows from it, in SI."""
    return {
        "level": found.level,
        "step_time_s": [found.low, found.high],
        "tokens_per_second": list(found.of(report.tokens_per_second, rate=True)),
        "mfu": list(found.of(report.mfu, rate=True)),
        "wall_days": list(found.of(report.wall_days)),
        "gpu_hours": list(found.of(report.gpu_hours)),
        "cost_usd": list(found.of(report.cost)),
        "like_this_run": {
            "cases": list(found.like),
            "error_percent": [100.0 * error for error in found.like_errors],
        },
        "parts": [part._asdict() for part in found.parts],
    }


def resolution_dict(found: Resolution) -> dict[str, Any]:
    """Return whether two steps differ."""
    return {
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "limit": found.limit,
        "told_apart": found.told_apart,
        "in_common": found.closeness.value,
        "published_pairs": found.pairs,
    }


def sentences(found: Interval) -> Iterator[str]:
    """Yield the interval and what it comes from, a line each."""
    low, high = (factor - 1.0 for factor in found.factors)
    yield (
        f"Expected between {format_seconds(found.low)} and {format_seconds(found.high)} "
        f"({low:+.0%} to {high:+.0%}; {found.level:.0%} of such runs)"
    )
    first, last = found.like_errors
    named = ", ".join(found.like[:NAMED])
    yield (
        f"{len(found.like)} published runs like this one: {first:+.0%} to {last:+.0%} "
        f"(error of simulated time; {named}, ...)"
    )
    for part in found.parts[1:]:
        if max(part.high - 1.0, 1.0 - part.low) >= SHOWN:
            yield f"{part.name}: {part.low - 1:+.1%} to {part.high - 1:+.1%} ({part.source})"

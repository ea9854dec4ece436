"""Scenarios side by side: what changes, by how much, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.report import Report
from simulator.units import format_bandwidth, format_bytes, format_seconds, format_value
from simulator.whatif import Study


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity over all reports. values: [report]. relative: to the first report, 1.0 for the first itself."""

    quantity: str
    unit: str
    values: tuple[float, ...]

    @property
    def relative(self) -> tuple[float, ...]:
        """Return each value over the first; not a number where the first is 0."""
        return tuple(
            value / self.values[0] if self.values[0] else float("nan") for value in self.values
        )


def names(reports: Sequence[Report]) -> tuple[str, ...]:
    """Return a name for each report that tells it from the others."""
    sites = [report.scenario.topology.name for report in reports]
    runs = [report.scenario.workload.name for report in reports]
    if len(set(runs)) > 1:
        sites = [f"{site} {run_}" for site, run_ in zip(sites, runs, strict=True)]
    return tuple(
        f"{site} {_own(report, reports) or f'({sites[:i].count(site) + 1})'}"
        if sites.count(site) > 1
        else site
        for i, (site, report) in enumerate(zip(sites, reports, strict=True))
    )


def _own(report: Report, reports: Sequence[Report]) -> str:
    """Return the values of the keys in which a report's scenario differs from some other one: `ep 32`."""
    keys = dict.fromkeys(path for other in reports for path, _, _ in differences(report, other))
    own = {path: value for other in reports for path, value, _ in differences(report, other)}
    return ", ".join(
        f"{path.removesuffix('.name').rpartition('.')[2]} {own[path]}" for path in keys
    )


def rows(reports: Sequence[Report]) -> tuple[Row, ...]:
    """Return the quantities that decide, over all reports."""

    def row(quantity: str, unit: str, values: Iterator[float]) -> Row:
        return Row(quantity, unit, tuple(values))

    table = [
        row("step time", "s", (r.step_time for r in reports)),
        row("tokens per day", "tokens", (r.tokens_per_second * 86400 for r in reports)),
        row("TFLOP/s per GPU", "TFLOP/s", (r.flops_per_gpu / 1e12 for r in reports)),
        row("MFU (BF16 peak)", "", (r.mfu for r in reports)),
        row("GPU-hours of the run", "h", (r.gpu_hours for r in reports)),
        row("cost of the run", "USD", (r.cost for r in reports)),
        row("peak memory", "B", (r.worst_memory.peak for r in reports)),
    ]
    parts = dict.fromkeys(name for report in reports for name in report.breakdown)
    table += [row(name, "s", (r.breakdown.get(name, 0.0) for r in reports)) for name in parts]
    kinds = dict.fromkeys(kind for report in reports for kind in report.utilisation)
    table += [
        row(f"{kind} busy", "", (r.utilisation.get(kind, 0.0) for r in reports)) for kind in kinds
    ]
    return tuple(table)


def differences(first: Report, other: Report) -> tuple[tuple[str, str, str], ...]:
    """Return the input keys in which two scenarios differ, as (path, first value, other value)."""
    found: list[tuple[str, str, str]] = []
    for kind in ("topology", "workload"):
        left, right = (
            getattr(r.scenario, kind).model_dump(mode="json", exclude={"reference"})
            for r in (first, other)
        )
        found += _differing(left, right, kind)
    return tuple(row for row in found if row[0] not in ("topology.name", "workload.name"))


def _differing(left: Any, right: Any, path: str) -> list[tuple[str, str, str]]:
    if isinstance(left, dict) and isinstance(right, dict):
        keys = dict.fromkeys([*left, *right])
        return [
            row
            for key in keys
            for row in _differing(left.get(key), right.get(key), f"{path}.{key}")
        ]
    if left == right:
        return []
    return [(path, _shown(path, left), _shown(path, right))]


def _shown(path: str, value: Any) -> str:
    if (
        path in ("topology.node.nvlink", "topology.node.nic", "topology.node.pcie")
        and value is not None
    ):
        return format_bandwidth(value)
    if path.endswith("latency"):
        return format_seconds(value)
    return f"{value} USD per GPU-hour" if path == "topology.price" else format_value(value)


def why(first: Report, other: Report) -> tuple[str, ...]:
    """Return sentences that say what changed between two scenarios and what that did."""
    changed = differences(first, other)
    delta = other.step_time - first.step_time
    ratio = other.step_time / first.step_time - 1
    what = "; ".join(f"{path} {left} -> {right}" for path, left, right in changed) or "nothing"
    verb = "slower" if delta > 0 else "faster"
    lines = [f"changed: {what}"]
    if not delta:
        return (*lines, "the step takes the same time")
    lines.append(f"the step is {format_seconds(abs(delta))} ({abs(ratio):.2%}) {verb}")
    moved = {
        name: other.breakdown.get(name, 0.0) - first.breakdown.get(name, 0.0)
        for name in dict.fromkeys([*first.breakdown, *other.breakdown])
    }
    largest = sorted(
        (name for name in moved if abs(moved[name]) > 0.02 * abs(delta)),
        key=lambda n: -abs(moved[n]),
    )
    parts = ", ".join(
        f"{name} {'+' if moved[name] > 0 else '-'}{format_seconds(abs(moved[name]))}"
        for name in largest
    )
    lines.append(f"exposed time, mean over ranks: {parts}")
    lines.append(binding(other))
    return tuple(lines)


def binding(report: Report) -> str:
    """Return a sentence that says which resource binds a step, from its bounds and the busy shares of its links."""
    nearest = max((b for b in report.bounds if b.name != "critical path"), key=lambda b: b.seconds)
    busy = ", ".join(f"{kind} {share:.0%}" for kind, share in report.utilisation.items())
    share = nearest.seconds / report.step_time
    return f"nearest bound: {nearest.name} ({share:.0%} of the step); busiest links of each kind: {busy or 'none'}"


def memory_line(report: Report) -> str:
    """Return a sentence that says whether the step fits."""
    worst, capacity = report.worst_memory, report.scenario.gpu.memory.capacity
    verdict = "fits" if worst.peak <= capacity else "DOES NOT FIT"
    return f"{format_bytes(worst.peak)} of {format_bytes(capacity)} at pipeline index {worst.pipeline_index}: {verdict}"


def as_dict(studies: Sequence[Study]) -> dict[str, Any]:
    """Return a comparison as `simulate compare --json` writes it."""
    reports = [study.report for study in studies]
    return {
        "schema_version": 1,
        "scenarios": [study.as_dict() for study in studies],
        "rows": [_row(row) for row in rows(reports)],
        "differences": [_changes(reports[0], report) for report in reports],
        "why": [list(why(reports[0], report)) for report in reports[1:]],
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "quantity": row.quantity,
        "unit": row.unit,
        "values": list(row.values),
        "relative": [None if math.isnan(ratio) else ratio for ratio in row.relative],
    }


def _changes(first: Report, other: Report) -> list[dict[str, str]]:
    return [
        {"key": key, "first": before, "this": after}
        for key, before, after in differences(first, other)
    ]

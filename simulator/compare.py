"""Scenarios side by side: what changes, by how much, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import BaseModel

from simulator.report import Report
from simulator.scenario import Scenario
from simulator.units import format_bandwidth, format_bytes, format_seconds, format_value
from simulator.whatif import Study


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity over all reports."""

    quantity: str
    """Its name."""
    unit: str
    """Its unit; empty for shares."""
    values: tuple[float, ...]
    """One value per report [report]."""

    @property
    def relative(self) -> tuple[float, ...]:
        """Return each value over the first [report]; not a number where the first is 0."""
        first = self.values[0]
        return tuple(value / first if first else math.nan for value in self.values)


class Difference(NamedTuple):
    """An input key in which two scenarios differ."""

    path: str
    """Path of the key, with the kind of its file in front."""
    first: str
    """Its value in the first scenario."""
    other: str
    """Its value in the other scenario."""


def names(reports: Sequence[Report]) -> tuple[str, ...]:
    """Return a name for each report that tells it from the others."""
    sites = [report.scenario.topology.name for report in reports]
    runs = [report.scenario.workload.name for report in reports]
    labels = sites
    if len(set(runs)) > 1:
        labels = [f"{site} {run}" for site, run in zip(sites, runs, strict=True)]
    result = []
    for index, (label, report) in enumerate(zip(labels, reports, strict=True)):
        if labels.count(label) > 1:
            suffix = _distinction(report, reports) or f"({labels[:index].count(label) + 1})"
            result.append(f"{label} {suffix}")
        else:
            result.append(label)
    return tuple(result)


def _distinction(report: Report, reports: Sequence[Report]) -> str:
    """Return the values of the keys in which a scenario differs from any of the others: `ep 32`."""
    own: dict[str, str] = {}
    for other in reports:
        own |= {change.path: change.first for change in differences(report, other)}
    shown = {path.removesuffix(".name").rpartition(".")[2]: value for path, value in own.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items())


_Column = tuple[str, str, Callable[[Report], float]]
"""Quantity, unit, and how to read it off a report."""
_DECISIVE: tuple[_Column, ...] = (
    ("step time", "s", lambda report: report.step_time),
    ("tokens per day", "tokens", lambda report: report.tokens_per_second * 86400),
    ("TFLOP/s per GPU", "TFLOP/s", lambda report: report.flops_per_gpu / 1e12),
    ("MFU (BF16 peak)", "", lambda report: report.mfu),
    ("GPU-hours of the run", "h", lambda report: report.gpu_hours),
    ("cost of the run", "USD", lambda report: report.cost),
    ("peak memory", "B", lambda report: report.worst_memory.peak),
)


def rows(reports: Sequence[Report]) -> tuple[Row, ...]:
    """Return the quantities that decide, over all reports."""
    table = [
        Row(quantity, unit, tuple(read(report) for report in reports))
        for quantity, unit, read in _DECISIVE
    ]
    for part in dict.fromkeys(name for report in reports for name in report.breakdown):
        seconds = tuple(report.breakdown.get(part, 0.0) for report in reports)
        table.append(Row(part, "s", seconds))
    for kind in dict.fromkeys(kind for report in reports for kind in report.utilisation):
        shares = tuple(report.utilisation.get(kind, 0.0) for report in reports)
        table.append(Row(f"{kind} busy", "", shares))
    return tuple(table)


def differences(first: Report, other: Report) -> tuple[Difference, ...]:
    """Return the input keys in which two scenarios differ; their names apart."""
    changes: list[Difference] = []
    for kind in ("topology", "workload"):
        left = _inputs(first.scenario, kind)
        right = _inputs(other.scenario, kind)
        changes += _differing(left, right, kind)
    named = ("topology.name", "workload.name")
    return tuple(change for change in changes if change.path not in named)


def _inputs(scenario: Scenario, kind: str) -> dict[str, Any]:
    """Return what a file says, defaults included."""
    config: BaseModel = getattr(scenario, kind)
    return config.model_dump(mode="json", exclude={"reference"})


def _differing(left: Any, right: Any, path: str) -> Iterator[Difference]:
    if isinstance(left, dict) and isinstance(right, dict):
        for key in dict.fromkeys([*left, *right]):
            yield from _differing(left.get(key), right.get(key), f"{path}.{key}")
    elif left != right:
        yield Difference(path, _shown(path, left), _shown(path, right))


_BANDWIDTHS = ("topology.node.nvlink", "topology.node.nic", "topology.node.pcie")


def _shown(path: str, value: Any) -> str:
    """Return a value with the unit of its key."""
    if path in _BANDWIDTHS and value is not None:
        return format_bandwidth(value)
    if path.endswith("latency"):
        return format_seconds(value)
    if path == "topology.price":
        return f"{value} USD per GPU-hour"
    return format_value(value)


def why(first: Report, other: Report) -> tuple[str, ...]:
    """Return sentences that say what changed between two scenarios and what that did."""
    changes = [
        f"{change.path} {change.first} -> {change.other}" for change in differences(first, other)
    ]
    changed = f"changed: {'; '.join(changes) or 'nothing'}"
    delta = other.step_time - first.step_time
    if not delta:
        return changed, "the step takes the same time"
    ratio = abs(delta) / first.step_time
    verb = "slower" if delta > 0 else "faster"
    return (
        changed,
        f"the step is {format_seconds(abs(delta))} ({ratio:.2%}) {verb}",
        f"exposed time, mean over ranks: {_moved(first, other)}",
        binding(other),
    )


def _moved(first: Report, other: Report) -> str:
    """Return by how much each part of the step changed, largest first; small changes left out."""
    delta = abs(other.step_time - first.step_time)
    parts = dict.fromkeys([*first.breakdown, *other.breakdown])
    change = {
        name: other.breakdown.get(name, 0.0) - first.breakdown.get(name, 0.0) for name in parts
    }
    large = [name for name in change if abs(change[name]) > 0.02 * delta]
    large.sort(key=lambda name: -abs(change[name]))
    signed = []
    for name in large:
        sign = "+" if change[name] > 0 else "-"
        signed.append(f"{name} {sign}{format_seconds(abs(change[name]))}")
    return ", ".join(signed)


def binding(report: Report) -> str:
    """Return a sentence that says which resource binds a step: its nearest bound, busy links."""
    # The critical path bounds every step closely and names no resource.
    of_resources = [bound for bound in report.bounds if bound.name != "critical path"]
    nearest = max(of_resources, key=lambda bound: bound.seconds)
    share = nearest.seconds / report.step_time
    busy = ", ".join(f"{kind} {share:.0%}" for kind, share in report.utilisation.items())
    return (
        f"nearest bound: {nearest.name} ({share:.0%} of the step); "
        f"busiest links of each kind: {busy or 'none'}"
    )


def memory_line(report: Report) -> str:
    """Return a sentence that says whether the step fits."""
    worst, capacity = report.worst_memory, report.scenario.gpu.memory.capacity
    verdict = "fits" if report.fits else "DOES NOT FIT"
    return (
        f"{format_bytes(worst.peak)} of {format_bytes(capacity)} "
        f"at pipeline index {worst.pipeline_index}: {verdict}"
    )


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
        {"key": change.path, "first": change.first, "this": change.other}
        for change in differences(first, other)
    ]

"""Scenarios side by side: what changes, by how much, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from pydantic import BaseModel

from simulator.report import Report
from simulator.scenario import Scenario
from simulator.trust import Paced, Resolution, resolution, resolution_dict
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
        if not first:
            return (math.nan,) * len(self.values)
        return tuple(value / first for value in self.values)


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
    # As short as can be: the workload where it differs, single keys where files are the same.
    labels = sites
    if len(set(runs)) > 1:
        pairs = zip(sites, runs, strict=True)
        labels = [f"{site} {run}" for site, run in pairs]
    result = []
    for index, report in enumerate(reports):
        label = labels[index]
        if labels.count(label) > 1:
            # Two that differ in nothing are told apart by their number.
            number = labels[:index].count(label) + 1
            alike = [other for other, name in zip(reports, labels, strict=True) if name == label]
            suffix = _distinction(report, alike) or f"({number})"
            label = f"{label} {suffix}"
        result.append(label)
    return tuple(result)


def _distinction(report: Report, reports: Sequence[Report]) -> str:
    """Return the values of the keys in which a scenario differs from any of the others: `ep 32`."""
    own: dict[str, str] = {}
    for other in reports:
        for change in differences(report, other):
            own[change.path] = change.first
    shown: dict[str, str] = {}
    for path, value in own.items():
        # `schedule.name` is the schedule: its group says more than `name`.
        _, _, key = path.removesuffix(".name").rpartition(".")
        shown[key] = value
    return ", ".join(f"{key} {value}" for key, value in shown.items())


class _Column(NamedTuple):
    """A quantity that decides between scenarios."""

    quantity: str
    """Its name."""
    unit: str
    """Its unit; empty for shares."""
    read: Callable[[Report], float]
    """How to read it off a report, in that unit."""


_DECISIVE = (
    _Column("step time", "s", lambda report: report.step_time),
    _Column("tokens per day", "tokens", lambda report: report.tokens_per_second * 86400),
    _Column("TFLOP/s per GPU", "TFLOP/s", lambda report: report.flops_per_gpu / 1e12),
    _Column("MFU (BF16 peak)", "", lambda report: report.mfu),
    _Column("GPU-hours of the run", "h", lambda report: report.gpu_hours),
    _Column("cost of the run", "USD", lambda report: report.cost),
    _Column("peak memory", "B", lambda report: report.worst_memory.peak),
)


def rows(reports: Sequence[Report]) -> tuple[Row, ...]:
    """Return the quantities that decide, over all reports."""
    table = []
    for quantity, unit, read in _DECISIVE:
        values = tuple(read(report) for report in reports)
        table.append(Row(quantity, unit, values))
    # A part or a kind of link that only some scenarios have is 0 in the others.
    breakdowns = [report.breakdown for report in reports]
    for part in _union(breakdowns):
        seconds = tuple(breakdown.get(part, 0.0) for breakdown in breakdowns)
        table.append(Row(part, "s", seconds))
    utilisations = [report.utilisation for report in reports]
    for kind in _union(utilisations):
        shares = tuple(utilisation.get(kind, 0.0) for utilisation in utilisations)
        table.append(Row(f"{kind} busy", "", shares))
    return tuple(table)


def _union(tables: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the keys of all tables, each once, in the order of their first appearance."""
    keys = chain.from_iterable(tables)
    return list(dict.fromkeys(keys))


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
        keys = dict.fromkeys([*left, *right])
        for key in keys:
            inner = f"{path}.{key}"
            yield from _differing(left.get(key), right.get(key), inner)
    elif left != right:
        yield Difference(path, _shown(path, left), _shown(path, right))


_BANDWIDTHS = ("topology.node.nvlink", "topology.node.nic", "topology.node.pcie")
"""Paths whose values are bytes per second inside the configuration."""


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
    changes = []
    for change in differences(first, other):
        changes.append(f"{change.path} {change.first} -> {change.other}")
    listed = "; ".join(changes) or "nothing"
    changed = f"changed: {listed}"
    delta = other.step_time - first.step_time
    if not delta:
        return changed, "the step takes the same time"
    size = abs(delta)
    ratio = size / first.step_time
    verb = "slower" if delta > 0 else "faster"
    return (
        changed,
        f"the step is {format_seconds(size)} ({ratio:.2%}) {verb}",
        f"exposed time, mean over ranks: {_moved(first, other)}",
        binding(other),
    )


def told_apart(first: Study, other: Study) -> Resolution:
    """Return whether two steps differ, as far as the simulator can tell."""
    return resolution(_paced(first), _paced(other))


def _paced(study: Study) -> Paced:
    return Paced(study.report, study.hosts.steps if study.hosts else {})


def _moved(first: Report, other: Report) -> str:
    """Return by how much each part of the step changed, largest first; small changes left out."""
    delta = abs(other.step_time - first.step_time)
    change: dict[str, float] = {}  # part -> s
    for name in _union([first.breakdown, other.breakdown]):
        before = first.breakdown.get(name, 0.0)
        after = other.breakdown.get(name, 0.0)
        change[name] = after - before
    # Parts may move against each other by more than the step: a fiftieth of its change is visible.
    large = [name for name in change if abs(change[name]) > 0.02 * delta]
    large.sort(key=lambda name: -abs(change[name]))
    signed = []
    for name in large:
        sign = "+" if change[name] > 0 else "-"
        moved = format_seconds(abs(change[name]))
        signed.append(f"{name} {sign}{moved}")
    return ", ".join(signed)


def binding(report: Report) -> str:
    """Return a sentence that says which resource binds a step: its nearest bound, busy links."""
    # The critical path bounds every step closely and names no resource.
    of_resources = [bound for bound in report.bounds if bound.name != "critical path"]
    nearest = max(of_resources, key=lambda bound: bound.seconds)
    share = nearest.seconds / report.step_time
    links = [f"{kind} {busy:.0%}" for kind, busy in report.utilisation.items()]
    listed = ", ".join(links) or "none"
    return (
        f"nearest bound: {nearest.name} ({share:.0%} of the step); "
        f"busiest links of each kind: {listed}"
    )


def memory_line(report: Report) -> str:
    """Return a sentence that says whether the step fits."""
    worst = report.worst_memory
    peak = format_bytes(worst.peak)
    capacity = format_bytes(report.scenario.gpu.memory.capacity)
    verdict = "fits" if report.fits else "DOES NOT FIT"
    return f"{peak} of {capacity} at pipeline index {worst.pipeline_index}: {verdict}"


def as_dict(studies: Sequence[Study]) -> dict[str, Any]:
    """Return a comparison as `simulate compare --json` writes it."""
    reports = [study.report for study in studies]
    # The first scenario is what the others are compared with; its own differences are none, so that
    # the n-th list belongs to the n-th scenario.
    first, *others = reports
    return {
        "schema_version": 1,
        "scenarios": [study.as_dict() for study in studies],
        "rows": [_row(row) for row in rows(reports)],
        "differences": [_changes(first, report) for report in reports],
        "why": [list(why(first, report)) for report in others],
        "resolution": [resolution_dict(told_apart(studies[0], study)) for study in studies[1:]],
    }


def _row(row: Row) -> dict[str, Any]:
    # JSON has no word for what is not a number.
    relative = [None if math.isnan(ratio) else ratio for ratio in row.relative]
    return {
        "quantity": row.quantity,
        "unit": row.unit,
        "values": list(row.values),
        "relative": relative,
    }


def _changes(first: Report, other: Report) -> list[dict[str, str]]:
    return [
        {"key": change.path, "first": change.first, "this": change.other}
        for change in differences(first, other)
    ]

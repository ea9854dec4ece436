"""Reports as tables for a terminal. Returns what `cli` prints; prints nothing itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from simulator.compare import Row, binding, memory_line, names, rows, why
from simulator.layout import Layout
from simulator.report import Report, mean_share
from simulator.report.parts import PARTS
from simulator.units import format_bytes, format_seconds
from simulator.whatif import Study


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(
        title=Text(title, no_wrap=True) if title else None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        show_edge=False,
        show_header=any(columns),
    )
    for number, column in enumerate(columns):
        table.add_column(
            Text(column),  # brackets in names are no markup
            justify="left" if number < left or column in ("source", "formula", "") else "right",
            overflow="fold",
        )
    return table


def number(value: float) -> str:
    """Return a figure with four digits, thousands separated, large ones in words."""
    for factor, word in ((1e12, " T"), (1e9, " B"), (1e6, " M")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{word}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def study_text(study: Study) -> Iterator[RenderableType]:
    """Yield the parts of a report and of what other scenarios say of it."""
    report = study.report
    yield from _head(study)
    yield _breakdown(report)
    hidden = mean_share(report.overlap)
    if hidden is not None:
        yield Text(
            f"{hidden:.1%} of communication runs beside compute, all ranks together", style="dim"
        )
    yield Text()
    yield Text(f"Peak memory: {memory_line(report)}", style="bold")
    yield _memory(report)
    yield Text()
    yield _bounds(report)
    yield Text()
    if study.imbalance:
        found = study.imbalance
        yield Text(
            f"Expert imbalance costs {format_seconds(found.lost)} ({found.lost / report.step_time:.1%} of the step): "
            f"the busiest GPU of a group computes {found.mean_share:.3f} of the mean, mean over layers, "
            f"{found.worst_share:.3f} in the worst; {found.dropped:.2%} of choices are dropped",
            style="bold",
        )
        yield Text()
    if study.stragglers:
        slow = study.stragglers
        yield Text(
            f"Stragglers cost {format_seconds(slow.lost)} ({slow.lost / report.step_time:.1%} of the step): "
            f"{slow.gpus:,} of {report.scenario.topology.gpus:,} GPUs are slower, the slowest at {slow.slowest:.3f} of "
            f"full speed",
            style="bold",
        )
        yield Text()
    if report.references():
        yield _references(report)
        yield Text()
    if study.assumed:
        yield from _assumed(study)
    yield Text(
        f"{report.executor}: {report.ops:,} ops on {report.rank_classes} classes of "
        f"{report.scenario.topology.gpus:,} ranks, {study.wall:.2f} s",
        style="dim",
    )


def _head(study: Study) -> Iterator[RenderableType]:
    report = study.report
    scenario, quantities = report.scenario, report.quantities()
    if not report.fits:
        yield Text(f"This does not fit: {memory_line(report)}", style="bold red")
        yield from _remedies(study)
        yield Text()
    yield Text(f"{scenario.model.name} on {scenario.topology.name}", style="bold")
    yield Text(
        f"{scenario.topology.gpus:,} {scenario.gpu.name.upper()} GPUs; {_degrees(scenario.layout)}; "
        f"{scenario.workload.schedule.name}, {scenario.micro_batches} micro-batches; "
        f"{scenario.recipe.name}; {number(scenario.tokens_per_step)} tokens per step"
    )
    yield Text()
    table = _table("One step", "", "", "", left=3)
    table.add_row("step time", format_seconds(report.step_time), "")
    table.add_row("tokens per day", number(quantities["tokens_per_day"]), "")
    table.add_row(
        "model FLOP/s per GPU",
        f"{quantities['tflops_per_gpu']:.1f} TFLOP/s",
        "causal attention, output head, no recompute, no MTP",
    )
    table.add_row(
        "MFU", f"{report.mfu:.1%}", f"of {report.peak_flops / 1e12:.1f} TFLOP/s, {report.peak_name}"
    )
    table.add_row(
        "HFU", f"{report.hfu:.1%}", "everything that ran, recompute and MTP included, same peak"
    )
    yield table
    yield Text()
    run = _table("The run", "", "", "", left=3)
    tokens = scenario.workload.training.tokens
    run.add_row("tokens", number(tokens), f"{report.steps:,.0f} steps at this batch size")
    run.add_row("wall time", f"{quantities['wall_days']:.1f} days", "")
    run.add_row("GPU-hours", number(report.gpu_hours), "")
    run.add_row(
        "cost", f"{number(report.cost)} USD", f"at {scenario.topology.price:g} USD per GPU-hour"
    )
    yield run
    yield Text()


def _degrees(layout: Layout) -> str:
    """Return the degrees of a layout, those of 1 left out where others say more."""
    names = {"tp": layout.tp, "cp": layout.cp, "pp": layout.pp, "vpp": layout.vpp, "ep": layout.ep}
    shown = [f"{name} {size}" for name, size in names.items() if size > 1]
    shown += [f"etp {layout.etp}"] if layout.etp > 1 else []
    return ", ".join([*shown, f"dp {layout.dp}", f"zero {layout.zero}"])


def _remedies(study: Study) -> Iterator[RenderableType]:
    """Yield what would make a run fit, the cheapest first."""
    report = study.report
    capacity = report.scenario.gpu.memory.capacity
    for one in study.remedies:
        verdict = "fits" if one.peak <= capacity else "still too much"
        freed = format_bytes(report.worst_memory.peak - one.peak)
        yield Text(
            f"  --set '{one.key}={one.value}' frees {freed}: {format_bytes(one.peak)}, {verdict}; "
            f"{format_seconds(max(0.0, one.seconds))} more per step, gradients and bubble apart",
            style="red",
        )


def _breakdown(report: Report) -> Table:
    table = _table("Where the step goes (mean over ranks)", "part", "time", "share", "")
    for part in PARTS:
        seconds = report.breakdown.get(part.name, 0.0)
        if part.name not in report.breakdown or (part.hidden_if_zero and not seconds):
            continue
        share = f"{seconds / report.step_time:.1%}"
        table.add_row(part.name, format_seconds(seconds), share, part.meaning)
    table.add_row("sum", format_seconds(sum(report.breakdown.values())), "100.0%", "", style="bold")
    return table


def _memory(report: Report) -> Table:
    worst = report.worst_memory
    table = _table("", "category", "size")
    for name, size in worst.by_category.items():
        table.add_row(name, format_bytes(size))
    return table


def _bounds(report: Report) -> Table:
    table = _table("Bounds: no step can be shorter", "bound", "time", "of step", "formula")
    for bound in report.bounds:
        share = f"{bound.seconds / report.step_time:.0%}"
        table.add_row(bound.name, format_seconds(bound.seconds), share, bound.formula)
    return table


def _references(report: Report) -> Table:
    title, scenario = "Beside what was published", report.scenario
    if not scenario.as_published:
        title += f", on {scenario.workload.published_on or 'another cluster'} as shipped: this run differs"
    table = _table(title, "quantity", "published", "simulated", "error", "source")
    for row in report.references():
        table.add_row(
            row.quantity,
            number(row.published),
            number(row.simulated),
            f"{row.error:+.1%}",
            row.source,
        )
    return table


def _assumed(study: Study) -> Iterator[RenderableType]:
    yield Text("Assumed, because it was not published", style="bold")
    simulated = study.report.step_time
    for span in study.assumed:
        yield Text(f"{span.key} = {span.value}: {span.rule}")
        for other in span.alternatives:
            said = "does not fit this scenario"
            if other.step_time is not None:
                ratio = other.step_time / simulated - 1
                said = f"step {format_seconds(other.step_time)} ({ratio:+.1%})"
            yield Text(f"  with {other.value}: {said}")
    yield Text()


def comparison_text(reports: Sequence[Report]) -> Iterator[RenderableType]:
    """Return the parts of a comparison."""
    labels = names(reports)
    heads = [head for label in labels[1:] for head in (label, "ratio")]
    table = _table("Side by side", "quantity", labels[0], *heads)
    for row in rows(reports):
        table.add_row(*_cells(row))
    yield table
    for report, label in zip(reports[1:], labels[1:], strict=True):
        yield Text()
        yield Text(f"{label} against {labels[0]}", style="bold")
        for line in why(reports[0], report):
            yield Text(f"  {line}")
    yield Text()
    yield Text(f"{labels[0]}: {binding(reports[0])}")


def _cells(row: Row) -> list[str]:
    cells = [row.quantity, _value(row.values[0], row.unit)]
    for value, ratio in zip(row.values[1:], row.relative[1:], strict=True):
        cells += [_value(value, row.unit), "" if math.isnan(ratio) else f"{ratio:.3f}"]
    return cells


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return format_seconds(value)
    if unit == "B":
        return format_bytes(value)
    return f"{value:.1%}" if not unit else f"{number(value)} {unit}"


def checks_text(checks: Sequence[Any]) -> Iterator[RenderableType]:
    """Return the checks as a table per publication, and their mean error."""
    from simulator.validate import score

    by_file: dict[str, list[Any]] = {}
    for check in checks:
        by_file.setdefault(check.case.partition("/")[0], []).append(check)
    for name, found in by_file.items():
        yield _checks(name, found)
        if all("/" not in check.case for check in found):
            yield Text(
                f"source: {'; '.join(dict.fromkeys(check.source for check in found))}", style="dim"
            )
        yield Text()
    rows = [check for check in checks if "/" in check.case]
    for what, memory in (("published steps and runs", False), ("published memory figures", True)):
        total = score([check for check in rows if (check.unit == "B") == memory])
        if total:
            count, mean, worst = total
            yield Text(
                f"{what}: {count}, nothing fitted to them; mean absolute error {mean:.1%}, worst {worst.case} "
                f"{worst.error:+.1%}",
                style="bold",
            )


def _figure(value: float, unit: str) -> str:
    return format_bytes(value) if unit == "B" else f"{number(value)} {unit}".strip()


def _checks(name: str, found: Sequence[Any]) -> Table:
    rows = any("/" in check.case for check in found)
    last = ["over the alternatives"] if any(check.span for check in found) else []
    table = _table(
        f"{name} ({found[0].use})",
        *(["case"] if rows else []),
        "quantity",
        "published",
        "simulated",
        "error",
        *last,
        left=2 if rows else 1,
    )
    for check in found:
        ends = [f"{end / check.published - 1:+.1%}" for end in check.span]
        table.add_row(
            *([check.case.partition("/")[2] or check.case] if rows else []),
            check.quantity,
            *(_figure(value, check.unit) for value in (check.published, check.simulated)),
            f"{check.error:+.1%}{'' if check.scored else ' (not scored)'}",
            *([" to ".join(ends)] if ends else []),
        )
    return table

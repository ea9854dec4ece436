"""The numbers of a step's page as HTML: the figures that everybody asks for, and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from simulator.compare import Row, memory_line, names, rows
from simulator.html.blocks import Tile, number, quantity, table, text, tiles
from simulator.report import Report, mean_share
from simulator.scenario import Scenario
from simulator.units import format_bytes, format_seconds
from simulator.whatif import Study


def first_figures(report: Report) -> str:
    """Return the figures that everybody asks for first."""
    return tiles(_first_figures(report))


def _first_figures(report: Report) -> Iterator[Tile]:
    topology, training = report.scenario.topology, report.scenario.workload.training
    peak = f"{report.peak_flops / 1e12:.0f} TFLOP/s ({report.peak_name})"
    verdict = "fits" if report.fits else "does not fit"
    hidden = mean_share(report.overlap)
    yield Tile(format_seconds(report.step_time), "one step")
    yield Tile(number(report.quantities()["tokens_per_day"]), "tokens per day")
    yield Tile(f"{report.mfu:.1%}", f"MFU of {peak}")
    yield Tile(f"{report.breakdown['bubble'] / report.step_time:.1%}", "of the step is bubble")
    if hidden is not None:
        yield Tile(f"{hidden:.1%}", "of communication overlaps compute")
    yield Tile(format_bytes(report.worst_memory.peak), f"peak memory, {verdict}")
    yield Tile(number(report.gpu_hours), f"GPU-hours for {number(training.tokens)} tokens")
    yield Tile(f"{number(report.cost)} USD", f"at {topology.price:g} USD per GPU-hour")


def subtitle(scenario: Scenario) -> str:
    """Return a line that says what ran."""
    layout = scenario.layout
    shown = [
        f"{name} {getattr(layout, name)}"
        for name in ("tp", "cp", "pp", "vpp", "ep", "etp")
        if getattr(layout, name) > 1
    ]
    degrees = ", ".join(shown) or "no model parallelism"
    return (
        f"{scenario.topology.gpus:,} {scenario.gpu.name.upper()} GPUs; "
        f"{degrees}, dp {layout.dp}, zero {layout.zero}; "
        f"{scenario.workload.schedule.name}, {scenario.micro_batches} micro-batches; "
        f"{scenario.recipe.name}; {number(scenario.tokens_per_step)} tokens per step"
    )


def memory(study: Study) -> str:
    """Return whether the step fits, and what would make it fit."""
    verdict = "good" if study.report.fits else "bad"
    line = f'<p class="{verdict}">{text(memory_line(study.report))}</p>'
    if not study.remedies:
        return line
    body = []
    for remedy in study.remedies:
        seconds = format_seconds(max(0.0, remedy.seconds))
        body.append((f"--set '{remedy.key}={remedy.value}'", format_bytes(remedy.peak), seconds))
    return line + table(("remedy", "peak then", "more kernel time"), body, (1, 2))


def references(report: Report) -> str:
    """Return simulated figures compared with published ones."""
    body = []
    for row in report.references():
        published, simulated = number(row.published), number(row.simulated)
        body.append((row.quantity, published, simulated, f"{row.error:+.1%}", row.source))
    return table(("quantity", "published", "simulated", "error", "source"), body, (1, 2, 3))


def assumed(study: Study) -> str:
    """Return what was not published, the rule behind each choice and the step with every alternative."""
    step = study.report.step_time
    body = []
    for span in study.assumed:
        body.append((span.key, span.value, format_seconds(step), span.rule))
        for other in span.alternatives:
            outcome = "does not fit"
            if other.step_time is not None:
                change = other.step_time / step - 1
                outcome = f"{format_seconds(other.step_time)} ({change:+.1%})"
            body.append(("", f"with {other.value}", outcome, ""))
    return table(("key", "value", "step", "rule"), body, (2,))


def comparison(reports: Sequence[Report]) -> str:
    """Return the quantities that decide, side by side."""
    labels = names(reports)
    heads = ["quantity", labels[0]]
    for label in labels[1:]:
        heads += [label, "ratio"]
    body = [[row.quantity, *_cells(row)] for row in rows(reports) if any(row.values)]
    return table(heads, body, range(1, len(heads)))


def _cells(row: Row) -> Iterator[str]:
    """Yield the values of a quantity, each but the first with its ratio to the first."""
    for column, (value, ratio) in enumerate(zip(row.values, row.relative, strict=True)):
        yield quantity(value, row.unit)
        if column:
            yield "" if math.isnan(ratio) else f"{ratio:.3f}"

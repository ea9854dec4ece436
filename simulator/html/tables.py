"""The numbers of a step's page as HTML: the figures that everybody asks for, and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from simulator.compare import Row, memory_line, names, rows
from simulator.html.blocks import Tile, number, quantity, table, text, tiles
from simulator.report import Report, mean_share
from simulator.scenario import Scenario
from simulator.trust import Interval, Part, sentences
from simulator.units import format_bytes, format_seconds
from simulator.whatif import Study


def first_figures(report: Report) -> str:
    """Return the figures that everybody asks for first."""
    return tiles(_first_figures(report))


def _first_figures(report: Report) -> Iterator[Tile]:
    topology = report.scenario.topology
    training = report.scenario.workload.training
    # A share of peak means nothing without the peak's name: makers publish several.
    teraflops = report.peak_flops / 1e12
    peak = f"{teraflops:.0f} TFLOP/s ({report.peak_name})"
    bubble = report.breakdown["bubble"] / report.step_time
    peak_memory = format_bytes(report.worst_memory.peak)
    tokens = number(training.tokens)
    price = f"{topology.price:g} USD per GPU-hour"
    verdict = "fits" if report.fits else "does not fit"
    hidden = mean_share(report.overlap)
    yield Tile(format_seconds(report.step_time), "one step")
    yield Tile(number(report.quantities()["tokens_per_day"]), "tokens per day")
    yield Tile(f"{report.mfu:.1%}", f"MFU of {peak}")
    yield Tile(f"{bubble:.1%}", "of the step is bubble")
    if hidden is not None:
        yield Tile(f"{hidden:.1%}", "of communication overlaps compute")
    yield Tile(peak_memory, f"peak memory, {verdict}")
    yield Tile(number(report.gpu_hours), f"GPU-hours for {tokens} tokens")
    yield Tile(f"{number(report.cost)} USD", f"at {price}")


def subtitle(scenario: Scenario) -> str:
    """Return a line that says what ran."""
    layout = scenario.layout
    shown = []
    for name in ("tp", "cp", "pp", "vpp", "ep", "etp"):
        degree = getattr(layout, name)
        # Degrees of one are what anybody assumes.
        if degree > 1:
            shown.append(f"{name} {degree}")
    degrees = ", ".join(shown) or "no model parallelism"
    gpu = scenario.gpu.name.upper()
    gpus = f"{scenario.topology.gpus:,} {gpu} GPUs"
    return (
        f"{gpus}; "
        f"{degrees}, dp {layout.dp}, zero {layout.zero}; "
        f"{scenario.workload.schedule.name}, {scenario.micro_batches} micro-batches; "
        f"{scenario.recipe.name}; {number(scenario.tokens_per_step)} tokens per step"
    )


def memory(study: Study) -> str:
    """Return whether the step fits, and what would make it fit."""
    verdict = "good" if study.report.fits else "bad"
    sentence = text(memory_line(study.report))
    line = f'<p class="{verdict}">{sentence}</p>'
    if not study.remedies:
        return line
    body = []
    for remedy in study.remedies:
        # As it is typed, so that it can be copied.
        option = f"--set '{remedy.key}={remedy.value}'"
        # A remedy that saves time as well costs none.
        seconds = format_seconds(max(0.0, remedy.seconds))
        body.append((option, format_bytes(remedy.peak), seconds))
    heads = ("remedy", "peak then", "more kernel time")
    return line + table(heads, body, numeric=(1, 2))


def references(report: Report) -> str:
    """Return simulated figures compared with published ones."""
    body = []
    for row in report.references():
        published = number(row.published)
        simulated = number(row.simulated)
        # Signed: too fast and too slow have different causes.
        error = f"{row.error:+.1%}"
        body.append((row.quantity, published, simulated, error, row.source))
    heads = ("quantity", "published", "simulated", "error", "source")
    return table(heads, body, numeric=(1, 2, 3))


def sensitivity(study: Study) -> str:
    """Return the constants on which the step hangs most, each a tenth larger and smaller."""
    body = []
    for row in study.sensitivity:
        body.append((row.name, number(row.value), f"{row.up:+.2%}", f"{row.down:+.2%}"))
    return table(("constant", "value", "a tenth more", "a tenth less"), body, numeric=(1, 2, 3))


def trust(found: Interval) -> str:
    """Return the interval on the step, what it comes from, and a bar for each."""
    said, like, *_ = sentences(found)
    whole = Part("the step", *found.factors, f"{found.level:.0%} of such runs")
    parts = (whole, *found.parts)
    reach = max(max(part.high - 1.0, 1.0 - part.low) for part in parts)
    body = []
    for part in parts:
        ends = f"{part.low - 1:+.1%} to {part.high - 1:+.1%}"
        body.append((part.name, ends, _bar(part, reach), part.source))
    lines = f"<p><b>{text(said)}</b></p><p>{text(like)}</p>"
    return lines + table(("part", "step", "", "where from"), body)


def _bar(part: Part, reach: float) -> str:
    """Return an interval around the simulated step, drawn in characters. reach: half of all."""
    half = 12  # characters on either side of the simulated step
    down = round(half * (1.0 - part.low) / reach)
    up = round(half * (part.high - 1.0) / reach)
    cells = ["\u2500" if -down <= place <= up else "\u00a0" for place in range(-half, half + 1)]
    cells[half] = "\u253c"
    return "".join(cells)


def assumed(study: Study) -> str:
    """Return what was not published, the rule behind each choice and the step with every alternative."""
    step = study.report.step_time
    body = []
    for span in study.assumed:
        body.append((span.key, span.value, format_seconds(step), span.rule))
        # Below what was assumed, with empty cells where the rule above holds.
        for other in span.alternatives:
            outcome = "does not fit"
            if other.step_time is not None:
                change = other.step_time / step - 1
                seconds = format_seconds(other.step_time)
                outcome = f"{seconds} ({change:+.1%})"
            body.append(("", f"with {other.value}", outcome, ""))
    return table(("key", "value", "step", "rule"), body, (2,))


def comparison(reports: Sequence[Report]) -> str:
    """Return the quantities that decide, side by side."""
    labels = names(reports)
    heads = ["quantity", labels[0]]
    for label in labels[1:]:
        heads += [label, "ratio"]
    # A quantity that is zero everywhere decides nothing: traffic of a dimension that nobody uses.
    shown = [row for row in rows(reports) if any(row.values)]
    body = [[row.quantity, *_cells(row)] for row in shown]
    return table(heads, body, range(1, len(heads)))


def _cells(row: Row) -> Iterator[str]:
    """Yield the values of a quantity, each but the first with its ratio to the first."""
    pairs = zip(row.values, row.relative, strict=True)
    for column, (value, ratio) in enumerate(pairs):
        yield quantity(value, row.unit)
        if column:
            # Nothing to divide by: the first value is zero.
            yield "" if math.isnan(ratio) else f"{ratio:.3f}"

"""The numbers of a page as HTML: tiles, tables, and where every hardware figure comes from."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from simulator.compare import Row, memory_line, names, rows
from simulator.report import Report, mean_share
from simulator.scenario import Scenario
from simulator.units import format_bytes, format_seconds
from simulator.whatif import Study

Cells = Sequence[str]


def text(value: object) -> str:
    """Return a value as text of a page."""
    return html.escape(str(value))


def number(value: float) -> str:
    """Return a figure with four digits, large ones in words."""
    for factor, word in ((1e12, " T"), (1e9, " B"), (1e6, " M")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{word}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(heads: Cells, body: Iterable[Cells], numeric: Iterable[int] = ()) -> str:
    """Return a table. heads, body: text, not yet escaped. numeric: columns that stand right."""
    right = set(numeric)

    def row(cells: Cells, tag: str) -> str:
        parts = (
            f"<{tag}{' class=number' if place in right else ''}>{text(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(parts)}</tr>"

    head = f"<thead>{row(heads, 'th')}</thead>" if any(heads) else ""
    rest = "".join(row(cells, "td") for cells in body)
    return f'<div class="scroll"><table>{head}<tbody>{rest}</tbody></table></div>'


def tiles(report: Report) -> str:
    """Return the figures that everybody asks for first."""
    scenario, quantities = report.scenario, report.quantities()
    fits = report.worst_memory.peak <= scenario.gpu.memory.capacity
    hidden = mean_share(report.overlap)
    found = [
        (format_seconds(report.step_time), "one step"),
        (number(quantities["tokens_per_day"]), "tokens per day"),
        (
            f"{report.mfu:.1%}",
            f"MFU of {report.peak_flops / 1e12:.0f} TFLOP/s ({report.peak_name})",
        ),
        (f"{report.breakdown['bubble'] / report.step_time:.1%}", "of the step is bubble"),
        *([(f"{hidden:.1%}", "of communication beside compute")] if hidden is not None else []),
        (
            format_bytes(report.worst_memory.peak),
            f"peak memory, {'fits' if fits else 'does not fit'}",
        ),
        (
            number(report.gpu_hours),
            f"GPU-hours for {number(scenario.workload.training.tokens)} tokens",
        ),
        (f"{number(report.cost)} USD", f"at {scenario.topology.price:g} USD per GPU-hour"),
    ]
    inner = "".join(
        f'<div class="tile"><b>{text(value)}</b><span>{text(note)}</span></div>'
        for value, note in found
    )
    return f'<div class="tiles">{inner}</div>'


def subtitle(scenario: Scenario) -> str:
    """Return a line that says what ran."""
    layout = scenario.layout
    sizes = {
        "tp": layout.tp,
        "cp": layout.cp,
        "pp": layout.pp,
        "vpp": layout.vpp,
        "ep": layout.ep,
        "etp": layout.etp,
    }
    degrees = (
        ", ".join(f"{name} {size}" for name, size in sizes.items() if size > 1)
        or "no model parallelism"
    )
    return (
        f"{scenario.topology.gpus:,} {scenario.gpu.name.upper()} GPUs; {degrees}, dp {layout.dp}, zero {layout.zero}; "
        f"{scenario.workload.schedule.name}, {scenario.micro_batches} micro-batches; {scenario.recipe.name}; "
        f"{number(scenario.tokens_per_step)} tokens per step"
    )


def memory(study: Study) -> str:
    """Return whether the step fits, and what would make it fit."""
    report = study.report
    verdict = "good" if report.fits else "bad"
    said = f'<p class="{verdict}">{text(memory_line(report))}</p>'
    if study.remedies:
        said += table(
            ("remedy", "peak then", "more kernel time"),
            [
                (
                    f"--set '{one.key}={one.value}'",
                    format_bytes(one.peak),
                    format_seconds(max(0.0, one.seconds)),
                )
                for one in study.remedies
            ],
            (1, 2),
        )
    return said


def references(report: Report) -> str:
    """Return simulated figures beside published ones."""
    return table(
        ("quantity", "published", "simulated", "error", "source"),
        [
            (
                row.quantity,
                number(row.published),
                number(row.simulated),
                f"{row.error:+.1%}",
                row.source,
            )
            for row in report.references()
        ],
        (1, 2, 3),
    )


def assumed(study: Study) -> str:
    """Return what was not published, the rule behind each choice and the step with every alternative."""
    step = study.report.step_time
    body = []
    for span in study.assumed:
        body.append((span.key, span.value, format_seconds(step), span.rule))
        for other in span.alternatives:
            said = "does not fit"
            if other.step_time is not None:
                said = f"{format_seconds(other.step_time)} ({other.step_time / step - 1:+.1%})"
            body.append(("", f"with {other.value}", said, ""))
    return table(("key", "value", "step", "rule"), body, (2,))


def comparison(reports: Sequence[Report]) -> str:
    """Return the quantities that decide, side by side."""
    labels = names(reports)
    heads = ["quantity", labels[0], *(head for label in labels[1:] for head in (label, "ratio"))]
    body = [[row.quantity, *_cells(row)] for row in rows(reports) if any(row.values)]
    return table(heads, body, range(1, len(heads)))


def _cells(row: Row) -> Iterator[str]:
    for place, (value, ratio) in enumerate(zip(row.values, row.relative, strict=True)):
        yield _value(value, row.unit)
        if place:
            yield "" if math.isnan(ratio) else f"{ratio:.3f}"


def _value(value: float, unit: str) -> str:
    if unit in ("s", "B"):
        return format_seconds(value) if unit == "s" else format_bytes(value)
    return f"{number(value)} {unit}" if unit else f"{value:.1%}"


def provenance(scenario: Scenario) -> str:
    """Return every hardware figure that was used with its source: datasheet, then kernel table."""
    gpu, kernels = scenario.gpu, scenario.kernels
    datasheet = [
        ("SMs", gpu.sms, gpu.sources.get("sms", "")),
        (
            "memory",
            f"{format_bytes(gpu.memory.capacity)}, {gpu.memory.bandwidth / 1e12:.4g} TB/s",
            gpu.sources.get("memory", ""),
        ),
        *(
            (f"dense peak, {dtype}", f"{peak / 1e12:.1f} TFLOP/s", gpu.sources.get("peak", ""))
            for dtype, peak in gpu.peak.items()
        ),
    ]
    known = {"sms", "memory", "peak"}
    datasheet += [(key, "", source) for key, source in gpu.sources.items() if key not in known]
    listed = [
        row
        for group in ("gemm", "wgrad", "attention", "communication")
        for row in _models(group, getattr(kernels, group))
    ]
    listed += [
        (key, _plain(getattr(kernels, key, "")), source) for key, source in kernels.sources.items()
    ]
    sheet = table(("figure", "value", "source"), [tuple(map(str, row)) for row in datasheet])
    measured = table(("kernel table", "values", "source"), listed)
    return (
        f"<h3>Datasheet: {text(gpu.name)}</h3>{sheet}"
        '<p class="soft">Kernel tables are calibrated on kernels and links alone, never on a training step. The '
        "figures of the cluster's links stand in the topology file below.</p>"
        f"<details><summary>Measured kernels: {text(kernels.name)}, {len(listed)} rows with their sources</summary>"
        f"{measured}</details>"
    )


def _models(group: str, models: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, model in models.items():
        values = model.model_dump(mode="json", exclude={"source"}, exclude_none=True)
        yield f"{group}, {name}", _plain(values), model.source


def _plain(value: object) -> str:
    """Return a value or a group of values on one line."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"))
    return f"{value:.4g}" if isinstance(value, float) else str(value)

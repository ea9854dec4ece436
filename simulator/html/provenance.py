"""Where every hardware figure of a step comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from simulator.hardware import GpuConfig, KernelConfig
from simulator.html.blocks import card, details, paragraph, section, table, text
from simulator.scenario import Scenario
from simulator.units import format_bytes

NOTE = (
    "Kernel tables are calibrated on kernels and links alone, never on a training step. "
    "The figures of the cluster's links stand in the topology file below."
)


class Sourced(NamedTuple):
    """A row of a table of sources."""

    figure: str
    """What it is."""
    value: str
    """Its value or values on one line, empty where the source says it in words."""
    source: str
    """Who says so."""


def sources(scenarios: Sequence[Scenario]) -> str:
    """Return the section that names all sources, of each GPU with its kernels once."""
    # Scenarios of one GPU share its tables: a page of many would repeat dozens of rows.
    shown: dict[tuple[str, str], Scenario] = {}
    for scenario in scenarios:
        key = (scenario.gpu.name, scenario.kernels.name)
        shown.setdefault(key, scenario)
    cards = [card(provenance(scenario)) for scenario in shown.values()]
    return section("Where the hardware's figures come from", "".join(cards))


def provenance(scenario: Scenario) -> str:
    """Return every hardware figure that was used with its source: datasheet, then kernel table."""
    gpu, kernels = scenario.gpu, scenario.kernels
    measured = list(_kernels(kernels))
    title = f"Measured kernels: {kernels.name}, {len(measured)} rows with their sources"
    return (
        f"<h3>Datasheet: {text(gpu.name)}</h3>"
        f"{table(('figure', 'value', 'source'), _datasheet(gpu))}"
        f"{paragraph(NOTE)}"
        f"{details(title, table(('kernel table', 'values', 'source'), measured))}"
    )


def _datasheet(gpu: GpuConfig) -> Iterator[Sourced]:
    sources = gpu.sources
    capacity = format_bytes(gpu.memory.capacity)
    bandwidth = f"{gpu.memory.bandwidth / 1e12:.4g} TB/s"
    yield Sourced("SMs", str(gpu.sms), sources.get("sms", ""))
    yield Sourced("memory", f"{capacity}, {bandwidth}", sources.get("memory", ""))
    for dtype, peak in gpu.peak.items():
        figure = f"dense peak, {dtype}"
        rate = f"{peak / 1e12:.1f} TFLOP/s"
        yield Sourced(figure, rate, sources.get("peak", ""))
    # What else a datasheet is cited for is in the source's own words.
    for key, source in sources.items():
        if key not in {"sms", "memory", "peak"}:
            yield Sourced(key, "", source)


def _kernels(kernels: KernelConfig) -> Iterator[Sourced]:
    for group in ("gemm", "wgrad", "attention", "communication"):
        for name, model in getattr(kernels, group).items():
            # The source has a column of its own.
            values = model.model_dump(
                mode="json",
                exclude={"source"},
                exclude_none=True,
            )
            figure = f"{group}, {name}"
            yield Sourced(figure, one_line(values), model.source)
    for key, source in kernels.sources.items():
        value = getattr(kernels, key, "")
        yield Sourced(key, one_line(value), source)


def one_line(value: Any) -> str:
    """Return a value or a group of values on one line."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        parts = [f"{key} {one_line(inner)}" for key, inner in value.items()]
        return "; ".join(parts)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(one_line, value))}]"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)

"""The table of GPUs: figures, kernels, sources."""

from __future__ import annotations

from cells import row

from simulator import inputs
from simulator.hardware import GpuConfig, KernelConfig

FORMATS = ("bf16", "fp8", "mxfp8", "nvfp4")
"""Number formats of datasheets, as columns."""


def page() -> str:
    """Return every GPU that a topology may name, with where each figure comes from."""
    sheets = [_sheet(name) for name in inputs.data_names("gpus")]
    lines = [
        "# GPUs",
        "",
        "What `gpu:` of a topology may name. Peaks are dense; memory is what the driver reports where that was",
        "published, else nominal; the host link counts one direction. How well",
        "kernels are described: [kernels.md](kernels.md).",
        "",
        "| GPU | SMs | memory | its bandwidth | "
        + " | ".join(f"{name.upper()}, TFLOP/s" for name in FORMATS)
        + " | power | host link | GEMMs |",
        "|---|---:|---:|---:|" + "---:|" * len(FORMATS) + "---:|---:|---|",
    ]
    lines += [_figures(sheet) for sheet in sheets]
    lines += [
        "",
        "GEMMs: `grid`, measured on 1,764 shapes per number format; `as X`, those of X at the clock that the power",
        "of an SM allows, on its own memory, or, where it has other SMs, the wave model of the architecture at that",
        "clock. A lower limit than `power` is `topology.node.power_limit`. Whatever else was not measured on a GPU is",
        "that of its architecture's table, as shares of its own peaks and bandwidth.",
        "",
        "The law of the power limit: what remains of the rate of the SMs is ((limit - i x TDP) / (TDP - i x",
        f"TDP))^(1/e). i, e: {_law()}.",
        "",
        "## Sources",
        "",
    ]
    for sheet in sheets:
        lines.append(f"**{sheet.name}**")
        lines.append("")
        lines += [f"- {key}: {text}" for key, text in sheet.sources.items()]
        lines.append("")
    return "\n".join(lines)


def _sheet(name: str) -> GpuConfig:
    return inputs.validate(inputs.data("gpus", name), GpuConfig)


def _figures(sheet: GpuConfig) -> str:
    peaks = [sheet.peak.get(name) for name in FORMATS]
    return row(
        sheet.name,
        str(sheet.sms),
        f"{sheet.memory.capacity / 1e9:.1f} GB",
        f"{sheet.memory.bandwidth / 1e12:.3f} TB/s",
        *(f"{peak / 1e12:,.0f}" if peak else "" for peak in peaks),
        f"{sheet.power:,.0f} W",
        f"{sheet.host_link / 1e9:.0f} GB/s",
        _kernels(sheet),
    )


def _kernels(sheet: GpuConfig) -> str:
    """Return where its GEMMs come from."""
    if sheet.relative:
        return f"as {sheet.relative}"
    table = inputs.validate(inputs.data("kernels", sheet.kernels), KernelConfig)
    known = table.gemm["bf16"].measured[sheet.name]
    own = known.grid.removeprefix("aic_gemm_")
    return "grid" if own == sheet.name else f"grid of {own}, the same chip"


def _law() -> str:
    law = inputs.data("power", "limit").data
    return f"{law['idle']} and {law['exponent']}; {law['source']}"

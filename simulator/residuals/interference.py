"""Kernels next to transfers: measured times, and what `compute.contention` makes of them.

The measurements are those of `simulator/data/measured/interference.yaml`. Those of `fitted` rows
set the kernel tables' sensitivities, the others are a check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from simulator import inputs
from simulator.compute import Processor, Sensitivity, speed
from simulator.compute.contention import sensitivity
from simulator.ops.op import gemm
from simulator.residuals.rows import processor


@dataclass(frozen=True, slots=True)
class Neighbours:
    """A kernel next to a transfer."""

    what: str
    """Both, in words."""
    gpu: str
    """On which they ran."""
    source: str
    """Where it was published."""
    computed: float
    """Time next to the transfer by the table, over that alone."""
    measured: float
    """The same, measured; 0 where only a span is known."""
    span: tuple[float, float]
    """Between which values it must lie where its geometry is not known."""
    fitted: bool
    """Whether it sets a constant."""

    @property
    def error(self) -> float:
        """Return the signed relative error of the time."""
        return self.computed / self.measured - 1.0

    @property
    def inside(self) -> bool:
        """Tell whether a row of unknown geometry lies in its span."""
        low, high = self.span
        return low <= self.computed <= high


def neighbours(contention: Mapping[str, float] | None = None) -> Iterator[Neighbours]:
    """Yield every measured pair. contention: other sensitivities than those of the kernel tables."""
    for row in measured():
        part = _processor(row["gpu"], contention)
        measured_ratio = row["beside"] / row["alone"] if "beside" in row else 0.0
        low, high = row.get("span", (0.0, 0.0))
        yield Neighbours(
            what=row["what"],
            gpu=row["gpu"],
            source=row["source"],
            computed=_ratio(row, part),
            measured=measured_ratio,
            span=(low, high),
            fitted=row.get("fitted", False),
        )


def measured() -> list[dict[str, Any]]:
    """Return the measured pairs as the file has them."""
    rows: list[dict[str, Any]] = inputs.data("measured", "interference").data["rows"]
    return rows


def not_expressible() -> list[dict[str, str]]:
    """Return what was measured and cannot be computed, and why."""
    rows: list[dict[str, str]] = inputs.data("measured", "interference").data["not_expressible"]
    return rows


def _processor(gpu: str, contention: Mapping[str, float] | None) -> Processor:
    part = replace(processor(gpu), sustained=False)
    if contention is None:
        return part
    changed = dict(contention)
    rows = dict(part.kernels.communication)
    names = {"nccl_slower": "overlap_slowdown", "nccl_hbm": "hbm"}
    of_nccl = {key: changed.pop(name) for name, key in names.items() if name in changed}
    rows["nccl_simple"] = rows["nccl_simple"].model_copy(update=of_nccl)
    other = part.kernels.contention.model_copy(update=changed)
    tables = {"contention": other, "communication": rows}
    return replace(part, kernels=part.kernels.model_copy(update=tables))


def _ratio(row: Mapping[str, Any], part: Processor) -> float:
    """Return a kernel's time next to a transfer over that alone."""
    # NCCL's kernel is slowed itself: it lasts longer, and sends and takes less meanwhile.
    stretch = slowed_itself(part) if row.get("nccl") else 1.0
    sends = 1e9 * row["sends"] / stretch  # [B/s]
    slowed = speed(
        _sensitivity(row, part),
        held=row["ctas"] / part.gpu.sms,
        taken=sends * _moves(row, part) / part.gpu.memory.bandwidth,
    )
    if "covers" not in row:
        return 1.0 / slowed
    # What a transfer that ends first leaves of the kernel runs alone.
    lasts = float(row["covers"]) * (1.0 if row.get("seen") else stretch)
    done = min(1.0, slowed * lasts / float(row["alone"]))
    return done / slowed + (1.0 - done)


def _moves(row: Mapping[str, Any], part: Processor) -> float:
    """Return the bytes through HBM for each one that is sent."""
    return part.kernels.communication["nccl_simple"].hbm if row.get("nccl") else row["moves"]


def slowed_itself(part: Processor) -> float:
    """Return the time of NCCL's kernels inside a node next to compute over that alone."""
    return part.kernels.communication["nccl_simple"].overlap_slowdown


def _sensitivity(row: Mapping[str, Any], part: Processor) -> Sensitivity:
    model = part.kernels.contention
    if "gemm" in row:
        m, n, k = row["gemm"]
        op = gemm("", m, n, k, "bf16")
        return part.sensitivity(op, part.kernel(op, overlapped=False))
    sms = {"many_waves": 1.0, "compiled_for_fewer": 0.0, "memory_bound": model.memory_sms}
    kernel = row["kernel"]
    hbm = 1.0 if kernel == "memory_bound" else model.compute_hbm
    return sensitivity(sms[kernel], hbm)

"""Measured grids of GEMMs compared with the kernel tables: what lies on them, between and beyond."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from simulator import inputs
from simulator.compute import Processor
from simulator.compute.grid import Grid, grid, log_ratio
from simulator.compute.waves import waves
from simulator.ops.op import gemm
from simulator.precision import Dtype
from simulator.residuals.rows import (
    Residuals,
    Timed,
    against_table,
    column,
    gemm_of,
    measured_table,
    processor,
)

LABELS: dict[Dtype, str] = {
    "bf16": "BF16",
    "fp8_tensor": "FP8, per tensor",
    "nvfp4": "NVFP4",
}
"""Number format -> what it is called."""
GROUP = "grid of GEMMs"
"""Kind of figure that these are."""
LARGE = 1024
"""The wave model is fitted to shapes that are no smaller than this."""


def gemm_grids() -> Iterator[Residuals]:
    """Yield every measured grid: the wave model alone, planes left out, shapes held out."""
    held = inputs.table("aic_gemm_held_out")
    for gpu in ("a100", "h100", "h200", "b200", "gb200", "b300", "gb300", "l40s"):
        part = replace(processor(gpu), sustained=False)
        for dtype, label in LABELS.items():
            if dtype not in part.kernels.gemm:
                continue
            known = part.kernels.gemm[dtype].measured[gpu]
            table = grid(known.grid, dtype)
            # The constants of an architecture come from one of its GPUs.
            fitted = gpu in ("a100", "h100", "b200", "l40s")
            yield _alone(part, table, dtype, f"{label}, wave model alone", fitted)
            yield _left_out(part, table, dtype, f"{label}, a plane of the grid left out")
            rows = [row for row in held if row["gpu"] == gpu and row["dtype"] == dtype]
            large = [row for row in rows if _smallest(row) >= LARGE]
            small = [row for row in rows if _smallest(row) < LARGE]
            yield _held_out(part, dtype, f"{label}, between the grid's shapes", large)
            yield _held_out(part, dtype, f"{label}, between, smaller than {LARGE:,}", small)
    yield from _sustained()


def _smallest(row: dict[str, str]) -> int:
    return min(int(row[size]) for size in "mnk")


def _alone(part: Processor, table: Grid, dtype: Dtype, name: str, fitted: bool) -> Residuals:
    """Return the wave model without what was measured around."""
    model = waves(part.gpu, part.kernels.gemm[dtype], part.peak(dtype))
    large = [shape for shape in table.seconds if min(shape) >= LARGE]
    ops = [gemm("", *shape, dtype) for shape in large]
    computed = [model.seconds(op, part.gpu.sms) for op in ops]
    return Residuals(
        group=GROUP,
        name=name,
        gpu=part.gpu.name,
        fitted=fitted,
        measured=np.array([table.seconds[shape] for shape in large]),
        computed=np.array(computed),
    )


def _left_out(part: Processor, table: Grid, dtype: Dtype, name: str) -> Residuals:
    """Return the planes of each axis between two others, each predicted from the rest."""
    model = waves(part.gpu, part.kernels.gemm[dtype], part.peak(dtype))
    measured, computed = [], []
    for axis, sizes in enumerate(table.axes):
        for size in sizes[1:-1]:
            if size <= LARGE:
                continue
            rest = table.without(axis, size)
            plane = [shape for shape in table.seconds if shape[axis] == size]
            for shape in plane:
                if min(shape) < LARGE:
                    continue
                alone = model.seconds(gemm("", *shape, dtype), part.gpu.sms)
                corrected = math.exp(log_ratio(rest, dtype, model, shape))
                computed.append(alone * corrected)
                measured.append(table.seconds[shape])
    return Residuals(
        group=GROUP,
        name=name,
        gpu=part.gpu.name,
        fitted=False,
        measured=np.array(measured),
        computed=np.array(computed),
    )


def _held_out(part: Processor, dtype: Dtype, name: str, rows: list[dict[str, str]]) -> Residuals:
    measured = [Timed(gemm_of(row, dtype), float(row["us"])) for row in rows]
    return against_table(GROUP, name, part, False, measured)


def _sustained() -> Iterator[Residuals]:
    """Yield GEMMs after thousands of calls, at the clock that the power limit leaves."""
    yield _at_the_limit()
    for case in measured_table("sustained_gemm")["cublaslt"]:
        part = processor(case["gpu"])
        measured, computed = [], []
        for m, n, k, tflops in case["rows"]:
            op = gemm("", m, n, k, case["dtype"])
            measured.append(op.flops / tflops / 1e12)
            computed.append(part.kernel(op, overlapped=False))
        yield Residuals(
            group=GROUP,
            name=f"{LABELS[case['dtype']]}, sustained, Azure's",
            gpu=case["gpu"],
            fitted=False,
            measured=np.array(measured),
            computed=np.array(computed),
        )


def _at_the_limit() -> Residuals:
    """Return GEMMs whose power was measured with them, 984 W of B200's 1,000 on average."""
    part = processor("b200")
    rows = inputs.table("b200_gemm_power")
    computed = [part.kernel(gemm_of(row, "bf16"), overlapped=False) for row in rows]
    return Residuals(
        group=GROUP,
        name=f"{LABELS['bf16']}, sustained, with their power, vLLM",
        gpu="b200",
        fitted=False,
        measured=column(rows, "us"),
        computed=np.array(computed),
    )

"""FP8 GEMMs as training runs them, with casts and FP32 gradients, compared with the kernel tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from simulator.compute import Processor
from simulator.ops.op import gemm, quantise
from simulator.precision import BYTES, RECIPES, Dtype, Recipe
from simulator.residuals.rows import (
    Residuals,
    against_table,
    measured_table,
    processor,
    rated,
    wgrad_of,
)


class _Pass(NamedTuple):
    """One pass over a layer's GEMMs."""

    gemms: tuple[tuple[int, int, int], ...]
    """m, n and k of each."""
    elements: tuple[float, ...]
    """Of every operand."""


def fp8_training() -> Iterator[Residuals]:
    """Yield what was measured of FP8 in training."""
    table = measured_table("fp8_training")
    layers = table["transformer_engine"]
    for name in ("fp8_tensor", "fp8_current", "fp8_blockwise"):
        yield _layers(layers, name)
    yield from _blackwell()
    measured = []
    for row in table["deepgemm_wgrad"]:
        measured.append(rated(wgrad_of(row, "fp8"), row["tflops"]))
    label = "weight gradient FP8, blocks, DeepGEMM of May 2025"
    yield against_table("GEMM", label, processor("h800"), False, measured)


def _layers(table: dict[str, Any], name: str) -> Residuals:
    """Return Transformer Engine's linear layers, both operands cast in the call.

    Over BF16's in the same pass: the H200 NVL of the table has a power limit of 600 W, an H200 SXM
    of 700 W, so that neither format is as fast.
    """
    part = processor("h200")
    recipe = RECIPES[name]
    measured, computed = [], []
    for label, one in _passes(table).items():
        published = table["with_casts"][label]
        in_bf16 = _seconds(part, one, "bf16")
        in_fp8 = _seconds(part, one, recipe.gemm)
        measured.append(published[name] / published["bf16"] * in_bf16)
        computed.append(in_fp8 + _casts(part, one, recipe))
    return Residuals(
        group="GEMM",
        name=f"linear layers with casts, {name}, of BF16's time",
        gpu="h200",
        fitted=False,
        measured=np.array(measured),
        computed=np.array(computed),
    )


def _blackwell() -> Iterator[Residuals]:
    """Yield Transformer Engine's linear layers on B300, at its own power limit: GEMMs, then casts too."""
    table = measured_table("blackwell_training")["linear_layers"]
    part = processor("b300")
    passes = _passes(table)
    before: tuple[Dtype, ...] = ("bf16", "mxfp8", "nvfp4")
    for dtype in before:
        computed = [_seconds(part, one, dtype) for one in passes.values()]
        label = f"linear layers cast before, {dtype}, sustained"
        yield _of_b300(label, [table["cast_before"][way][dtype] for way in passes], computed)
    for name in ("fp8_tensor", "fp8_current", "mxfp8", "nvfp4"):
        recipe = RECIPES[name]
        computed = []
        for one in passes.values():
            computed.append(_seconds(part, one, recipe.gemm) + _casts(part, one, recipe))
        label = f"linear layers with casts, {name}, sustained"
        yield _of_b300(label, [table["with_casts"][way][name] for way in passes], computed)


def _of_b300(name: str, milliseconds: list[float], computed: list[float]) -> Residuals:
    return Residuals(
        group="GEMM",
        name=name,
        gpu="b300",
        fitted=False,
        measured=np.array(milliseconds) * 1e-3,
        computed=np.array(computed),
    )


def _passes(table: dict[str, Any]) -> dict[str, _Pass]:
    rows = table["rows"]
    layers = table["layers"]
    inputs = [float(rows * k) for _, k in layers]
    weights = [float(n * k) for n, k in layers]
    gradients = [float(rows * n) for n, _ in layers]
    forward = tuple((rows, n, k) for n, k in layers)
    dgrad = tuple((rows, k, n) for n, k in layers)
    of_weights = tuple((n, k, rows) for n, k in layers)
    return {
        "forward": _Pass(forward, (*inputs, *weights)),
        "dgrad": _Pass(dgrad, (*gradients, *weights)),
        "wgrad": _Pass(of_weights, (*inputs, *gradients)),
    }


def _seconds(part: Processor, one: _Pass, dtype: Dtype) -> float:
    """Return the time of a pass's GEMMs at the clock that the power limit leaves [s]."""
    ops = [gemm("", *shape, dtype) for shape in one.gemms]
    return sum(part.kernel(op, overlapped=False) for op in ops)


def _casts(part: Processor, one: _Pass, recipe: Recipe) -> float:
    """Return the time of a pass's casts [s]. Each writes only the way that the GEMM reads."""
    # One kernel casts, and one puts the scales of a block format in order.
    kernels = min(recipe.cast_kernels, 2)
    one_way = replace(recipe, cast_bytes=2.0 + BYTES[recipe.gemm], cast_kernels=kernels)
    casts = quantise(one_way, *one.elements)
    return sum(part.kernel(op, overlapped=False) for op in casts)

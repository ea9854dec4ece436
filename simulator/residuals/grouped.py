"""GEMMs of all experts of a GPU compared with the kernel tables, as in a benchmark loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from simulator import inputs
from simulator.compute import Processor
from simulator.hardware import StackConfig
from simulator.ops import Op
from simulator.ops.op import gemm, moved
from simulator.precision import BYTES, Dtype
from simulator.residuals.rows import (
    Residuals,
    Timed,
    column,
    gemm_of,
    measured_table,
    processor,
    rated,
    wgrad_of,
)

BLOCK: dict[Dtype, float] = {"bf16": 28e-6, "fp8_tensor": 34e-6, "nvfp4": 42e-6}
"""Number format -> what TensorRT-LLM needs to sort tokens for their experts, any number [s]: the
least of its blocks."""


def grouped() -> Iterator[Residuals]:
    """Yield every class of grouped GEMM that was measured."""
    yield _blocks()
    yield _weight_gradients()
    yield from _transformer_engine()
    yield _unfused_attention()
    for dtype in BLOCK:
        for gpu in ("h100", "h200", "b200"):
            if gpu == "b200" or dtype != "nvfp4":
                yield _expert_blocks(gpu, dtype)


def in_loop(part: Processor, op: Op) -> float:
    """Return the time of a grouped GEMM in a benchmark loop [s]."""
    return replace(part, sustained=False).kernel(op, overlapped=False)


def _against(name: str, part: Processor, fitted: bool, measured: Sequence[Timed]) -> Residuals:
    return Residuals(
        group="grouped GEMM",
        name=name,
        gpu=part.gpu.name,
        fitted=fitted,
        measured=np.array([timed.us * 1e-6 for timed in measured]),
        computed=np.array([in_loop(part, timed.op) for timed in measured]),
    )


def infersim() -> Iterator[Timed]:
    """Yield DeepGEMM's grouped GEMMs on H800."""
    for row in inputs.table("grouped_gemm_h800"):
        op = gemm_of(row, "fp8", int(row["groups"]))
        yield Timed(op, float(row["us"]))


def _blocks() -> Residuals:
    part = processor("h800", own_grouped=False)
    name = "FP8, blocks, grouped, 32 to 32,768 rows an expert"
    return _against(name, part, True, tuple(infersim()))


def _weight_gradients() -> Residuals:
    """Return weight gradients on two GPUs of one architecture, named after the first."""
    parts = {gpu: processor(gpu, own_grouped=False) for gpu in ("h800", "h200")}
    measured, computed = [], []
    for row in published_weight_gradients():
        measured.append(row.timed.us * 1e-6)
        computed.append(in_loop(parts[row.gpu], row.timed.op))
    return Residuals(
        group="grouped GEMM",
        name="weight gradient FP8, blocks, grouped, on H800 and H200",
        gpu="h800",
        fitted=True,
        measured=np.array(measured),
        computed=np.array(computed),
    )


class TimedOn(NamedTuple):
    """An op that was timed on one of several GPUs."""

    gpu: str
    """Name of its datasheet."""
    timed: Timed
    """The op."""


def published_weight_gradients() -> Iterator[TimedOn]:
    """Yield DeepGEMM's grouped weight gradients."""
    for row in measured_table("grouped_training")["fp8_wgrad"]:
        op = wgrad_of(row, "fp8", row["groups"])
        for gpu in ("h800", "h200"):
            yield TimedOn(gpu, rated(op, row[f"{gpu}_tflops"]))


def _transformer_engine() -> Iterator[Residuals]:
    stack = inputs.validate(inputs.data("stacks", "megatron"), StackConfig)
    part = replace(processor("h100", own_grouped=False), streams=stack.experts.streams)
    rows = measured_table("grouped_training")["transformer_engine"]
    for library, what in (("cutlass", "one kernel"), ("cublas", "one kernel per expert")):
        measured = []
        for row in rows:
            launches = row["groups"] if library == "cublas" else 1
            op = _of_training(row)._replace(launches=launches)
            measured.append(Timed(op, 1e3 * row[f"{library}_ms"]))
        yield _against(f"BF16, grouped, {what}, Transformer Engine", part, False, measured)


def _of_training(row: dict[str, Any]) -> Op:
    make = wgrad_of if row["pass"] == "weight gradient" else gemm_of
    return make(row, "bf16", row["groups"])


def _unfused_attention() -> Residuals:
    part = processor("a100", own_grouped=False)
    measured = []
    for row in measured_table("training_kernels")["megatron_layer"]["batched_gemms"]:
        op = gemm_of(row, "bf16", row["groups"])
        measured.append(rated(op, row["tflops"]))
    return _against("BF16, batched, of unfused attention", part, False, measured)


class Experts(NamedTuple):
    """The routed experts of a GPU, loads balanced."""

    hidden: int
    """Width of a token."""
    width: int
    """Width of an expert."""
    groups: int
    """Experts on the GPU."""
    rows: float
    """(token, expert) pairs that they compute."""
    tokens: int
    """Of the whole group, each of which gets a row of the output."""


def _expert_blocks(gpu: str, dtype: Dtype) -> Residuals:
    part = processor(gpu, own_grouped=False)
    table = inputs.table("expert_block")
    rows = [row for row in table if row["gpu"] == gpu and row["dtype"] == dtype]
    computed = [_block_seconds(part, _experts(row), dtype) for row in rows]
    return Residuals(
        group="grouped GEMM",
        name=f"{dtype}, forward pass of a GPU's experts, TensorRT-LLM",
        gpu=gpu,
        fitted=False,
        measured=column(rows, "us"),
        computed=np.array(computed),
    )


def _experts(row: dict[str, str]) -> Experts:
    groups = int(row["groups"])
    tokens = int(row["tokens"])
    pairs = tokens * int(row["top_k"])
    return Experts(
        hidden=int(row["hidden"]),
        width=int(row["width"]),
        groups=groups,
        rows=pairs * groups / int(row["experts"]),
        tokens=tokens,
    )


def _block_seconds(part: Processor, experts: Experts, dtype: Dtype) -> float:
    """Return the time of a GPU's experts in a benchmark loop [s]."""
    hidden, width, groups, rows, tokens = experts
    each = rows / groups
    first = gemm("", each, 2 * width, hidden, dtype, groups)
    second = gemm("", each, hidden, width, dtype, groups)
    around = (
        # Rows are gathered and cast, the activation is cast too, the results are added up.
        moved("", "permute", rows * hidden, 2.0 + BYTES[dtype]),
        moved("", "activation", rows * width, 4.0 + BYTES[dtype]),
        moved("", "permute", (rows + tokens) * hidden, 2.0),
    )
    multiplied = in_loop(part, first) + in_loop(part, second)
    moving = sum(part.kernel(op, overlapped=False) for op in around)
    return BLOCK[dtype] + multiplied + moving

"""GEMMs of single sources compared with the kernel tables; `gemm_grids` has the measured grids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from simulator import inputs
from simulator.ops.op import wgrad
from simulator.precision import Dtype
from simulator.residuals.rows import (
    Residuals,
    Timed,
    against_table,
    gemm_of,
    measured_table,
    processor,
    rated,
    wgrad_of,
)


def gemms() -> Iterator[Residuals]:
    """Yield every class of GEMM that was measured."""
    yield from _vidur_gemms()
    layer = measured_table("training_kernels")["megatron_layer"]
    blocks = measured_table("deepgemm_a6d97a1")["dense_and_contiguous"]
    per_tensor = measured_table("fp8_tensor_gemm")
    yield _rated("BF16, 8,192 tokens", "a100", False, layer["gemms"], "bf16")
    yield _rated("FP8, blocks", "h800", True, blocks, "fp8")
    yield _per_tensor(per_tensor["rows"])
    best = per_tensor["best_shapes"]
    yield _rated("FP8, per tensor, best shapes", "h100", False, best, "fp8_tensor")
    yield _weight_gradients()
    yield _in_training()


def _vidur_gemms() -> Iterator[Residuals]:
    """Return vidur's GEMMs (PyTorch of 2023, FP16): all but the smallest, and those of training."""
    for gpu, fewest in (("a100", 512), ("h100", 64)):
        rows = inputs.table(f"vidur_{gpu}_gemm")
        for tokens in (fewest, 2048):
            some = [row for row in rows if int(row["m"]) >= tokens]
            measured = [Timed(gemm_of(row, "bf16"), float(row["us"])) for row in some]
            name = f"BF16, vidur's of {tokens:,} and more tokens"
            yield against_table("GEMM", name, processor(gpu), False, measured)


def _per_tensor(rows: list[dict[str, Any]]) -> Residuals:
    measured = [Timed(gemm_of(row, "fp8_tensor"), row["us"]) for row in rows]
    return against_table("GEMM", "FP8, per tensor, FBGEMM's", processor("h100"), False, measured)


def _weight_gradients() -> Residuals:
    # While communication is in flight, in a process, on the SMs that it leaves: DeepSeek's profile.
    part = processor("h800", reserved_sms=20)
    measured, computed = [], []
    for row in measured_table("deepseek_v3_chunk")["fp8_wgrad_us"]:
        op = wgrad_of(row, "fp8")
        computed.append(part.kernel(op, overlapped=True))
        measured.append(float(np.mean(row["us"])) * 1e-6)
    return Residuals(
        group="GEMM",
        name="weight gradient FP8, blocks",
        gpu="h800",
        fitted=True,
        measured=np.array(measured),
        computed=np.array(computed),
    )


def _in_training() -> Residuals:
    """Return the weight gradients of GPT's layers in a training process, at its clock.

    The four GEMMs of each layer of a stage, profiled by zero-bubble's authors, mean over their
    numbers of micro-batches.
    """
    profile = inputs.data("published", "zero_bubble").data
    part = processor("a100")
    measured, computed = [], []
    for name, model in profile["models"].items():
        h = model["hidden"]
        tokens = model["micro_batch"] * model["seq_length"]
        shapes = ((3 * h, h), (h, h), (4 * h, h), (h, 4 * h))
        ops = [wgrad("", m, n, tokens, "bf16") for m, n in shapes]
        layer = sum(part.kernel(op, overlapped=False) for op in ops)
        computed.append(model["layers_per_stage"] * layer)
        times = [row["W"] for row in profile["rows"] if row["model"] == name]
        measured.append(float(np.mean(times)) * 1e-3)
    return Residuals(
        group="GEMM",
        name="BF16, weight gradients of stages in training, zero-bubble's",
        gpu="a100",
        fitted=False,
        measured=np.array(measured),
        computed=np.array(computed),
    )


def _rated(
    name: str, gpu: str, fitted: bool, rows: list[dict[str, Any]], dtype: Dtype
) -> Residuals:
    """Return GEMMs that were published as TFLOP/s."""
    measured = []
    for row in rows:
        op = gemm_of(row, dtype, row.get("groups", 1))
        measured.append(rated(op, row["tflops"]))
    return against_table("GEMM", name, processor(gpu), fitted, measured)

"""An op as data: what a kernel multiplies, moves and keeps. Seconds are `compute`'s business."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from simulator.model import ModelConfig
from simulator.precision import BYTES, Dtype, Recipe

KINDS = (
    "gemm", "wgrad", "attention", "attention_backward", "norm", "norm_backward", "fused_norm", "fused_norm_backward",
    "softmax", "softmax_backward", "quantise", "transpose", "cast_transpose", "rope", "copy", "elementwise",
    "activation", "bias_gelu", "bias_dropout_add", "residual_add", "dropout", "permute", "mapping", "router",
    "router_backward", "embedding", "loss", "optimizer",
)


@dataclass(frozen=True, slots=True)
class Op:
    """One kernel.

    flops: FLOPs that it executes. shape: (groups, m, n, k) of a GEMM; k is the width of a query head of attention.
    dtype: of its multiplication.
    bytes: moved from and to HBM [B]. saved: kept until the backward pass [B]. seq_length: of attention.
    recompute: the forward pass once more, so its FLOPs are not the model's.
    """

    name: str
    kind: str
    flops: float = 0.0
    shape: tuple[int, int, int, int] = (1, 0, 0, 0)
    dtype: Dtype = "bf16"
    bytes: float = 0.0
    saved: float = 0.0
    seq_length: int = 0
    recompute: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What one micro-batch asks of a layer on one GPU.

    tokens: tokens of the micro-batch on this GPU. expert_rows: (token, expert) pairs that its experts compute.
    received: tokens that dispatch brings to this GPU, each once. local_experts: experts on this GPU.
    recompute: names of what is computed again in the backward pass, see `precision.RECOMPUTE`.
    """

    model: ModelConfig
    recipe: Recipe
    tokens: int
    seq_length: int
    expert_rows: float = 0.0
    received: float = 0.0
    local_experts: int = 0
    recompute: frozenset[str] = frozenset()


def gemm(name: str, m: float, n: int, k: int, dtype: Dtype, groups: int = 1) -> Op:
    """Return the GEMM [m, k] x [k, n] of each of `groups` problems: 2 m n k FLOPs each, BF16 out."""
    rows = max(1, round(m))
    moved = groups * ((rows * k + n * k) * BYTES[dtype] + rows * n * 2.0)
    return Op(name, "gemm", 2.0 * groups * m * n * k, (groups, rows, n, k), dtype, moved)


def wgrad(name: str, m: int, n: int, k: float, dtype: Dtype, groups: int = 1) -> Op:
    """Return the weight gradient [m, n] += over k tokens, accumulated in FP32 (read and written)."""
    tokens = max(1, round(k))
    moved = groups * ((m * tokens + n * tokens) * BYTES[dtype] + m * n * 8.0)
    return Op(name, "wgrad", 2.0 * groups * m * n * k, (groups, m, n, tokens), dtype, moved)


def moved(name: str, kind: str, elements: float, each: float, saved: float = 0.0) -> Op:
    """Return a memory-bound op that moves `each` bytes per element [B]."""
    return Op(name, kind, bytes=elements * each, saved=saved)


def quantise(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the casts of GEMM inputs to the recipe's dtype. None where nothing is cast."""
    return tuple(moved("cast", recipe.cast, count, recipe.cast_bytes) for count in elements) if recipe.cast else ()


def transpose(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the transposes of FP8 weights before an input gradient: Hopper's FP8 GEMM reads K-major only."""
    return tuple(moved("weight transpose", "transpose", count, 2.0) for count in elements) if recipe.quantised else ()


def again(ops: Iterable[Op]) -> tuple[Op, ...]:
    """Return forward ops as the backward pass repeats them: nothing saved, FLOPs not the model's."""
    return tuple(replace(op, saved=0.0, recompute=True) for op in ops)


def keep(op: Op, saved: float) -> Op:
    """Return the op with bytes kept for the backward pass [B]."""
    return replace(op, saved=saved)

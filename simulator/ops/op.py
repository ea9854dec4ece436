"""Ops as data: what a kernel multiplies, moves and keeps, what a collective between kernels carries.

Seconds are `compute`'s business, links the network's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from simulator.model import ModelConfig
from simulator.precision import BYTES, Dtype, Recipe

KINDS = (
    "gemm",
    "wgrad",
    "attention",
    "attention_backward",
    "norm",
    "norm_backward",
    "fused_norm",
    "fused_norm_backward",
    "softmax",
    "softmax_backward",
    "quantise",
    "transpose",
    "cast_transpose",
    "rope",
    "copy",
    "elementwise",
    "activation",
    "bias_gelu",
    "bias_dropout_add",
    "residual_add",
    "dropout",
    "permute",
    "mapping",
    "router",
    "router_backward",
    "embedding",
    "loss",
    "optimizer",
)


@dataclass(frozen=True, slots=True)
class Op:
    """One kernel.

    flops: FLOPs that it executes. shape: (groups, m, n, k) of a GEMM; k is the width of a query
    head of attention. dtype: of its multiplication. bytes: moved from and to HBM [B]. saved: kept
    until the backward pass [B]. seq_length: of attention. recompute: the forward pass once more, so
    its FLOPs are not the model's.
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


LATE = -1
"""Of `Transfer.concurrent`: nothing in its phase waits for it, what takes the phase's output does."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A collective between the ops of a phase.

    group: tp, cp or etp, see `layout.GROUPS`. bytes: of the whole buffer, times the passes over it:
    1 of an all-gather or a reduce-scatter, 2 of an all-reduce [B]. concurrent: how many of the ops that
    follow do not wait for it, or LATE.
    """

    name: str
    group: str
    bytes: float
    concurrent: int = 0


Item: TypeAlias = Op | Transfer
Ops: TypeAlias = tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What one micro-batch asks of a layer on one GPU.

    tokens: that its GEMMs see: of the micro-batch, over cp. seq_length: of the whole sequence.
    expert_rows: (token, expert) pairs that its experts compute. received: tokens that dispatch
    brings to this GPU, each once. local_experts: experts on this GPU. recompute: names of what is
    computed again in the backward pass, see `precision.RECOMPUTE`. tp, cp, etp: degrees.
    sequence_parallel, tp_overlap, cp_gather: see LayoutConfig. unfused: attention as two batched
    GEMMs and a softmax.
    """

    model: ModelConfig
    recipe: Recipe
    tokens: int
    seq_length: int
    expert_rows: float = 0.0
    received: float = 0.0
    local_experts: int = 0
    recompute: frozenset[str] = frozenset()
    tp: int = 1
    cp: int = 1
    etp: int = 1
    sequence_parallel: bool = True
    tp_overlap: bool = False
    cp_gather: bool = False
    unfused: bool = False

    @property
    def own(self) -> float:
        """Return the tokens of the residual stream, the norms and the router on this GPU."""
        return self.tokens / self.tp if self.sequence_parallel else float(self.tokens)

    @property
    def heads(self) -> int:
        """Return the query heads on this GPU."""
        return self.model.num_attention_heads // self.tp

    @property
    def kv_heads(self) -> int:
        """Return the key and value heads on this GPU; fewer heads than GPUs are copied."""
        return max(1, self.model.kv_heads // self.tp)


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
    return (
        tuple(moved("cast", recipe.cast, count, recipe.cast_bytes) for count in elements)
        if recipe.cast
        else ()
    )


def by_channel(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the casts once more, by channel, for the weight gradient; none where one cast serves both GEMMs."""
    return () if recipe.casts_once else quantise(recipe, *elements)


def coded(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the casts of what is kept in fewer bits than BF16 until the backward pass, or back from them."""
    return quantise(recipe, *elements) if recipe.keeps_coded else ()


def transpose(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the transposes of FP8 weights before an input gradient: Hopper's FP8 GEMM reads K-major only.

    None where the cast writes the transpose too, once per step.
    """
    fresh = recipe.quantised and not recipe.casts_once
    return (
        tuple(moved("weight transpose", "transpose", count, 2.0) for count in elements)
        if fresh
        else ()
    )


def norm(recipe: Recipe, name: str, elements: float, kept: float = 0.0) -> Op:
    """Return a norm: reads 2 bytes, writes 2. kept: until the backward pass [B]."""
    return moved(name, recipe.norm, elements, 4.0, kept)


def norm_backward(recipe: Recipe, name: str, elements: float) -> Op:
    """Return a norm's backward pass: reads input and gradient, writes a gradient."""
    return moved(name, f"{recipe.norm}_backward", elements, 6.0)


def recomputed(ops: Iterable[Item]) -> Ops:
    """Return forward ops as the backward pass repeats them: nothing saved, FLOPs not the model's."""
    return tuple(replace(op, saved=0.0, recompute=True) if isinstance(op, Op) else op for op in ops)


def saved(ops: Iterable[Item]) -> float:
    """Return the bytes that ops keep until the backward pass [B]."""
    return sum(op.saved for op in ops if isinstance(op, Op))


def keep(op: Op, saved: float) -> Op:
    """Return the op with bytes kept for the backward pass [B]."""
    return replace(op, saved=saved)

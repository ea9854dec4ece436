"""Ops as data: what a kernel multiplies, moves and keeps, what a collective carries.

Seconds are `compute`'s business, links the network's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from simulator.hardware import FUSED, LayerKernels, ModelCode, Overlaps
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
    "compiled_norm",
    "compiled_norm_backward",
    "apex_norm",
    "apex_norm_backward",
    "softmax",
    "softmax_backward",
    "quantise",
    "transpose",
    "cast_transpose",
    "mx_cast",
    "nvfp4_cast",
    "amax",
    "rope",
    "copy",
    "shard_copy",
    "shard_cast",
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


class Shape(NamedTuple):
    """The problem of a GEMM: `groups` products [m, k] x [k, n]. Of attention groups and k."""

    groups: int = 1
    """Problems of equal size that one kernel solves; of attention sequences times heads."""
    m: int = 0
    """Rows of the output: tokens, or the outputs of a weight gradient."""
    n: int = 0
    """Columns of the output."""
    k: int = 0
    """What is summed over; of attention the width of a query head."""


_NO_SHAPE = Shape()


class Taken(NamedTuple):
    """What a transfer next to a GEMM takes from it."""

    seconds: float = 0.0
    """How long it lasts, alone [s]."""
    sms: int = 0
    """SMs that it holds."""
    margin: bool = False
    """Whether the GEMM is launched on the other SMs, and leaves these unused behind the transfer."""


_NONE_TAKEN = Taken()


# A named tuple: pricing makes tens of thousands of ops, and a frozen dataclass takes thrice as long.
class Op(NamedTuple):
    """One kernel, or several of a kind, see `launches`."""

    name: str
    """What the kernel does, for readers of a trace."""
    kind: str
    """Class of the kernel, one of KINDS: what the kernel table knows efficiencies of."""
    flops: float = 0.0
    """FLOPs that it executes; 0 of what only moves bytes."""
    shape: Shape = _NO_SHAPE
    """Problem of a GEMM, width of attention."""
    dtype: Dtype = "bf16"
    """Number format of what is multiplied."""
    bytes: float = 0.0
    """Moved from and to HBM [B]."""
    saved: float = 0.0
    """Kept until the backward pass [B]."""
    seq_length: int = 0
    """Of attention: tokens of the sequence that the kernel sees."""
    recompute: bool = False
    """Whether it repeats the forward pass, so that its FLOPs are not the model's."""
    launches: int = 1
    """Kernels that a host launches for it: more than one where one per expert or many small ones."""
    uneven: bool = False
    """Of a grouped GEMM: whether the rows of its problems differ, as those of experts do."""
    taken: Taken = _NONE_TAKEN
    """Of a GEMM: what a transfer next to it takes from it."""
    joins: bool = False
    """Whether it waits for the transfers that nothing in the phases before it waits for."""


AMAX_KERNELS = 3
"""Transformer Engine sets the largest value to zero, finds it, and makes a scale of it."""
LATE = -1
"""Of `Transfer.concurrent`: nothing in its phase waits for it, only what takes its output."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """A collective between the ops of a phase."""

    name: str
    """What travels, as traces show it."""
    group: str
    """Process group: tp, userbuffers, cp, cp_ring, ulysses or etp, see `layout.GROUPS`."""
    bytes: float
    """Of the whole buffer, times the passes over it [B].

    An all-gather or a reduce-scatter makes one pass, an all-reduce two.
    """
    concurrent: int = 0
    """How many of the ops that follow do not wait for it, or LATE."""


Item: TypeAlias = Op | Transfer
Ops: TypeAlias = tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """What one micro-batch asks of a layer on one GPU."""

    model: ModelConfig
    """The model whose layer it is."""
    recipe: Recipe
    """Number formats, and the kernels that cast between them."""
    tokens: int
    """That the layer's GEMMs see: those of the micro-batch, over cp."""
    seq_length: int
    """Of the whole sequence [tokens]."""
    expert_rows: float = 0.0
    """(token, expert) pairs that the GPU's experts compute."""
    received: float = 0.0
    """Copies of tokens that dispatch brings to this GPU: each once, or once per expert."""
    local_experts: int = 0
    """Routed experts on this GPU."""
    recompute: frozenset[str] = frozenset()
    """Names of what the backward pass recomputes instead of keeping, see `precision.RECOMPUTE`."""
    tp: int = 1
    """Degree of tensor parallelism."""
    cp: int = 1
    """Degree of context parallelism."""
    etp: int = 1
    """Degree of tensor parallelism of routed experts."""
    sequence_parallel: bool = True
    """See LayoutConfig.sequence_parallel."""
    tp_overlap: Overlaps = field(default_factory=dict)
    """How GEMMs overlap the collectives of tensor parallelism; see LayoutConfig.tp_comm_overlap."""
    tp_pass: float = 0.0
    """Time in which a byte of a buffer passes round the tensor parallel group, alone [s]."""
    cp_gather: bool = False
    """Whether keys and values are gathered before attention (LayoutConfig.cp_comm: all_gather)."""
    cp_heads: bool = False
    """Whether each context parallel rank has a part of the heads in attention (cp_comm: a2a)."""
    code: ModelCode = FUSED
    """What the stack's models run between GEMMs."""
    loss: str = "fused"
    """How the loss is computed, see `ops.loss`."""
    unfused: bool = False
    """Whether attention runs as two batched GEMMs and a softmax."""
    expert_kernels: str = "deepseek"
    """How the stack runs the routed experts, see `hardware.ExpertKernels`."""
    row_multiple: int = 1
    """What the rows of an expert are padded to before FP8 GEMMs; 1: they are not."""
    router_kernels: int = 1
    """Small kernels of the router in the forward pass, see `hardware.ExpertKernels`."""
    router_kernels_backward: int = 1
    """The same in the backward pass."""
    mapping_kernels: int = 1
    """Small kernels that map tokens to their experts."""
    norm: str = "fused_norm"
    """Kind of the stack's norms; `_backward` follows."""
    layers: LayerKernels = field(default_factory=LayerKernels)
    """What the stack's linear layers run besides their GEMMs."""
    sent: float = 0.0
    """Copies of tokens that this GPU writes before it sends them, and adds up when they are back;
    0 where the kernel that sends reads tokens in place."""

    @property
    def own(self) -> float:
        """Return the tokens of the residual stream, the norms and the router on this GPU."""
        if self.sequence_parallel:
            return self.tokens / self.tp
        return float(self.tokens)

    @property
    def heads(self) -> int:
        """Return the query heads on this GPU."""
        return self.model.num_attention_heads // self.tp

    @property
    def kv_heads(self) -> int:
        """Return the key and value heads on this GPU; fewer heads than GPUs are copied."""
        return max(1, self.model.kv_heads // self.tp)

    @property
    def attended_heads(self) -> int:
        """Return the key and value heads that attention reads.

        MLA expands a head of each per query head, and so do stacks that repeat heads.
        """
        return self.heads if self.model.is_mla or self.code.repeats_heads else self.kv_heads

    @property
    def rings(self) -> bool:
        """Tell whether attention is PyTorch's ring of kernels."""
        return self.cp > 1 and self.code.context == "ring" and not self.cp_heads


def gemm(name: str, m: float, n: int, k: int, dtype: Dtype, groups: int = 1) -> Op:
    """Return the GEMM [m, k] x [k, n] of each of `groups` problems: 2 m n k FLOPs, BF16 out."""
    # Rows are a mean over GPUs or experts and need not be an integer: the FLOPs are the mean's, the
    # kernel's shape is rounded.
    rows = max(1, round(m))
    read = (rows * k + n * k) * BYTES[dtype]
    written = rows * n * 2.0
    return Op(
        name,
        "gemm",
        flops=2.0 * groups * m * n * k,
        shape=Shape(groups, rows, n, k),
        dtype=dtype,
        bytes=groups * (read + written),
    )


def wgrad(name: str, m: int, n: int, k: float, dtype: Dtype, groups: int = 1) -> Op:
    """Return the weight gradient [m, n] over k tokens, added in FP32 (read and written)."""
    tokens = max(1, round(k))  # a mean as well, see `gemm`
    read = (m * tokens + n * tokens) * BYTES[dtype]
    # Gradients of many micro-batches add up, which BF16 would round away.
    accumulated = m * n * 8.0  # 4 B read, 4 B written
    return Op(
        name,
        "wgrad",
        flops=2.0 * groups * m * n * k,
        shape=Shape(groups, m, n, tokens),
        dtype=dtype,
        bytes=groups * (read + accumulated),
    )


def piece(whole: Op, count: int) -> Op:
    """Return one of the equal pieces of rows into which a GEMM is cut; each reads all weights."""
    _, m, n, k = whole.shape
    part = gemm(whole.name, m / count, n, k, whole.dtype)
    return whole._replace(flops=whole.flops / count, shape=part.shape, bytes=part.bytes)


def moved(
    name: str, kind: str, elements: float, bytes_per_element: float, saved: float = 0.0
) -> Op:
    """Return a memory-bound op.

    bytes_per_element: read and written [B]. saved: kept until the backward pass [B].
    """
    return Op(name, kind, bytes=elements * bytes_per_element, saved=saved)


def quantise(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the casts of GEMM inputs to the recipe's dtype; none where nothing is cast.

    Before each the tensor's largest value is found, where its scale follows from that.
    """
    if not recipe.cast:
        return ()
    ops: list[Op] = []
    for count in elements:
        if recipe.amax_bytes:
            largest = moved("largest value", "amax", count, recipe.amax_bytes)
            ops.append(largest._replace(launches=AMAX_KERNELS))
        cast = moved("cast", recipe.cast, count, recipe.cast_bytes)
        ops.append(cast._replace(launches=recipe.cast_kernels))
    return tuple(ops)


def by_channel(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the casts once more, by channel, for the weight gradient.

    None where one cast serves both GEMMs.
    """
    if recipe.casts_once:
        return ()
    return quantise(recipe, *elements)


def recast(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the casts of what was recomputed for the weight gradient.

    None where weight gradients have casts of their own in any case, see `by_channel`.
    """
    if not recipe.casts_once:
        return ()
    return quantise(recipe, *elements)


def coded(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the casts to, or from, the format in which activations wait for the backward pass.

    None where they are kept in BF16.
    """
    if not recipe.keeps_coded:
        return ()
    return quantise(recipe, *elements)


def transpose(recipe: Recipe, *elements: float) -> tuple[Op, ...]:
    """Return the transposes of FP8 weights before an input gradient.

    Hopper's FP8 GEMM reads K-major only. None where the cast writes the transpose too, once per
    step.
    """
    if recipe.casts_once or not recipe.quantised:
        return ()
    return tuple(moved("weight transpose", "transpose", count, 2.0) for count in elements)


def norm(work: Work, name: str, elements: float, kept: float = 0.0) -> Op:
    """Return a norm: reads 2 bytes, writes 2. kept: until the backward pass [B]."""
    return moved(name, work.norm, elements, 4.0, kept)


def norm_backward(work: Work, name: str, elements: float) -> Op:
    """Return a norm's backward pass: reads input and gradient, writes a gradient."""
    return moved(name, f"{work.norm}_backward", elements, 6.0)


def recomputed(ops: Iterable[Item]) -> Ops:
    """Return forward ops as the backward pass repeats them: nothing kept, FLOPs not the model's."""
    return tuple(_repeated(op) for op in ops)


def unkept(ops: Iterable[Item]) -> Ops:
    """Return ops that keep nothing, since they are recomputed as a whole."""
    return tuple(op._replace(saved=0.0) if isinstance(op, Op) else op for op in ops)


def _repeated(op: Item) -> Item:
    if isinstance(op, Transfer):
        return op
    return op._replace(saved=0.0, recompute=True)


def saved(ops: Iterable[Item]) -> float:
    """Return the bytes that ops keep until the backward pass [B]."""
    return sum(op.saved for op in ops if isinstance(op, Op))

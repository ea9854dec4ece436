"""What one micro-batch keeps of a block, and what is there besides while its passes run."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.costs.blocks import BlockMemory, Repeated
from simulator.model import BlockKind
from simulator.ops import BlockOps, Op, Ops, Work, saved, working
from simulator.precision import BYTES


def kept(
    kind: BlockKind, work: Work, ops: Sequence[BlockOps], whole: Sequence[Ops]
) -> tuple[BlockMemory, ...]:
    """Return the memory of each part of a block.

    ops: of each part, with what it recomputes. whole: the forward pass of each with nothing
    recomputed, which keeps more: the difference exists again for a while.
    """
    full = "full" in work.recompute and kind not in ("embedding", "head")
    needs = working(kind, work)
    repeated: Repeated = "full" if full else ""
    if "moe" in work.recompute:
        repeated = "experts"
    layer_input = 2.0 * work.own * work.model.hidden_size  # BF16
    parts = []
    for part, everything, need in zip(ops, whole, needs, strict=True):
        stays = layer_input if full else saved(part.forward)
        again = max(0.0, saved(everything) - stays)
        memory = BlockMemory(
            saved=stays,
            recompute=repeated if part.exchanges_experts or full else "",
            forward=need.forward,
            again=again,
            backward=need.backward,
            weights=_read_by_weights(part),
        )
        parts.append(memory)
    return tuple(parts)


def _read_by_weights(ops: BlockOps) -> float:
    """Return what the weight gradients of a block read [B].

    That is the input of each linear layer and the gradient of its output: what a split backward
    pass holds from the input gradient on (Zero Bubble, arXiv 2401.10241, table 1: 32 s b h of a GPT
    layer).
    """
    weights = (*ops.attention_w, *ops.mlp_w, *ops.side_w)
    return sum(_operands(op) for op in weights if isinstance(op, Op) and op.kind == "wgrad")


def _operands(op: Op) -> float:
    """Return the size of both operands of a weight gradient [m, n] over k tokens [B]."""
    shape = op.shape
    return float(shape.groups * (shape.m + shape.n) * shape.k) * BYTES[op.dtype]

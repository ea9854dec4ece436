"""What one micro-batch keeps of a block, and what is there besides while its passes run."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from simulator.costs.blocks import BlockMemory, Repeated
from simulator.ops import BlockOps, ForwardOps, Op, Work, saved, working
from simulator.precision import BYTES


class PartOps(NamedTuple):
    """What one part of a block runs."""

    name: str
    """A key of `ops.BLOCKS`."""
    ops: BlockOps
    """As the run does, with what it recomputes."""
    whole: ForwardOps
    """Its forward pass if nothing were recomputed."""


def unrepeated(work: Work) -> Work:
    """Return the same with nothing recomputed."""
    return replace(work, recompute=frozenset())


def kept(part: PartOps, work: Work, *, full: bool) -> BlockMemory:
    """Return the memory of a part. full: its block is recomputed as a whole."""
    repeated: Repeated = "full" if full else ""
    if "moe" in work.recompute:
        repeated = "experts"
    layer_input = 2.0 * work.own * work.model.hidden_size  # BF16
    stays = layer_input if full else saved(part.ops.forward)
    # With nothing recomputed it keeps more: the difference exists again for a while.
    again = max(0.0, saved(part.whole.attention + part.whole.mlp) - stays)
    need = working(part.name, work)
    return BlockMemory(
        saved=stays,
        recompute=repeated if part.ops.exchanges_experts or full else "",
        forward=need.forward,
        again=again,
        backward=need.backward,
        weights=_read_by_weights(part.ops),
    )


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

"""The ops of a block: F (forward), I (input gradient) and W (weight gradient), by phase.

This is the one place that knows which kernels a layer runs, how many FLOPs they execute, which
bytes they move and which they keep. A block is a tuple of phases per pass; expert traffic stands
between phases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from simulator.model import BlockKind
from simulator.ops import attention, embedding_head, ffn, linear, projections, routed, router
from simulator.ops.op import LATE, Op, Ops, Transfer, Work, saved
from simulator.ops.phases import Pass, Phase
from simulator.ops.working import Working, working

__all__ = [
    "BLOCKS",
    "LATE",
    "BlockOps",
    "ForwardOps",
    "Op",
    "Pass",
    "Phase",
    "Transfer",
    "Work",
    "Working",
    "block_ops",
    "forward_ops",
    "parts_of",
    "saved",
    "under_load",
    "working",
]


@dataclass(frozen=True, slots=True)
class BlockOps:
    """The ops of one block for one micro-batch, by phase. Empty phases cost nothing."""

    attention_f: Ops = ()
    """Forward pass up to dispatch; of a block without expert traffic, up to the FFN."""
    mlp_f: Ops = ()
    """Forward pass from there to its end."""
    mlp_b: Ops = ()
    """Input gradient of `mlp_f`."""
    mlp_w: Ops = ()
    """Weight gradients of `mlp_f` on the compute stream."""
    side_w: Ops = ()
    """Weight gradients of `mlp_f` on the side stream."""
    attention_b: Ops = ()
    """Input gradient of `attention_f`, up to its sum over the tensor parallel group."""
    attention_t: Ops = ()
    """What the input gradient does once that sum has arrived."""
    attention_w: Ops = ()
    """Weight gradients of `attention_f`."""
    exchanges_experts: bool = False
    """Whether tokens travel to routed experts between `attention_f` and `mlp_f`."""

    def __getitem__(self, phase: Phase) -> Ops:
        """Return the ops of a phase."""
        ops: Ops = getattr(self, phase.value)
        return ops

    @property
    def forward(self) -> Ops:
        """Return the forward pass."""
        return self.attention_f + self.mlp_f

    @property
    def backward(self) -> Ops:
        """Return the full backward pass."""
        return (
            self.mlp_b
            + self.mlp_w
            + self.side_w
            + self.attention_b
            + self.attention_t
            + self.attention_w
        )


class ForwardOps(NamedTuple):
    """The forward pass of one block for one micro-batch."""

    attention: Ops
    """As `BlockOps.attention_f`."""
    mlp: Ops = ()
    """As `BlockOps.mlp_f`."""

    def under_load(self, work: Work) -> ForwardOps:
        """Return the forward pass of a MoE block, which this is, under another load."""
        return self._replace(mlp=routed.experts_forward(work))


def _dense_forward(work: Work) -> ForwardOps:
    return ForwardOps(attention.forward(work), ffn.dense_forward(work))


def _dense(work: Work) -> BlockOps:
    forward = _dense_forward(work)
    gradient, tail = attention.input_gradient(work)
    return BlockOps(
        attention_f=forward.attention,
        mlp_f=forward.mlp,
        mlp_b=ffn.dense_backward(work),
        mlp_w=ffn.dense_wgrad(work),
        attention_b=gradient,
        attention_t=tail,
        attention_w=projections.weight_gradient(work),
    )


def _moe_forward(work: Work) -> ForwardOps:
    before_dispatch = (*attention.forward(work), *router.route(work))
    return ForwardOps(before_dispatch, routed.experts_forward(work))


def _moe(work: Work) -> BlockOps:
    gradient, tail = attention.input_gradient(work)
    rest = BlockOps(
        attention_f=(*attention.forward(work), *router.route(work)),
        attention_b=(*router.route_backward(work), *gradient),
        attention_t=tail,
        attention_w=projections.weight_gradient(work),
        exchanges_experts=True,
    )
    return _with_experts(rest, work)


def _with_experts(rest: BlockOps, work: Work) -> BlockOps:
    """Return a MoE block's ops with those between dispatch and combine."""
    mlp_w, side_w = routed.experts_wgrad(work)
    return replace(
        rest,
        mlp_f=routed.experts_forward(work),
        mlp_b=routed.experts_backward(work),
        mlp_w=mlp_w,
        side_w=side_w,
    )


def _embedding_forward(work: Work) -> ForwardOps:
    return ForwardOps(embedding_head.embed(work))


def _embedding(work: Work) -> BlockOps:
    return BlockOps(
        attention_f=_embedding_forward(work).attention,
        attention_w=embedding_head.embed_wgrad(work),
    )


def _head_forward(work: Work) -> ForwardOps:
    return ForwardOps(embedding_head.head_forward(work))


def _head(work: Work) -> BlockOps:
    gradient, tail = embedding_head.head_backward(work)
    return BlockOps(
        attention_f=_head_forward(work).attention,
        attention_b=gradient,
        attention_t=tail,
        attention_w=embedding_head.head_wgrad(work),
    )


def _mtp_input_forward(work: Work) -> ForwardOps:
    return ForwardOps(embedding_head.mtp_input_forward(work))


def _mtp_input(work: Work) -> BlockOps:
    return BlockOps(
        attention_f=_mtp_input_forward(work).attention,
        attention_b=embedding_head.mtp_input_backward(work),
        attention_w=embedding_head.mtp_input_wgrad(work),
    )


BLOCKS: dict[str, Callable[[Work], BlockOps]] = {
    "embedding": _embedding,
    "dense": _dense,
    "moe": _moe,
    "mtp_input": _mtp_input,
    "head": _head,
}
"""Kind of a block, or part of an MTP module -> all its ops."""

FORWARD: dict[str, Callable[[Work], ForwardOps]] = {
    "embedding": _embedding_forward,
    "dense": _dense_forward,
    "moe": _moe_forward,
    "mtp_input": _mtp_input_forward,
    "head": _head_forward,
}
"""The same kinds -> the ops of their forward pass alone."""


def block_ops(kind: BlockKind | str, work: Work) -> tuple[BlockOps, ...]:
    """Return a block's ops; an MTP module is an input projection, a layer and the shared head."""
    return tuple(_summed(BLOCKS[part](work), work) for part in parts_of(kind, work))


def under_load(ops: BlockOps, work: Work) -> BlockOps:
    """Return a MoE block's ops under another load: those of phases that depend on it are new.

    ops: of the block under any load, from `block_ops`. All others are spared, two thirds of a block.
    """
    return _mlp_summed(_with_experts(ops, work), work)


def _summed(ops: BlockOps, work: Work) -> BlockOps:
    """Return a block's ops with the kernels that add up weight gradients, where those are apart."""
    summed = _mlp_summed(ops, work)
    return replace(summed, attention_w=linear.added(work, ops.attention_w))


def _mlp_summed(ops: BlockOps, work: Work) -> BlockOps:
    """Return the same for what stands behind dispatch alone."""
    return replace(
        ops,
        mlp_w=linear.added(work, ops.mlp_w),
        side_w=linear.added(work, ops.side_w),
    )


def forward_ops(kind: BlockKind | str, work: Work) -> tuple[ForwardOps, ...]:
    """Return the forward pass of each part of a block, as `BlockOps.forward` of `block_ops`.

    A caller that only asks what is kept is spared the backward pass, two thirds of all ops.
    """
    return tuple(FORWARD[part](work) for part in parts_of(kind, work))


def parts_of(kind: BlockKind | str, work: Work) -> tuple[str, ...]:
    """Return the keys of BLOCKS that a kind of block consists of."""
    if kind != "mtp":
        return (kind,)
    layer = work.model.layer_kind(work.model.num_hidden_layers)
    return ("mtp_input", layer, "head")

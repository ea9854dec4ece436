"""The ops of one action on one rank, on streams, with what waits for what.

The order of an overlapped pair is the one that DeepSeek's published profile shows, layer pair by
layer pair:

    compute:        attn(F)     mlp(B)       mlp(W) mlp(F)   attn(B)  attn(W)
    communication:  combine(B)  dispatch(F)  dispatch(B)     combine(F)   next combine(B)
    side:                                    half of the experts' mlp(W)

`next combine(B)` is that of the next pair, which runs while attn(W) does. `combine(B)`, the
gradient of combine, is a dispatch over the layout of the forward pass; `dispatch(B)` is a combine.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from simulator.costs import Part
from simulator.ops import Phase
from simulator.program.chunk_rows import (
    COMBINE_B,
    COMBINE_F,
    DISPATCH_B,
    DISPATCH_F,
    GRADIENT_INPUT,
    After,
    Block,
    Chunk,
    Done,
    Recomputed,
)
from simulator.schedules import Kind


class _Run(NamedTuple):
    """Blocks without expert traffic, and the block with expert traffic that ends them, if any."""

    lone: Sequence[Block]
    """Blocks whose tokens stay on their GPU."""
    moe: Block | None
    """Block that exchanges tokens."""


class _Around(NamedTuple):
    """The blocks of a pass: its layers, and what stands around them."""

    first: Sequence[Block]
    """Embedding or head in front of the layers."""
    layers: Sequence[Block]
    """Layers, MTP modules among them; a head that an MTP module follows too."""
    last: Sequence[Block]
    """Embedding or head behind the layers."""


class Pairing(NamedTuple):
    """How a pair runs its blocks."""

    by_layer: bool = False
    """Whether each layer of one half is paired with one of the other, dense ones too, as Megatron-LM
    does (core/models/common/model_chunk_schedule_plan.py); else MoE layers, as in DualPipe."""
    delayed: bool = True
    """Whether weight gradients of an MLP run behind the exchange that its input gradient goes to."""

    @property
    def late_weights(self) -> bool:
        """Tell whether a layer computes weight gradients when its input gradient has left, in pairs and alone.

        So does Megatron-LM with delay_wgrad_compute (backward_dw in model_chunk_schedule_plan.py). Of
        tensor parallel layers the sum over the group has nothing left to hide behind then, for it is
        waited for in front of the norm's gradient (Transformer Engine, pytorch/module/linear.py).
        """
        return self.by_layer and self.delayed


DUALPIPE = Pairing()


class Halves(NamedTuple):
    """The blocks of an action, in forward order."""

    ahead: Sequence[Block]
    """Of its stage, of a pair that of its forward half."""
    back: Sequence[Block]
    """Of the stage of a pair's backward half, else none."""


def halves(ahead: Sequence[Part], back: Sequence[Part] = ()) -> Halves:
    """Return the blocks of an action. ahead, back: blocks of the stages of its halves."""
    blocks: list[Block] = []
    segment = 0
    for half, parts in enumerate((ahead, back)):
        for part in parts:
            place = len(blocks)
            blocks.append(Block(half, part.number, part.is_layer, part.cost, place, segment))
            segment += len(part.cost.columns.counted)
    return Halves(blocks[: len(ahead)], blocks[len(ahead) :])


def chunk(kind: Kind, blocks: Halves, pairing: Pairing = DUALPIPE) -> Chunk:
    """Return the rows of one action."""
    rows = Chunk()
    ahead, back = blocks
    if kind == "FB":
        if pairing.by_layer:
            _layers(rows, _around(ahead), _around(back[::-1]), pairing)
        else:
            _pairs(rows, ahead, back[::-1])
    elif kind == "F":
        for block in ahead:
            _forward(rows, block)
    elif kind == "W":
        for block in reversed(ahead):
            _weights(rows, block)
    else:
        for block in reversed(ahead):
            if kind == "B":
                _lone_backward(rows, block, pairing)
            else:
                _backward(rows, block, weights=False)
    return rows


def _forward(rows: Chunk, block: Block) -> None:
    """Add a forward pass."""
    rows.begins.setdefault(block.mark("F"), len(rows.stream))
    rows.forward_out = _layer(rows, block, rows.forward_out)


def _recompute(rows: Chunk, block: Block) -> None:
    """Add what recompute repeats of the forward pass, once the gradient has come."""
    # It does not read the gradient; run earlier, its outputs would be kept for longer.
    begin = len(rows.counted)
    whole = block.cost.recompute == "full"
    rows.gradient_out = _layer(rows, block, rows.gradient_out, attention=whole)
    rows.recomputed.append(Recomputed(begin, len(rows.counted)))


def _layer(rows: Chunk, block: Block, after: After, *, attention: bool = True) -> After:
    """Add the forward pass of a block, or of its experts; return the rows that make its output."""
    if attention:
        after = rows.compute(block, Phase.ATTENTION_F, after).output
    arrived = rows.exchange_tokens(block, DISPATCH_F, after)
    mlp = rows.compute(block, Phase.MLP_F, arrived)
    return rows.exchange_tokens(block, COMBINE_F, mlp.output)


def _backward(rows: Chunk, block: Block, *, weights: bool) -> None:
    """Add a backward pass outside of a pair.

    weights: with weight gradients, as autograd runs it, where nothing overlaps expert traffic: a
    linear layer's weight gradient is computed in place, together with its input gradient, before
    the next exchange (github deepseek-ai/DualPipe, examples; Megatron-LM likewise).
    """
    rows.begins.setdefault(block.mark("B"), len(rows.stream))
    if block.cost.recompute:
        _recompute(rows, block)
    arrived = rows.exchange_tokens(block, COMBINE_B, rows.gradient_out)
    mlp = rows.compute(block, Phase.MLP_B, arrived)
    if weights:
        last = _mlp_weights(rows, block, mlp)
        # What reads the input gradient comes behind the weight gradients, and waits for transfers
        # of either.
        mlp = Done(last, late=(*mlp.late, *mlp.gathered))
    home = rows.exchange_tokens(block, DISPATCH_B, mlp.output)
    attention = rows.compute(block, Phase.ATTENTION_B, home)
    end = attention
    if weights:
        late = attention.late
        end = rows.compute(block, Phase.ATTENTION_W, attention.saved, late=late)
    # The norm's gradient needs the sum over the tensor parallel group, which travels while weight
    # gradients run, so it comes behind these.
    after = (*end.kernels, *attention.output)
    tail = rows.compute(block, Phase.ATTENTION_T, after)
    rows.gradient_out = tail.output
    if weights:
        rows.ends[block.mark("B")] = rows.last_kernels()


def _backward_alone(rows: Chunk, block: Block) -> None:
    """Add a backward pass outside of a pair whose weight gradients run behind what they leave to others.

    That is what Megatron-LM's schedule plan runs where no micro-batch's forward pass is left.
    """
    rows.begins.setdefault(block.mark("B"), len(rows.stream))
    if block.cost.recompute:
        _recompute(rows, block)
    arrived = rows.exchange_tokens(block, COMBINE_B, rows.gradient_out)
    mlp = rows.compute(block, Phase.MLP_B, arrived)
    _mlp_weights(rows, block, mlp)
    home = rows.exchange_tokens(block, DISPATCH_B, mlp.output)
    _attention_backward(rows, block, home)


def _attention_backward(rows: Chunk, block: Block, after: After) -> None:
    """Add the end of a backward pass whose weight gradients come last."""
    attention = rows.compute(block, Phase.ATTENTION_B, after)
    tail = rows.compute(block, Phase.ATTENTION_T, attention.output)
    rows.gradient_out = tail.output
    rows.compute(block, Phase.ATTENTION_W, attention.saved)
    rows.ends[block.mark("B")] = rows.last_kernels()


def _mlp_weights(rows: Chunk, block: Block, mlp: Done) -> After:
    """Add the weight gradients of `MLP_F`. mlp: its input gradient."""
    # A persistent GEMM keeps its SMs to its end, so the side stream's kernels come between those of
    # the compute stream.
    after, late = mlp.saved, mlp.late
    first = rows.compute(block, Phase.MLP_W, after, late=late)
    return rows.compute(block, Phase.SIDE_W, first.output).output


def _weights(rows: Chunk, block: Block) -> None:
    """Add the weight gradients of a split backward pass."""
    # Blocks follow each other; what the first one reads an earlier action of the rank has made.
    before = (len(rows.stream) - 1,) if rows.stream else (GRADIENT_INPUT,)
    _mlp_weights(rows, block, Done(before))
    rows.compute(block, Phase.ATTENTION_W, before)
    rows.ends[block.mark("B")] = rows.last_kernels()


def _pairs(rows: Chunk, ahead: Sequence[Block], back: Sequence[Block]) -> None:
    """Pair the MoE blocks of both directions; the others run alone as soon as their turn comes."""
    nothing = _Run([], None)
    for forward, backward in zip_longest(_runs(ahead), _runs(back), fillvalue=nothing):
        for block in forward.lone:
            _forward(rows, block)
        for block in backward.lone:
            _backward(rows, block, weights=True)
        if forward.moe and backward.moe:
            _pair(rows, forward.moe, backward.moe, DUALPIPE)
        elif forward.moe:
            _forward(rows, forward.moe)
        elif backward.moe:
            _backward(rows, backward.moe, weights=True)


def _layers(rows: Chunk, ahead: _Around, back: _Around, pairing: Pairing) -> None:
    """Pair layers in the order of their passes; what one half has more of follows, backward first.

    The embedding runs before all forward layers and behind all backward ones, the head the other
    way round.
    """
    for block in ahead.first:
        _forward(rows, block)
    for block in back.first:
        _lone_backward(rows, block, pairing)
    together = min(len(ahead.layers), len(back.layers))
    for forward, backward in zip(ahead.layers, back.layers, strict=False):
        _pair(rows, forward, backward, pairing)
    for block in back.layers[together:]:
        _lone_backward(rows, block, pairing)
    for block in (*ahead.layers[together:], *ahead.last):
        _forward(rows, block)
    for block in back.last:
        _lone_backward(rows, block, pairing)


def _lone_backward(rows: Chunk, block: Block, pairing: Pairing) -> None:
    """Add the full backward pass of a block that is paired with none."""
    if pairing.late_weights:
        _backward_alone(rows, block)
    else:
        _backward(rows, block, weights=True)


def _around(blocks: Sequence[Block]) -> _Around:
    """Return the blocks of a pass, in its order, cut at the first and behind the last layer."""
    layers = [place for place, block in enumerate(blocks) if block.is_layer]
    if not layers:
        return _Around(blocks, [], [])
    begin, end = layers[0], layers[-1] + 1
    return _Around(blocks[:begin], blocks[begin:end], blocks[end:])


def _runs(blocks: Sequence[Block]) -> list[_Run]:
    """Cut blocks behind each block with expert traffic."""
    runs: list[_Run] = []
    lone: list[Block] = []
    for block in blocks:
        if block.cost.exchanges_experts:
            runs.append(_Run(lone, block))
            lone = []
        else:
            lone.append(block)
    if lone:
        runs.append(_Run(lone, None))
    return runs


def _pair(rows: Chunk, forward: Block, backward: Block, pairing: Pairing) -> None:
    """Add a forward and a backward pass of two blocks, each overlapping the other's exchange."""
    rows.begins.setdefault(forward.mark("F"), len(rows.stream))
    rows.begins.setdefault(backward.mark("B"), len(rows.stream))
    if backward.cost.recompute:
        _recompute(rows, backward)
    # Rows of a stream run in the order in which they are added, so these lines are in the order of
    # the profile: see the figure above.
    arrived_b = rows.exchange_tokens(backward, COMBINE_B, rows.gradient_out)
    attention_f = rows.compute(forward, Phase.ATTENTION_F, rows.forward_out)
    mlp_b = rows.compute(backward, Phase.MLP_B, arrived_b)
    arrived_f = rows.exchange_tokens(forward, DISPATCH_F, attention_f.output)
    if pairing.late_weights:  # launched in front of the exchange, which does not wait for them
        _mlp_weights(rows, backward, mlp_b)
        home_b = rows.exchange_tokens(backward, DISPATCH_B, mlp_b.output)
    elif pairing.delayed:
        home_b = rows.exchange_tokens(backward, DISPATCH_B, mlp_b.output)
        _mlp_weights(rows, backward, mlp_b)
    else:
        last = _mlp_weights(rows, backward, mlp_b)
        done = Done(last, late=(*mlp_b.late, *mlp_b.gathered))
        home_b = rows.exchange_tokens(backward, DISPATCH_B, done.output)
    mlp_f = rows.compute(forward, Phase.MLP_F, arrived_f)
    rows.forward_out = rows.exchange_tokens(forward, COMBINE_F, mlp_f.output)
    if pairing.late_weights:
        _attention_backward(rows, backward, home_b)
        return
    attention_b = rows.compute(backward, Phase.ATTENTION_B, home_b)
    weights = rows.compute(backward, Phase.ATTENTION_W, attention_b.saved)
    after = attention_b.output
    if not pairing.delayed:
        after = (*weights.kernels, *after)
    tail = rows.compute(backward, Phase.ATTENTION_T, after)
    rows.gradient_out = tail.output
    rows.ends[backward.mark("B")] = rows.last_kernels()

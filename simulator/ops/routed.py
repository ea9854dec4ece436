"""The routed experts of a MoE layer with the shared ones, between dispatch and combine."""

from __future__ import annotations

from simulator.ops import expert_kernels, parallel, router
from simulator.ops.attention import residual
from simulator.ops.ffn import Ffn, backward, forward, norm_recomputed, repeats, weights
from simulator.ops.op import (
    Op,
    Ops,
    Work,
    by_channel,
    moved,
    quantise,
    recomputed,
    transpose,
    unkept,
)
from simulator.ops.shared import shared_backward, shared_forward, shared_wgrad
from simulator.precision import BYTES


def _routed(work: Work) -> Ffn:
    width = work.model.moe_intermediate_size // work.etp
    rows = expert_kernels.padded_rows(work)
    # The activation of routed experts has a name of its own next to that of all.
    name = "moe_act" if "moe_act" in work.recompute else "swiglu"
    again = repeats(work, name, "moe")
    return Ffn(work, rows, width, work.local_experts, expert_kernels.launches(work), again)


def _cast_received(work: Work) -> Ops:
    """Return the cast of the experts' input, where tokens travel in another format."""
    if router.travels_cast(work):
        return ()
    casts = quantise(work.recipe, expert_kernels.padded_rows(work) * work.model.hidden_size)
    return expert_kernels.per_expert(work, casts)


def _added(work: Work) -> Ops:
    """Return the additions behind combine: of the shared experts' output, and to the residual stream.

    Megatron-LM: core/transformer/moe/moe_layer.py (output + shared_expert_output) and mlp_bda of
    core/transformer/transformer_layer.py; models in plain PyTorch likewise. DeepSeek's stack was
    profiled as a whole, and shows neither.
    """
    if work.expert_kernels == "deepseek":
        return ()
    both = moved("add shared experts", "residual_add", work.own * work.model.hidden_size, 6.0)
    shared = (both,) if work.model.shared_expert_width else ()
    return (*shared, residual(work))


def experts_forward(work: Work) -> Ops:
    """Return the shared and routed experts of a MoE layer, between dispatch and combine."""
    model = work.model
    h = model.hidden_size
    # An expert tensor group gathers what each of its members received, and each of them computes
    # its part of all rows.
    rows = work.expert_rows
    received = work.received * work.etp
    weight = work.local_experts * model.expert_parameters / work.etp
    dispatched = BYTES[work.recipe.dispatch]
    ops: Ops = (
        *shared_forward(work),
        *parallel.gather_tokens(work, "gather received tokens"),
        moved("count and map", "mapping", work.own * model.n_routed_experts, 1.0)._replace(
            launches=work.mapping_kernels
        ),
        # One copy of a token comes for all experts of this GPU; each gets its own. Of an all-gather
        # most copies are for others, and are not read.
        moved("expand", "permute", (min(received, rows) + rows) * h, dispatched),
        *expert_kernels.pad(work, "pad"),
        *_cast_received(work),
        *transpose(work.recipe, weight),
        *forward(_routed(work)).ops,
        *expert_kernels.pad(work, "remove padding"),
        moved("reduce", "permute", (rows + received) * h, 2.0),
        *parallel.scatter_tokens(work, "scatter results"),
        # Runs behind combine, after which this block has no phase left.
        *router.permute(work, "unpermute results", 2.0),
        *_added(work),
        # The weight gradients read what dispatch brought, or the rows that were picked from it.
        Op("received tokens", "copy", saved=dispatched * min(received, rows) * h),
    )
    return unkept(ops) if "moe" in work.recompute else ops


def experts_backward(work: Work) -> Ops:
    """Return the input gradient of the shared and routed experts."""
    h = work.model.hidden_size
    rows = work.expert_rows
    received = work.received * work.etp
    inner, outer = backward(_routed(work))
    dispatched = BYTES[work.recipe.dispatch]
    # Experts and their exchanges are run once more by the program, in front of this.
    again: Ops = recomputed(router.route(work)) if "moe" in work.recompute else ()
    return (
        *again,
        *shared_backward(work),
        *router.permute(work, "permute result gradients", dispatched),
        *parallel.gather_tokens(work, "gather result gradients"),
        moved("expand gradients", "permute", (min(received, rows) + rows) * h, dispatched),
        *expert_kernels.pad(work, "pad gradients"),
        *_cast_received(work),
        *inner,
        *outer,
        *expert_kernels.pad(work, "remove padding of gradients"),
        *norm_recomputed(work),
        moved("reduce gradients", "permute", (rows + received) * h, 2.0),
        *parallel.scatter_tokens(work, "scatter token gradients"),
    )


def experts_wgrad(work: Work) -> tuple[Ops, Ops]:
    """Return the weight gradients as (compute stream, side stream).

    Every other kernel of the routed experts goes to the side.
    """
    rows = expert_kernels.padded_rows(work) * work.model.hidden_size
    casts = expert_kernels.per_expert(work, by_channel(work.recipe, rows, rows))
    routed = weights(_routed(work))
    on_compute: Ops = routed
    on_side: Ops = ()
    if work.expert_kernels == "deepseek":
        # Alternate kernels run next to each other: halves of equal length on two streams.
        on_compute, on_side = routed[0::2], routed[1::2]
    return (*casts, *shared_wgrad(work), *on_compute), on_side

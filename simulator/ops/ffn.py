"""The FFN half of a layer: dense, shared and routed experts, forward, input and weight gradient.

The kernels and their order are those of DeepSeek's published profile (github
deepseek-ai/profile-data, train.json). Dense and shared FFNs are cut over the tensor parallel group,
routed experts over the expert tensor group.
"""

from __future__ import annotations

from simulator.ops import parallel
from simulator.ops.attention import residual
from simulator.ops.op import (
    Op,
    Ops,
    Work,
    by_channel,
    coded,
    gemm,
    moved,
    norm,
    quantise,
    recomputed,
    transpose,
    wgrad,
)
from simulator.precision import BYTES


def _widths(work: Work, width: int) -> int:
    """Return the outputs of an FFN's first layer: gate and up together, or the one matrix of an ungated FFN."""
    return 2 * width if work.model.gated else width


def _activation(work: Work) -> str:
    """Return the kind of the activation's kernel."""
    return "activation" if work.model.gated else "bias_gelu"


def forward(work: Work, rows: float, width: int, groups: int = 1) -> Ops:
    """Return the first layer, the activation and the second layer.

    Over `rows` rows [rows, h] in `groups` equal groups, each with weights of its own; width: on
    this GPU.
    """
    recipe, h, m, wide = work.recipe, work.model.hidden_size, rows / groups, _widths(work, width)
    # The activation's inputs are kept in FP8 in DeepSeek-V3: arXiv 2412.19437, section 3.3.3
    inputs = (recipe.activation if recipe.keeps_coded else 2.0) * rows * wide
    out = 0.0 if "swiglu" in work.recompute else recipe.activation * rows * width
    # Reads the first layer's output in BF16, writes the second layer's input: DeepSeek's kernel
    # writes FP8.
    each = 2.0 * wide / width + (1.0 if recipe.keeps_coded else 2.0)
    return (
        gemm("gate+up", m, wide, h, recipe.gemm, groups),
        Op("activation", _activation(work), bytes=rows * width * each, saved=inputs + out),
        *(() if recipe.keeps_coded else quantise(recipe, rows * width)),
        gemm("down", m, h, width, recipe.gemm, groups),
        *coded(recipe, rows * wide),
    )


def backward(work: Work, rows: float, width: int, groups: int = 1) -> tuple[Ops, Ops]:
    """Return the input gradient of `forward` as (up to the activation, the first layer).

    The casts by channel that the weight gradients read are included.
    """
    recipe, h, m, wide = work.recipe, work.model.hidden_size, rows / groups, _widths(work, width)
    activation = moved("activation", _activation(work), rows * width, 2.0 * wide / width + 2.0)
    return (
        (
            *coded(recipe, rows * wide),  # back to BF16
            *transpose(recipe, groups * width * h),
            gemm("down dgrad", m, width, h, recipe.gemm, groups),
            *(recomputed((activation,)) if "swiglu" in work.recompute else ()),
            # Reads the gradient and the inputs, writes their gradients.
            moved("activation backward", _activation(work), rows * width, 2.0 + 4.0 * wide / width),
            *by_channel(recipe, rows * width),
            *transpose(recipe, groups * wide * h),
        ),
        (
            *quantise(recipe, rows * wide),
            gemm("gate+up dgrad", m, h, wide, recipe.gemm, groups),
            *by_channel(recipe, rows * wide),
        ),
    )


def weights(work: Work, rows: float, width: int, groups: int = 1) -> Ops:
    """Return the weight gradients of both layers, one kernel per group as the profile shows."""
    recipe, h, k = work.recipe, work.model.hidden_size, rows / groups
    down = tuple(wgrad("down wgrad", h, width, k, recipe.gemm) for _ in range(groups))
    return (
        *down,
        *(wgrad("gate+up wgrad", _widths(work, width), h, k, recipe.gemm) for _ in range(groups)),
    )


def dense_forward(work: Work) -> Ops:
    """Return a dense FFN with the addition to the residual stream."""
    width, t, h = work.model.intermediate_size // work.tp, work.tokens, work.model.hidden_size
    ops = forward(work, t, width)
    shared = work.model.parallel_residual  # the attention has gathered it
    before = quantise(work.recipe, t * h) if shared else parallel.cast_and_gather(work)
    return (*before, *ops[:2], *parallel.scatter(work, ops[2:]), residual(work))


def dense_backward(work: Work) -> Ops:
    """Return the input gradient of a dense FFN."""
    t, h = work.tokens, work.model.hidden_size
    inner, outer = backward(work, t, work.model.intermediate_size // work.tp)
    # A parallel FFN's gradient is added to the attention's before both are summed over the group.
    outer = outer if work.model.parallel_residual else parallel.input_gradient(work, outer)
    dropped = (
        (moved("dropout backward", "dropout", work.own * h, 5.0),) if work.model.layer_norm else ()
    )
    return (
        *dropped,
        *parallel.cast_and_gather(work, "gather output gradient"),
        *by_channel(work.recipe, t * h),
        *_norm_recomputed(work),
        *inner,
        *outer,
    )


def dense_wgrad(work: Work) -> Ops:
    """Return the weight gradients of a dense FFN."""
    return weights(work, work.tokens, work.model.intermediate_size // work.tp)


def route(work: Work) -> Ops:
    """Return the router and the cast before dispatch: the end of a MoE layer's attention phase."""
    model, t, h = work.model, work.own, work.model.hidden_size
    return (
        gemm("router", t, model.n_routed_experts, h, "bf16"),
        moved("top-k", "router", t * model.n_routed_experts, 4.0),
        *(quantise(work.recipe, t * h) if _travels_cast(work) else ()),
    )


def _travels_cast(work: Work) -> bool:
    """Tell whether tokens are cast before dispatch, and not where the experts read them."""
    return work.recipe.dispatch == work.recipe.gemm


def route_backward(work: Work) -> Ops:
    """Return the router's gradients: the start of a MoE layer's attention backward phase."""
    model, t, h = work.model, work.own, work.model.hidden_size
    return (
        moved("top-k backward", "router_backward", t * model.n_routed_experts, 4.0),
        gemm("router dgrad", t, h, model.n_routed_experts, "bf16"),
        gemm("router wgrad", model.n_routed_experts, h, round(t), "bf16"),
    )


def experts_forward(work: Work) -> Ops:
    """Return the shared and routed experts of a MoE layer, between dispatch and combine."""
    model, h, width = (
        work.model,
        work.model.hidden_size,
        work.model.moe_intermediate_size // work.etp,
    )
    recipe, rows, weight = (
        work.recipe,
        work.expert_rows,
        work.local_experts * work.model.expert_parameters / work.etp,
    )
    received = work.received * work.etp
    # What dispatch brought is kept as the input of the weight gradients.
    each = BYTES[recipe.dispatch]
    arrived = Op("received tokens", "copy", saved=each * received * h)
    return (
        *_shared_forward(work),
        *parallel.gather_tokens(work, "gather received tokens"),
        moved("count and map", "mapping", work.own * model.n_routed_experts, 1.0),
        moved("expand", "permute", (received + rows) * h, each),
        *(() if _travels_cast(work) else quantise(recipe, rows * h)),
        *transpose(recipe, weight),
        *forward(work, rows, width, work.local_experts),
        moved("reduce", "permute", (rows + received) * h, 2.0),
        *parallel.scatter_tokens(work, "scatter results"),
        arrived,
    )


def experts_backward(work: Work) -> Ops:
    """Return the input gradient of the shared and routed experts."""
    h, rows, received = work.model.hidden_size, work.expert_rows, work.received * work.etp
    inner, outer = backward(
        work, rows, work.model.moe_intermediate_size // work.etp, work.local_experts
    )
    return (
        *_shared_backward(work),
        *parallel.gather_tokens(work, "gather result gradients"),
        moved("expand gradients", "permute", (received + rows) * h, BYTES[work.recipe.dispatch]),
        *(() if _travels_cast(work) else quantise(work.recipe, rows * h)),
        *inner,
        *outer,
        *_norm_recomputed(work),
        moved("reduce gradients", "permute", (rows + received) * h, 2.0),
        *parallel.scatter_tokens(work, "scatter token gradients"),
    )


def experts_wgrad(work: Work) -> tuple[Ops, Ops]:
    """Return the weight gradients as (compute stream, side stream): every other routed expert goes to the side."""
    model, recipe, rows = work.model, work.recipe, work.expert_rows
    casts = by_channel(recipe, rows * model.hidden_size, rows * model.hidden_size)
    routed = weights(work, rows, model.moe_intermediate_size // work.etp, work.local_experts)
    shared = weights(work, work.tokens, _shared_width(work)) if _shared_width(work) else ()
    return (*casts, *shared, *routed[0::2]), routed[1::2]


def _shared_width(work: Work) -> int:
    return work.model.shared_expert_width // work.tp


def _shared_forward(work: Work) -> Ops:
    if not _shared_width(work):
        return ()
    return (
        *parallel.gather(work),
        *parallel.scatter(work, forward(work, work.tokens, _shared_width(work))),
    )


def _shared_backward(work: Work) -> Ops:
    """Return the input gradient of the shared experts; the sum over their group is waited for with the routed ones'."""
    if not _shared_width(work):
        return ()
    inner, outer = backward(work, work.tokens, _shared_width(work))
    return (
        *parallel.gather(work, "gather output gradient"),
        *inner,
        *parallel.input_gradient(work, outer),
    )


def _norm_recomputed(work: Work) -> Ops:
    if "norm" not in work.recompute:
        return ()
    width = work.own * work.model.hidden_size
    return recomputed((norm(work.recipe, "post norm", width), *quantise(work.recipe, width)))

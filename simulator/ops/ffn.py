"""The FFN half of a layer: dense, shared and routed experts, forward, input and weight gradient.

The kernels and their order are those of DeepSeek's published profile (github deepseek-ai/profile-data, train.json).
"""

from __future__ import annotations

from simulator.ops.op import Op, Work, again, gemm, moved, quantise, transpose, wgrad


def gated_forward(work: Work, rows: float, width: int, groups: int = 1) -> tuple[Op, ...]:
    """Return gate+up, SwiGLU and down over `rows` rows [rows, h] in `groups` equal groups of its own weights."""
    recipe, h, m = work.recipe, work.model.hidden_size, rows / groups
    swiglu_out = 0.0 if "swiglu" in work.recompute else recipe.activation * rows * width
    kept = recipe.activation * rows * 2 * width + swiglu_out
    each = 5.0 if recipe.quantised else 6.0  # reads gate and up in BF16, writes FP8 or BF16
    return (
        gemm("gate+up", m, 2 * width, h, recipe.gemm, groups),
        Op("swiglu", "activation", bytes=rows * width * each, saved=kept),
        gemm("down", m, h, width, recipe.gemm, groups),
        *quantise(recipe, rows * 2 * width),  # SwiGLU's inputs are kept in FP8: section 3.3.3
    )


def gated_backward(work: Work, rows: float, width: int, groups: int = 1) -> tuple[Op, ...]:
    """Return the input gradient of `gated_forward`; the casts by channel that the weight gradients read included."""
    recipe, h, m = work.recipe, work.model.hidden_size, rows / groups
    swiglu = moved("swiglu", "activation", rows * width, 6.0)
    return (
        *quantise(recipe, rows * 2 * width),  # back to BF16
        *transpose(recipe, groups * width * h),
        gemm("down dgrad", m, width, h, recipe.gemm, groups),
        *(again((swiglu,)) if "swiglu" in work.recompute else ()),
        moved("swiglu backward", "activation", rows * width, 10.0),
        *quantise(recipe, rows * width),
        *transpose(recipe, groups * 2 * width * h),
        *quantise(recipe, rows * 2 * width),
        gemm("gate+up dgrad", m, h, 2 * width, recipe.gemm, groups),
        *quantise(recipe, rows * 2 * width),
    )


def gated_wgrad(work: Work, rows: float, width: int, groups: int = 1) -> tuple[Op, ...]:
    """Return the weight gradients of down and gate+up, one kernel per group as the profile shows."""
    recipe, h, k = work.recipe, work.model.hidden_size, rows / groups
    down = tuple(wgrad("down wgrad", h, width, k, recipe.gemm) for _ in range(groups))
    return (*down, *(wgrad("gate+up wgrad", 2 * width, h, k, recipe.gemm) for _ in range(groups)))


def dense_forward(work: Work) -> tuple[Op, ...]:
    """Return a dense FFN."""
    width = work.model.intermediate_size
    t, h = work.tokens, work.model.hidden_size
    residual = moved("residual", "elementwise", t * h, 4.0)
    return (*quantise(work.recipe, t * h), *gated_forward(work, t, width), residual)


def dense_backward(work: Work) -> tuple[Op, ...]:
    """Return the input gradient of a dense FFN."""
    t, h = work.tokens, work.model.hidden_size
    return (*quantise(work.recipe, t * h, t * h), *_norm_again(work), *gated_backward(
        work, t, work.model.intermediate_size))


def dense_wgrad(work: Work) -> tuple[Op, ...]:
    """Return the weight gradients of a dense FFN."""
    return gated_wgrad(work, work.tokens, work.model.intermediate_size)


def route(work: Work) -> tuple[Op, ...]:
    """Return the router and the cast before dispatch: the end of a MoE layer's attention phase."""
    model, t, h = work.model, work.tokens, work.model.hidden_size
    return (
        gemm("router", t, model.n_routed_experts, h, "bf16"),
        moved("top-k", "router", t * model.n_routed_experts, 4.0),
        *quantise(work.recipe, t * h),
    )


def route_backward(work: Work) -> tuple[Op, ...]:
    """Return the router's gradients: the start of a MoE layer's attention backward phase."""
    model, t, h = work.model, work.tokens, work.model.hidden_size
    return (
        moved("top-k backward", "router_backward", t * model.n_routed_experts, 4.0),
        gemm("router dgrad", t, h, model.n_routed_experts, "bf16"),
        gemm("router wgrad", model.n_routed_experts, h, t, "bf16"),
    )


def experts_forward(work: Work) -> tuple[Op, ...]:
    """Return the shared and routed experts of a MoE layer, between dispatch and combine."""
    model, h = work.model, work.model.hidden_size
    recipe, rows, weights = work.recipe, work.expert_rows, work.local_experts * work.model.expert_parameters
    # What dispatch brought is kept as the input of the weight gradients.
    arrived = Op("received tokens", "copy", saved=recipe.activation * work.received * h)
    return (
        *_shared(work, "forward"),
        moved("count and map", "mapping", work.tokens * model.n_routed_experts, 1.0),
        moved("expand", "permute", (work.received + rows) * h, recipe.activation),
        *transpose(recipe, weights),
        *gated_forward(work, rows, model.moe_intermediate_size, work.local_experts),
        moved("reduce", "permute", (rows + work.received) * h, 2.0),
        arrived,
    )


def experts_backward(work: Work) -> tuple[Op, ...]:
    """Return the input gradient of the shared and routed experts."""
    model, h, rows = work.model, work.model.hidden_size, work.expert_rows
    return (
        *_shared(work, "backward"),
        moved("expand gradients", "permute", (work.received + rows) * h, work.recipe.activation),
        *gated_backward(work, rows, model.moe_intermediate_size, work.local_experts),
        *_norm_again(work),
        moved("reduce gradients", "permute", (rows + work.received) * h, 2.0),
    )


def experts_wgrad(work: Work) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """Return the weight gradients as (compute stream, side stream): every other routed expert goes to the side."""
    model, recipe, rows = work.model, work.recipe, work.expert_rows
    casts = quantise(recipe, rows * model.hidden_size, rows * model.hidden_size)
    routed = gated_wgrad(work, rows, model.moe_intermediate_size, work.local_experts)
    return (*casts, *_shared(work, "wgrad"), *routed[0::2]), routed[1::2]


def _shared(work: Work, phase: str) -> tuple[Op, ...]:
    width = work.model.shared_expert_width
    if not width:
        return ()
    part = {"forward": gated_forward, "backward": gated_backward, "wgrad": gated_wgrad}[phase]
    return part(work, work.tokens, width)


def _norm_again(work: Work) -> tuple[Op, ...]:
    if "norm" not in work.recompute:
        return ()
    t, h = work.tokens, work.model.hidden_size
    return again((moved("post norm", "norm", t * h, 4.0), *quantise(work.recipe, t * h)))

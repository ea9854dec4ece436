"""The router of a MoE layer, and what it does to tokens before they travel."""

from __future__ import annotations

from simulator.ops.op import Ops, Work, gemm, moved, quantise
from simulator.precision import BYTES


def route(work: Work) -> Ops:
    """Return the router and the cast before dispatch: the end of a MoE layer's attention phase."""
    experts = work.model.n_routed_experts
    h = work.model.hidden_size
    # Fewer bytes travel, and the experts' GEMMs read them as they come.
    cast: Ops = ()
    if travels_cast(work):
        cast = quantise(work.recipe, work.own * h)
    return (
        # Gating stays in BF16 whatever the recipe (arXiv 2412.19437, section 3.3.1).
        gemm("router", work.own, experts, h, "bf16"),
        moved("top-k", "router", work.own * experts, 4.0)._replace(launches=work.router_kernels),
        *cast,
        *permute(work, "permute tokens", BYTES[work.recipe.dispatch]),
    )


def permute(work: Work, name: str, bytes_per_element: float) -> Ops:
    """Return the copies between tokens in their order and those in the order of their experts."""
    if not work.sent:
        return ()
    elements = (work.own + work.sent) * work.model.hidden_size
    return (moved(name, "permute", elements, bytes_per_element),)


def travels_cast(work: Work) -> bool:
    """Tell whether tokens are cast before dispatch, and not where the experts read them."""
    return work.recipe.dispatch == work.recipe.gemm


def route_backward(work: Work) -> Ops:
    """Return the router's gradients: the start of a MoE layer's attention backward phase."""
    experts = work.model.n_routed_experts
    h = work.model.hidden_size
    return (
        *permute(work, "unpermute token gradients", 2.0),
        moved("top-k backward", "router_backward", work.own * experts, 4.0)._replace(
            launches=work.router_kernels_backward
        ),
        gemm("router dgrad", work.own, h, experts, "bf16"),
        gemm("router wgrad", experts, h, round(work.own), "bf16"),
        *_sum_gradients(work),
    )


def _sum_gradients(work: Work) -> Ops:
    """Return what adds up the gradients of all that reads the second norm's output.

    Router, dispatch and shared experts do. Autograd adds one gradient to another, a kernel each;
    DeepSeek's stack was profiled as a whole, and shows none.
    """
    if work.expert_kernels == "deepseek":
        return ()
    added = moved("sum token gradients", "residual_add", work.own * work.model.hidden_size, 6.0)
    readers = 3 if work.model.shared_expert_width else 2
    return (added,) * (readers - 1)

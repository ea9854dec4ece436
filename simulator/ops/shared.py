"""The shared experts of a MoE layer: a dense FFN that every token sees, next to the routed ones."""

from __future__ import annotations

from simulator.ops import parallel, router
from simulator.ops.ffn import Ffn, backward, cut_weights, forward, repeats
from simulator.ops.op import Ops, Work, recomputed, unkept


def _of(work: Work) -> Ffn | None:
    """Return the shared experts as one FFN, None where the model has none."""
    width = work.model.shared_expert_width // work.tp
    if not width:
        return None
    return Ffn(work, work.tokens, width, repeats=repeats(work, "swiglu", "shared_experts"))


def shared_forward(work: Work) -> Ops:
    """Return the shared experts; nothing where the model has none."""
    shared = _of(work)
    if shared is None:
        return ()
    ops = _layers(work, shared)
    return unkept(ops) if shared.repeats == "all" else ops


def _layers(work: Work, shared: Ffn) -> Ops:
    """Return both layers of the shared experts with their collectives."""
    inner, outer = forward(shared)
    first = (*_input(work), *inner)
    return (
        *parallel.gathered(work, "fc1_fprop", first),
        *parallel.scatter(work, outer, "fc2_fprop"),
    )


def _input(work: Work) -> Ops:
    """Return the cast of what shared experts read, and its gather."""
    # What was cast before it travels to routed experts serves the shared ones too.
    if router.travels_cast(work):
        return parallel.gather(work)
    return parallel.cast_and_gather(work)


def _gradient(work: Work) -> Ops:
    """Return the cast of the gradient of the shared experts' output, and its gather."""
    if router.travels_cast(work):
        return parallel.gather(work, parallel.GRADIENT)
    return parallel.gather_gradient(work)


def shared_backward(work: Work) -> Ops:
    """Return the input gradient of the shared experts.

    The sum over their group is waited for with the routed experts' gradients.
    """
    shared = _of(work)
    if shared is None:
        return ()
    again: Ops = ()
    if shared.repeats == "all" and "moe" not in work.recompute:
        again = recomputed(_layers(work, shared))
    inner, outer = backward(shared)
    second = (*_gradient(work), *inner)
    return (
        *again,
        *parallel.gathered(work, "fc2_dgrad", second),
        *parallel.transpose_gradient(work),
        *parallel.input_gradient(work, outer, "fc1_dgrad"),
    )


def shared_wgrad(work: Work) -> Ops:
    """Return the weight gradients of the shared experts; nothing where the model has none."""
    shared = _of(work)
    return () if shared is None else cut_weights(shared)

"""The linear layers of attention: what reads the residual stream, and MLA's expansions.

MLA's compressions are whole on every GPU of a tensor parallel group and see its own tokens; its
expansions are cut by heads and see the compressed vectors of all, gathered (Megatron-LM,
multi_latent_attention.py). Every other projection is cut by columns and sees all tokens.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.ops import parallel, weights
from simulator.ops.op import (
    Item,
    Ops,
    Work,
    by_channel,
    gemm,
    moved,
    norm,
    norm_backward,
    quantise,
)


class Projection(NamedTuple):
    """A weight matrix of attention as one GPU holds it."""

    name: str
    """As `ModelConfig.projections` names it."""
    outputs: int
    """Its rows on this GPU."""
    inputs: int
    """Its columns."""
    parts: tuple[int, ...] = ()
    """Rows of the layers that it consists of, where these are apart; empty: it is one."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the rows of each of its layers."""
        return self.parts or (self.outputs,)


def of_stream(work: Work) -> list[Projection]:
    """Return the projections that read the residual stream."""
    model = work.model
    return [
        Projection(name, _columns(work, name, outputs), inputs, _parts(work))
        for name, outputs, inputs in model.projections
        if name != "o" and inputs == model.hidden_size
    ]


def _columns(work: Work, name: str, outputs: int) -> int:
    """Return how many outputs of a projection of the residual stream this GPU computes."""
    if not work.model.is_mla:
        # Queries, keys and values are one matrix; heads that are fewer than GPUs are copied.
        return (work.heads + 2 * work.kv_heads) * work.model.qk_dim
    return outputs // work.tp if name == "q" else outputs


def _parts(work: Work) -> tuple[int, ...]:
    """Return the outputs of queries, keys and values on this GPU, where a layer makes each."""
    if work.model.is_mla or work.code.joined:
        return ()
    width = work.model.qk_dim
    return (work.heads * width, work.kv_heads * width, work.kv_heads * width)


def expansions(work: Work) -> list[Projection]:
    """Return MLA's up-projections; none without MLA."""
    if not work.model.is_mla:
        return []
    return [
        Projection(name, outputs // work.tp, inputs)
        for name, outputs, inputs in work.model.projections
        if name in ("q_b", "kv_b")
    ]


def _compresses(work: Work, projection: Projection) -> bool:
    """Tell whether a projection is one of MLA's compressions, whole on every GPU."""
    return work.model.is_mla and projection.name in ("q_a", "kv_a")


def _tokens(work: Work, projection: Projection) -> float:
    """Return the tokens that a projection sees."""
    if _compresses(work, projection):
        return work.own
    return float(work.tokens)


def project(work: Work) -> Ops:
    """Return the projections of the normed residual stream."""
    recipe = work.recipe
    ops: list[Item] = []
    for projection in of_stream(work):
        _, outputs, inputs, _ = projection
        tokens = _tokens(work, projection)
        product = (
            *weights.cast(work, outputs * inputs),
            *weights.products(work, _layers(work, projection)),
        )
        # What all GPUs need is gathered after the cast, in fewer bytes.
        if _compresses(work, projection):
            ops += (*quantise(recipe, tokens * inputs), *product)
        else:
            ops += parallel.gathered(
                work, _overlapped(work, "fprop"), (*parallel.cast_and_gather(work), *product)
            )
    return tuple(ops)


def project_backward(work: Work) -> Ops:
    """Return the input gradients of what reads the residual stream.

    A projection that is whole on every GPU leaves no partial sums; one that is cut by columns does.
    """
    recipe = work.recipe
    ops: list[Item] = []
    for projection in of_stream(work):
        _, outputs, inputs, _ = projection
        tokens = _tokens(work, projection)
        dgrad = (
            *quantise(recipe, *(tokens * part for part in projection.layers)),
            *weights.transposed(work, outputs * inputs),
            *weights.input_gradients(work, _layers(work, projection)),
            *by_channel(recipe, tokens * inputs, tokens * outputs),
        )
        if _compresses(work, projection):
            ops += dgrad
        else:
            ops += parallel.input_gradient(work, dgrad, _overlapped(work, "dgrad"))
    return tuple(ops)


def expand(work: Work, *, keep: bool) -> Ops:
    """Return MLA's norms of the compressed vectors and its up-projections; nothing without MLA.

    keep: the norms' inputs are kept for the backward pass.
    """
    recipe = work.recipe
    ops: list[Item] = []
    for projection in expansions(work):
        name, outputs, inputs, _ = projection
        own = work.own * inputs
        kept = 2.0 * work.own * inputs if keep else 0.0  # in BF16
        ops += (
            norm(work, f"{name} norm", own, kept),
            moved(f"{name} input", "copy", own, 4.0),
            *parallel.gather(work, "gather compressed", _gathered_width(work, projection)),
            *quantise(recipe, work.tokens * inputs),
            *weights.cast(work, outputs * inputs),
            gemm(name, work.tokens, outputs, inputs, recipe.gemm),
        )
    return tuple(ops)


def expand_backward(work: Work) -> Ops:
    """Return the input gradients of MLA's up-projections and of the norms before them."""
    recipe = work.recipe
    t = work.tokens
    ops: list[Item] = []
    for projection in expansions(work):
        name, outputs, inputs, _ = projection
        width = _gathered_width(work, projection)
        dgrad = gemm(f"{name} dgrad", t, inputs, outputs, recipe.gemm)
        ops += (
            *weights.transposed(work, outputs * inputs),
            *quantise(recipe, t * outputs),
            # Once more, for the weight gradient. The norm waits for the sum of the expansion's
            # input gradient.
            *parallel.gather(work, "regather compressed", width),
            *parallel.scatter(work, (dgrad,), name="sum compressed gradient", width=width),
            *by_channel(recipe, t * outputs, t * inputs),
            norm_backward(work, f"{name} norm backward", work.own * inputs),
        )
    return tuple(ops)


def _gathered_width(work: Work, projection: Projection) -> int:
    """Return the width of what an expansion's GPUs gather.

    The keys' rotary part travels with their compression.
    """
    if projection.name == "kv_b":
        return projection.inputs + work.model.qk_rope_head_dim
    return projection.inputs


def weight_gradient(work: Work) -> Ops:
    """Return the weight gradients of all projections, accumulated in FP32."""
    # In the order in which the model names them, which is that of the forward pass.
    context = work.heads * work.model.v_dim
    output = Projection("o", work.model.hidden_size, context)
    projections = (*of_stream(work), *expansions(work), output)
    by_name = {projection.name: projection for projection in projections}
    gradients = {name: weights.gradients(work, _layers(work, by_name[name])) for name in by_name}
    in_order = tuple(op for name, _, _ in work.model.projections for op in gradients[name])
    if work.model.is_mla:  # its sums travel between its expansions
        return in_order
    first, *others = in_order
    return parallel.weight_gradients(work, "qkv_wgrad", first, tuple(others))


def _layers(work: Work, projection: Projection) -> weights.Layers:
    """Return the layers of a projection with the tokens that they see."""
    tokens = _tokens(work, projection)
    return weights.Layers(projection.name, tokens, projection.layers, projection.inputs)


def _overlapped(work: Work, gemm_of: str) -> str:
    """Return the name by which a projection's overlap is chosen; MLA's are not overlapped.

    gemm_of: fprop, dgrad or wgrad.
    """
    return "" if work.model.is_mla else f"qkv_{gemm_of}"

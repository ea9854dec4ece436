"""The attention half of a layer: forward, input gradient, weight gradient.

The kernels and their order are those of DeepSeek's published profile (github
deepseek-ai/profile-data, train.json). Linear layers are cut over the tensor parallel group: those
that read the residual stream by columns, the output by rows; MLA's compressions are whole on every
GPU and see its own tokens, its expansions are cut by heads and see the compressed vectors of all,
gathered (Megatron-LM, multi_latent_attention.py).
"""

from __future__ import annotations

from simulator.ops import parallel
from simulator.ops.core import core, core_backward
from simulator.ops.op import (
    Op,
    Ops,
    Transfer,
    Work,
    by_channel,
    gemm,
    moved,
    norm,
    norm_backward,
    quantise,
    recomputed,
    transpose,
    wgrad,
)


def forward(work: Work) -> Ops:
    """Return the ops from the residual stream to the second residual stream and its norm."""
    recipe, t, own, h = work.recipe, work.tokens, work.own, work.model.hidden_size
    context = work.heads * work.model.v_dim
    # The residual stream is kept once per half layer; the norm's output only if it is not
    # recomputed.
    normed = 0.0 if "norm" in work.recompute else recipe.activation * own * h
    out = (*quantise(recipe, t * context), gemm("o", t, h, context, recipe.gemm))
    head = (
        norm(recipe, "input norm", own * h, 2.0 * own * h + normed),
        *_down(work),
        *_up(work, first=True),
        *_positions(work),
        *core(work),
        *_keep_output(work, context),
    )
    if work.model.parallel_residual:  # its output is added to the FFN's before both are scattered
        return (*head, *out)
    return (
        *head,
        *parallel.scatter(work, out),
        residual(work),
        norm(recipe, "post norm", own * h, 2.0 * own * h + normed),
    )


def residual(work: Work) -> Op:
    """Return the addition to the residual stream, with biases and dropout fused into it where the model has them."""
    width = work.own * work.model.hidden_size
    if work.model.layer_norm:  # two reads, a mask of one byte that is kept, one write
        return moved("residual", "bias_dropout_add", width, 7.0, width)
    return _add(work, "residual")


def _add(work: Work, name: str) -> Op:
    """Return an addition to the residual stream; DeepSeek's profile is fitted to 4 of the 6 bytes that it moves."""
    kind, each = ("elementwise", 4.0) if work.recipe.norm == "norm" else ("residual_add", 6.0)
    return moved(name, kind, work.own * work.model.hidden_size, each)


def _keep_output(work: Work, context: int) -> Ops:
    saved = work.recipe.saved_attention_output * work.tokens * context
    if not work.recipe.keeps_coded:
        return (Op("attention output", "copy", saved=saved),)
    return (moved("cast to 12 bits", "quantise", work.tokens * context, 3.5, saved),)


def _columns(work: Work) -> list[tuple[str, int, int]]:
    """Return the projections that read the residual stream, as this GPU has them: (name, outputs, inputs)."""
    model = work.model
    whole = [row for row in model.projections if row[2] == model.hidden_size and row[0] != "o"]
    if model.is_mla:
        return [(name, out // work.tp if name == "q" else out, inp) for name, out, inp in whole]
    return [(name, (work.heads + 2 * work.kv_heads) * model.qk_dim, inp) for name, _, inp in whole]


def _expansions(work: Work) -> list[tuple[str, int, int]]:
    """Return MLA's up-projections as this GPU has them; none without MLA."""
    rows = work.model.projections if work.model.is_mla else ()
    return [(name, out // work.tp, inp) for name, out, inp in rows if name in ("q_b", "kv_b")]


def _compressed(work: Work, name: str) -> bool:
    """Tell whether a projection is whole on every GPU."""
    return work.model.is_mla and name in ("q_a", "kv_a")


def _reads(work: Work, name: str) -> float:
    """Return the tokens that a projection of the residual stream sees."""
    return work.own if _compressed(work, name) else float(work.tokens)


def _down(work: Work) -> Ops:
    """Return the projections that read the normed residual stream."""
    recipe = work.recipe
    ops: list[Op | Transfer] = []
    for name, out, inp in _columns(work):
        tokens = _reads(work, name)
        ops += (
            quantise(recipe, tokens * inp)
            if _compressed(work, name)
            else parallel.cast_and_gather(work)
        )
        ops.append(gemm(name, tokens, out, inp, recipe.gemm))
    return tuple(ops)


def _latent(work: Work, name: str, width: int) -> int:
    """Return the width of what an expansion's GPUs gather: the keys' rotary part travels with their compression."""
    return width + (work.model.qk_rope_head_dim if name == "kv_b" else 0)


def _up(work: Work, *, first: bool) -> Ops:
    """Return MLA's norms of the compressed vectors and its up-projections; nothing without MLA."""
    recipe, t, own = work.recipe, work.tokens, work.own
    ops: list[Op | Transfer] = []
    for name, out, inp in _expansions(work):
        ops += (
            norm(recipe, f"{name} norm", own * inp, 2.0 * own * inp if first else 0.0),
            moved(f"{name} input", "copy", own * inp, 4.0),
            *parallel.gather(work, "gather compressed", _latent(work, name, inp)),
            *quantise(recipe, t * inp),
            gemm(name, t, out, inp, recipe.gemm),
        )
    return tuple(ops)


def _positions(work: Work) -> Ops:
    """Return rotary positions, norms per head, and MLA's assembly of keys and values from their parts."""
    model, t, heads = work.model, work.tokens, work.heads
    if model.is_mla:
        return (
            moved("rope q", "rope", t * heads * model.qk_rope_head_dim, 4.0),
            moved("rope k", "rope", t * model.qk_rope_head_dim, 4.0),
            moved("assemble k", "copy", t * heads * model.qk_nope_head_dim, 4.0),
            moved("assemble v", "copy", t * heads * model.v_dim, 4.0),
        )
    width = t * (heads + work.kv_heads) * model.qk_dim
    norms = (norm(work.recipe, "head norms", width),) if model.qk_norm else ()
    return norms if model.learned_positions else (*norms, moved("rope", "rope", width, 4.0))


def _recomputes_up(work: Work) -> bool:
    return work.model.is_mla and "mla_up_projection" in work.recompute


def input_gradient(work: Work) -> tuple[Ops, Ops]:
    """Return the ops from the gradient of the second residual stream to that of the first, in two parts.

    The first ends with the input gradients of what reads the residual stream. With tensor
    parallelism their sum then travels, and the second part, what the norm does with it, waits for
    that; without it all are in the first.
    """
    t, own, h = work.tokens, work.own, work.model.hidden_size
    context = work.heads * work.model.v_dim
    first = (
        *_stream_backward(work),
        *(
            (moved("cast back from 12 bits", "quantise", t * context, 3.5),)
            if work.recipe.keeps_coded
            else ()
        ),
        *(
            quantise(work.recipe, t * h)
            if work.model.parallel_residual
            else parallel.cast_and_gather(work, "gather output gradient")
        ),
        *transpose(work.recipe, h * context),
        gemm("o dgrad", t, context, h, work.recipe.gemm),
        *by_channel(work.recipe, t * context, t * h),
        *(recomputed((*_up(work, first=False), *_positions(work))) if _recomputes_up(work) else ()),
        *core_backward(work),
        *_positions_backward(work),
        *(
            recomputed((norm(work.recipe, "input norm", own * h),))
            if "norm" in work.recompute
            else ()
        ),
        *_down_backward(work),
    )
    last = (
        _add(work, "residual gradient"),
        norm_backward(work.recipe, "input norm backward", own * h),
    )
    return (first, last) if work.tp > 1 else ((*first, *last), ())


def _stream_backward(work: Work) -> Ops:
    """Return what the second residual stream and its norm do with a gradient."""
    width, recipe = work.own * work.model.hidden_size, work.recipe
    if work.model.parallel_residual:
        return ()
    # DeepSeek's profile has one more kernel there; with dropout its mask is applied once more.
    scale = (moved("scale", "elementwise", width, 4.0),) if recipe.norm == "norm" else ()
    dropped = (moved("dropout backward", "dropout", width, 5.0),) if work.model.layer_norm else ()
    return (
        _add(work, "residual gradient"),
        norm_backward(recipe, "post norm backward", width),
        *scale,
        *dropped,
    )


def _positions_backward(work: Work) -> Ops:
    model, t, heads = work.model, work.tokens, work.heads
    if not model.is_mla:
        width = t * (heads + work.kv_heads) * model.qk_dim
        norms = (norm_backward(work.recipe, "head norms backward", width),) if model.qk_norm else ()
        return (
            norms
            if model.learned_positions
            else (moved("rope backward", "rope", width, 4.0), *norms)
        )
    return (
        moved("rope backward", "rope", t * heads * model.qk_rope_head_dim, 4.0),
        *_up_backward(work),
    )


def _up_backward(work: Work) -> Ops:
    model, recipe, t, heads = work.model, work.recipe, work.tokens, work.heads
    ops: list[Op | Transfer] = [
        moved("gather dk rope", "copy", t * heads * model.qk_rope_head_dim, 2.0),
        moved("gather dk", "copy", t * heads * model.qk_nope_head_dim, 4.0),
        moved("gather dv", "copy", t * heads * model.v_dim, 4.0),
    ]
    for name, out, inp in _expansions(work):
        ops += (
            *transpose(recipe, out * inp),
            *quantise(recipe, t * out),
            # Again, for the weight gradient; the norm waits for the sum of the expansion's input
            # gradient.
            *parallel.gather(work, "gather compressed again", _latent(work, name, inp)),
            *parallel.scatter(
                work,
                (gemm(f"{name} dgrad", t, inp, out, recipe.gemm),),
                "sum compressed gradient",
                _latent(work, name, inp),
            ),
            *by_channel(recipe, t * out, t * inp),
            norm_backward(recipe, f"{name} norm backward", work.own * inp),
        )
    return tuple(ops)


def _down_backward(work: Work) -> Ops:
    """Return the input gradients of what reads the residual stream.

    A projection that is whole on every GPU leaves no partial sums; one that is cut by columns does.
    """
    recipe = work.recipe
    ops: list[Op | Transfer] = []
    for name, out, inp in _columns(work):
        tokens = _reads(work, name)
        dgrad = (
            *quantise(recipe, tokens * out),
            *transpose(recipe, out * inp),
            gemm(f"{name} dgrad", tokens, inp, out, recipe.gemm),
            *by_channel(recipe, tokens * inp, tokens * out),
        )
        ops += dgrad if _compressed(work, name) else parallel.input_gradient(work, dgrad)
    return tuple(ops)


def weight_gradient(work: Work) -> Ops:
    """Return the weight gradients of the projections, accumulated in FP32."""
    h, context = work.model.hidden_size, work.heads * work.model.v_dim
    held = {row[0]: row for row in (*_columns(work), *_expansions(work), ("o", h, context))}
    return tuple(
        wgrad(f"{name} wgrad", *held[name][1:], _reads(work, name), work.recipe.gemm)
        for name, _, _ in work.model.projections
    )

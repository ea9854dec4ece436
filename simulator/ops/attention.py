"""The attention half of a layer: forward, input gradient, weight gradient.

The kernels and their order are those of DeepSeek's published profile (github deepseek-ai/profile-data, train.json).
"""

from __future__ import annotations

from simulator.ops.op import Op, Work, again, gemm, keep, moved, quantise, transpose, wgrad


def forward(work: Work) -> tuple[Op, ...]:
    """Return the ops from the residual stream to the second residual stream and its norm."""
    model, recipe, t, h = work.model, work.recipe, work.tokens, work.model.hidden_size
    context = model.num_attention_heads * model.v_dim
    # The residual stream is kept once per half layer; the norm's output only if it is not recomputed.
    normed = 0.0 if "norm" in work.recompute else recipe.activation * t * h
    return (
        keep(moved("input norm", "norm", t * h, 4.0), 2.0 * t * h + normed),
        *_down(work),
        *_up(work, first=True),
        *_positions(work),
        _core(work),
        *_keep_output(work, context),
        *quantise(recipe, t * context),
        gemm("o", t, h, context, recipe.gemm),
        moved("residual", "elementwise", t * h, 4.0),
        keep(moved("post norm", "norm", t * h, 4.0), 2.0 * t * h + normed),
    )


def _keep_output(work: Work, context: int) -> tuple[Op, ...]:
    saved = work.recipe.saved_attention_output * work.tokens * context
    if not work.recipe.quantised:
        return (Op("attention output", "copy", saved=saved),)
    return (moved("cast to 12 bits", "quantise", work.tokens * context, 3.5, saved),)


def _down(work: Work) -> tuple[Op, ...]:
    """Return the projections that read the normed residual stream."""
    model, recipe, t, h = work.model, work.recipe, work.tokens, work.model.hidden_size
    ops: list[Op] = []
    for name, out, inp in model.projections:
        if inp == h and name != "o":
            ops += (*quantise(recipe, t * h), gemm(name, t, out, h, recipe.gemm))
    return tuple(ops)


def _up(work: Work, *, first: bool) -> tuple[Op, ...]:
    """Return MLA's norms of the compressed vectors and its up-projections; nothing without MLA."""
    model, recipe, t = work.model, work.recipe, work.tokens
    if not model.is_mla:
        return ()
    ops: list[Op] = []
    for name, out, inp in model.projections:
        if name in ("q_b", "kv_b"):
            saved = 2.0 * t * inp
            ops += (
                keep(moved(f"{name} norm", "norm", t * inp, 4.0), saved if first else 0.0),
                moved(f"{name} input", "copy", t * inp, 4.0),
                *quantise(recipe, t * inp),
                gemm(name, t, out, inp, recipe.gemm),
            )
    return tuple(ops)


def _positions(work: Work) -> tuple[Op, ...]:
    """Return rotary positions, and MLA's assembly of keys and values from their parts."""
    model, t, heads = work.model, work.tokens, work.model.num_attention_heads
    if not model.is_mla:
        return (moved("rope", "rope", t * (heads + model.kv_heads) * model.qk_dim, 4.0),)
    return (
        moved("rope q", "rope", t * heads * model.qk_rope_head_dim, 4.0),
        moved("rope k", "rope", t * model.qk_rope_head_dim, 4.0),
        moved("assemble k", "copy", t * heads * model.qk_nope_head_dim, 4.0),
        moved("assemble v", "copy", t * heads * model.v_dim, 4.0),
    )


def _up_again(work: Work) -> bool:
    return work.model.is_mla and "mla_up_projection" in work.recompute


def _kept_qkv(work: Work) -> float:
    """Return the bytes of Q, K and V kept for the backward pass [B]; none where MLA's up-projections run again."""
    model, t = work.model, work.tokens
    if _up_again(work):
        return 2.0 * t * model.qk_rope_head_dim
    kv = model.num_attention_heads if model.is_mla else model.kv_heads
    return 2.0 * t * (model.num_attention_heads * model.qk_dim + kv * (model.qk_dim + model.v_dim))


def _core(work: Work) -> Op:
    model, t = work.model, work.tokens
    flops = t * model.attention_flops_per_token(work.seq_length)
    kept = _kept_qkv(work) + 4.0 * t * model.num_attention_heads  # and the softmax's logarithm of the sum
    return Op("core", "attention", flops, (1, 0, 0, model.qk_dim), seq_length=work.seq_length, saved=kept)


def _core_backward(work: Work) -> Op:
    # FlashAttention recomputes S = QK^T: five matrix products instead of the forward's two (arXiv 2307.08691).
    model, t = work.model, work.tokens
    per_qk, per_v = 3.0 * model.qk_dim, 2.0 * model.v_dim
    flops = t * model.num_attention_heads * (per_qk + per_v) * float(work.seq_length)
    return Op("core backward", "attention_backward", flops, (1, 0, 0, model.qk_dim), seq_length=work.seq_length)


def input_gradient(work: Work) -> tuple[Op, ...]:
    """Return the ops from the gradient of the second residual stream to that of the first."""
    model, recipe, t, h = work.model, work.recipe, work.tokens, work.model.hidden_size
    heads, context = model.num_attention_heads, model.num_attention_heads * model.v_dim
    rotated = heads * model.qk_rope_head_dim if model.is_mla else (heads + model.kv_heads) * model.qk_dim
    return (
        moved("residual gradient", "elementwise", t * h, 4.0),
        moved("post norm backward", "norm_backward", t * h, 6.0),
        moved("scale", "elementwise", t * h, 4.0),
        *((moved("cast back from 12 bits", "quantise", t * context, 3.5),) if recipe.quantised else ()),
        *quantise(recipe, t * h),
        *transpose(recipe, h * context),
        gemm("o dgrad", t, context, h, recipe.gemm),
        *quantise(recipe, t * context, t * h),
        *(again((*_up(work, first=False), *_positions(work))) if _up_again(work) else ()),
        _core_backward(work),
        moved("rope backward", "rope", t * rotated, 4.0),
        *(_up_backward(work) if model.is_mla else ()),
        *(again((moved("input norm", "norm", t * h, 4.0),)) if "norm" in work.recompute else ()),
        *_down_backward(work),
        moved("residual gradient", "elementwise", t * h, 4.0),
        moved("input norm backward", "norm_backward", t * h, 6.0),
    )


def _up_backward(work: Work) -> tuple[Op, ...]:
    model, recipe, t, heads = work.model, work.recipe, work.tokens, work.model.num_attention_heads
    ops: list[Op] = [
        moved("gather dk rope", "copy", t * heads * model.qk_rope_head_dim, 2.0),
        moved("gather dk", "copy", t * heads * model.qk_nope_head_dim, 4.0),
        moved("gather dv", "copy", t * heads * model.v_dim, 4.0),
    ]
    for name, out, inp in model.projections:
        if name in ("q_b", "kv_b"):
            ops += (
                *transpose(recipe, out * inp),
                *quantise(recipe, t * out),
                gemm(f"{name} dgrad", t, inp, out, recipe.gemm),
                *quantise(recipe, t * out, t * inp),  # by channel, for the weight gradients
                moved(f"{name} norm backward", "norm_backward", t * inp, 6.0),
            )
    return tuple(ops)


def _down_backward(work: Work) -> tuple[Op, ...]:
    model, recipe, t, h = work.model, work.recipe, work.tokens, work.model.hidden_size
    ops: list[Op] = []
    for name, out, inp in model.projections:
        if inp == h and name != "o":
            ops += (
                *quantise(recipe, t * out),
                *transpose(recipe, out * h),
                gemm(f"{name} dgrad", t, h, out, recipe.gemm),
                *quantise(recipe, t * h, t * out),
            )
    return tuple(ops)


def weight_gradient(work: Work) -> tuple[Op, ...]:
    """Return the weight gradients of the projections, accumulated in FP32."""
    return tuple(
        wgrad(f"{name} wgrad", out, inp, work.tokens, work.recipe.gemm) for name, out, inp in work.model.projections
    )

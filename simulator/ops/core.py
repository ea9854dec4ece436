"""The core of attention: fused, or as two batched GEMMs with a softmax and dropout between them."""

from __future__ import annotations

from simulator.ops import parallel
from simulator.ops.op import Op, Ops, Work, gemm, moved, recomputed


def core(work: Work) -> Ops:
    """Return attention from queries, keys and values to its output."""
    if work.unfused:
        return _unfused(work)
    return parallel.keys_and_values(work, (_fused(work),))


def core_backward(work: Work) -> Ops:
    """Return the gradients of queries, keys and values."""
    repeated = recomputed(core(work)) if "core_attention" in work.recompute else ()
    if work.unfused:
        return (*repeated, *_unfused_backward(work))
    return (*repeated, *parallel.keys_and_values(work, (_fused_backward(work),), backward=True))


def _kept_qkv(work: Work) -> float:
    """Return the bytes of Q, K and V kept for the backward pass [B]; none where MLA's up-projections run again."""
    model, t = work.model, work.tokens
    if model.is_mla and "mla_up_projection" in work.recompute:
        return 2.0 * t * model.qk_rope_head_dim
    kv = work.heads if model.is_mla else work.kv_heads
    return 2.0 * t * (work.heads * model.qk_dim + kv * (model.qk_dim + model.v_dim))


def _length(work: Work) -> int:
    """Return how long a sequence one kernel sees: in a ring the GPU's own part."""
    return work.seq_length if work.cp_gather else work.seq_length // work.cp


def _fused(work: Work) -> Op:
    model, t = work.model, work.tokens
    flops = t * model.attention_flops_per_token(work.seq_length) / work.tp
    kept = _kept_qkv(work) + 4.0 * t * work.heads  # and the softmax's logarithm of the sum
    return Op(
        "core", "attention", flops, (1, 0, 0, model.qk_dim), seq_length=_length(work), saved=kept
    )


def _fused_backward(work: Work) -> Op:
    # FlashAttention recomputes S = QK^T: five matrix products instead of the forward's two (arXiv
    # 2307.08691).
    model, t = work.model, work.tokens
    per_qk, per_v = 3.0 * model.qk_dim, 2.0 * model.v_dim
    flops = t * work.heads * (per_qk + per_v) * float(work.seq_length)
    return Op(
        "core backward",
        "attention_backward",
        flops,
        (1, 0, 0, model.qk_dim),
        seq_length=_length(work),
    )


def _unfused(work: Work) -> Ops:
    """Return QK^T, scale, mask and softmax in one kernel, dropout, and the product with V; nothing is skipped.

    Kept per element of the [heads, s, s] matrix: softmax and dropout outputs in 2 bytes, the mask
    in 1, none where it is recomputed (Korthikanti et al., arXiv 2205.05198, section 4.1).
    """
    s, model = work.seq_length, work.model
    groups = round(work.tokens * work.heads / s)
    elements, kept = float(groups) * s * s, 0.0 if "core_attention" in work.recompute else 1.0
    return (
        gemm("scores", s, s, model.qk_dim, "bf16", groups),
        moved("softmax", "softmax", elements, 4.0, 2.0 * elements * kept),
        moved("dropout", "dropout", elements, 5.0, 3.0 * elements * kept),
        gemm("context", s, model.v_dim, s, "bf16", groups),
        Op("queries, keys, values", "copy", saved=_kept_qkv(work)),
    )


def _unfused_backward(work: Work) -> Ops:
    s, model = work.seq_length, work.model
    groups = round(work.tokens * work.heads / s)
    elements = float(groups) * s * s
    return (
        gemm("context dgrad", s, s, model.v_dim, "bf16", groups),
        gemm("value gradient", s, model.v_dim, s, "bf16", groups),
        moved("dropout backward", "dropout", elements, 5.0),
        moved("softmax backward", "softmax_backward", elements, 6.0),
        gemm("query gradient", s, model.qk_dim, s, "bf16", groups),
        gemm("key gradient", s, model.qk_dim, s, "bf16", groups),
    )

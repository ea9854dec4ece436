"""The core of attention: fused, or as two batched GEMMs with a softmax and dropout between them."""

from __future__ import annotations

from simulator.ops import parallel, ring_attention, ulysses
from simulator.ops.op import Op, Ops, Shape, Work, gemm, moved, recomputed


def core(work: Work) -> Ops:
    """Return attention from queries, keys and values to its output."""
    if work.unfused:
        return _unfused(work)
    if work.cp_heads:
        return ulysses.spread_heads(work, (_fused(work),))
    if work.rings:
        return ring_attention.forward(work, _fused(work))
    return parallel.keys_and_values(work, (_fused(work),))


def core_backward(work: Work) -> Ops:
    """Return the gradients of queries, keys and values, and before them a recomputed core."""
    if work.unfused:
        gradients = _unfused_backward(work)
    elif work.cp_heads:
        gradients = ulysses.spread_heads_backward(work, (_fused_backward(work),))
    elif work.rings:
        gradients = ring_attention.backward(work, _fused_backward(work))
    else:
        gradients = parallel.keys_and_values(work, (_fused_backward(work),), backward=True)
    if "core_attention" not in work.recompute:
        return gradients
    return (*recomputed(core(work)), *gradients)


def _kept_qkv(work: Work) -> float:
    """Return the bytes of Q, K and V kept for the backward pass [B].

    Where MLA's up-projections are recomputed, only the rotary part of the keys.
    """
    model = work.model
    if model.is_mla and "mla_up_projection" in work.recompute:
        return 2.0 * work.tokens * model.qk_rope_head_dim
    return 2.0 * _qkv(work)


def _qkv(work: Work) -> float:
    """Return the elements of queries, keys and values."""
    model = work.model
    queries = work.heads * model.qk_dim
    keys_and_values = work.attended_heads * (model.qk_dim + model.v_dim)
    return float(work.tokens * (queries + keys_and_values))


def _length(work: Work) -> int:
    """Return how long a sequence one kernel sees: in a ring the GPU's own part."""
    return work.seq_length // _steps(work)


def _steps(work: Work) -> int:
    """Return the kernels of attention: in a ring one for each part of the keys and values."""
    if work.cp_heads or (work.cp_gather and not work.rings):
        return 1
    return work.cp


def _score_matrices(work: Work) -> int:
    """Return the [length, length] score matrices of a kernel's work, see `_length`.

    Where a GPU has a part of the queries of gathered keys, that many whole matrices have as much
    work; where it has a part of the heads, these are whole.
    """
    return max(1, round(work.tokens * work.heads / _length(work)))


def _fused(work: Work) -> Op:
    model = work.model
    # The backward pass rebuilds the softmax from the logarithm of its sum, FP32 per query and head.
    log_sums = 4.0 * work.tokens * work.heads
    return Op(
        "core",
        "attention",
        flops=work.tokens * model.attention_flops_per_token(work.seq_length) / work.tp,
        shape=Shape(groups=_score_matrices(work), k=model.qk_dim),
        seq_length=_length(work),
        saved=_kept_qkv(work) + log_sums,
        launches=_steps(work),
    )


def _fused_backward(work: Work) -> Op:
    model = work.model
    # FlashAttention recomputes S = QK^T: five matrix products instead of the forward's two (arXiv
    # 2307.08691). Half of the 2 FLOPs per element are masked.
    per_qk = 3.0 * model.qk_dim
    per_v = 2.0 * model.v_dim
    per_key = work.tokens * work.heads * (per_qk + per_v)
    return Op(
        "core backward",
        "attention_backward",
        flops=per_key * float(work.seq_length),
        shape=Shape(groups=_score_matrices(work), k=model.qk_dim),
        seq_length=_length(work),
        launches=_steps(work),
    )


def _unfused(work: Work) -> Ops:
    """Return QK^T, scale, mask and softmax in one kernel, dropout, and the product with V.

    No part is skipped for being masked. Kept per element of the [heads, s, s] matrix: softmax and
    dropout outputs in 2 bytes, the mask in 1, none where it is recomputed (Korthikanti et al.,
    arXiv 2205.05198, section 4.1).
    """
    s = work.seq_length
    model = work.model
    groups = _sequence_heads(work)
    elements = float(groups) * s * s
    kept = 0.0 if "core_attention" in work.recompute else 1.0
    return (
        gemm("scores", s, s, model.qk_dim, "bf16", groups),
        moved("softmax", "softmax", elements, 4.0, 2.0 * elements * kept),
        moved("dropout", "dropout", elements, 5.0, 3.0 * elements * kept),
        gemm("context", s, model.v_dim, s, "bf16", groups),
        # From [heads, s, width] to [s, heads x width], which the output layer reads.
        moved("join heads", "copy", work.tokens * work.heads * model.v_dim, 4.0),
        Op("queries, keys, values", "copy", saved=_kept_qkv(work)),
    )


def _unfused_backward(work: Work) -> Ops:
    s = work.seq_length
    model = work.model
    groups = _sequence_heads(work)
    elements = float(groups) * s * s
    # Two products per product of the forward pass, the masks and the softmax between them.
    return (
        gemm("context dgrad", s, s, model.v_dim, "bf16", groups),
        gemm("value gradient", s, model.v_dim, s, "bf16", groups),
        moved("dropout backward", "dropout", elements, 5.0),
        moved("softmax backward", "softmax_backward", elements, 6.0),
        gemm("query gradient", s, model.qk_dim, s, "bf16", groups),
        gemm("key gradient", s, model.qk_dim, s, "bf16", groups),
        # The split of queries, keys and values: their gradients are joined into one.
        moved("join gradients", "copy", _qkv(work), 4.0),
    )


def _sequence_heads(work: Work) -> int:
    """Return the number of [s, s] score matrices: one per sequence and head."""
    return round(work.tokens * work.heads / work.seq_length)

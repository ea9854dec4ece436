"""The ends of a model: input embedding, output head with its loss, the multi-token-prediction module's own parts."""

from __future__ import annotations

from simulator.ops.op import Op, Work, gemm, keep, moved, quantise, wgrad


def embed(work: Work) -> tuple[Op, ...]:
    """Return the lookup of the input embedding."""
    return (moved("lookup", "embedding", work.tokens * work.model.hidden_size, 4.0),)


def embed_wgrad(work: Work) -> tuple[Op, ...]:
    """Return the scatter of gradients into the input embedding, in FP32."""
    return (moved("scatter", "embedding", work.tokens * work.model.hidden_size, 10.0),)


def head_forward(work: Work) -> tuple[Op, ...]:
    """Return the final norm, the output head (BF16) and the softmax cross-entropy over the vocabulary."""
    t, h, vocab = work.tokens, work.model.hidden_size, work.model.vocab_size
    return (
        keep(moved("final norm", "norm", t * h, 4.0), 4.0 * t * h),
        gemm("head", t, vocab, h, "bf16"),
        # Fused cross-entropy reads the BF16 logits and writes their gradient over them.
        keep(moved("loss", "loss", t * vocab, 4.0), 2.0 * t * vocab),
    )


def head_backward(work: Work) -> tuple[Op, ...]:
    """Return the input gradient of the output head."""
    t, h, vocab = work.tokens, work.model.hidden_size, work.model.vocab_size
    return (gemm("head dgrad", t, h, vocab, "bf16"), moved("final norm backward", "norm_backward", t * h, 6.0))


def head_wgrad(work: Work) -> tuple[Op, ...]:
    """Return the weight gradient of the output head, accumulated in FP32."""
    return (wgrad("head wgrad", work.model.vocab_size, work.model.hidden_size, work.tokens, "bf16"),)


def mtp_input_forward(work: Work) -> tuple[Op, ...]:
    """Return the start of an MTP module: two norms, the next token's embedding and the projection of 2h to h."""
    t, h = work.tokens, work.model.hidden_size
    return (
        *embed(work),
        keep(moved("two norms", "norm", 2 * t * h, 4.0), 4.0 * t * h),
        *quantise(work.recipe, 2 * t * h),
        gemm("mtp projection", t, h, 2 * h, work.recipe.gemm),
    )


def mtp_input_backward(work: Work) -> tuple[Op, ...]:
    """Return the input gradient of an MTP module's start."""
    t, h = work.tokens, work.model.hidden_size
    return (
        *quantise(work.recipe, t * h, t * h, 2 * t * h),
        gemm("mtp projection dgrad", t, 2 * h, h, work.recipe.gemm),
        moved("two norms backward", "norm_backward", 2 * t * h, 6.0),
    )


def mtp_input_wgrad(work: Work) -> tuple[Op, ...]:
    """Return the weight gradients of an MTP module's start."""
    h = work.model.hidden_size
    return (wgrad("mtp projection wgrad", h, 2 * h, work.tokens, work.recipe.gemm), *embed_wgrad(work))

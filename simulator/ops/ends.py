"""The ends of a model: input embedding, output head with its loss, the multi-token-prediction module's own parts.

Embedding and head are cut over the tensor parallel group by the vocabulary.
"""

from __future__ import annotations

from simulator.ops import parallel
from simulator.ops.op import Ops, Work, gemm, keep, moved, norm, norm_backward, quantise, wgrad


def embed(work: Work) -> Ops:
    """Return the lookup of the input embedding, and of learned positions."""
    size = work.tokens * work.model.hidden_size
    ops = parallel.scatter(work, (moved("lookup", "embedding", size, 4.0),))
    if not work.model.learned_positions:
        return ops
    return (*ops, moved("add positions", "elementwise", work.own * work.model.hidden_size, 4.0))


def embed_wgrad(work: Work) -> Ops:
    """Return the scatter of gradients into the input embedding, in FP32."""
    size = work.tokens * work.model.hidden_size
    return (
        *parallel.gather(work, "gather embedding gradient", each=2.0),
        moved("scatter", "embedding", size, 10.0),
    )


def head_forward(work: Work) -> Ops:
    """Return the final norm, the output head (BF16) and the softmax cross-entropy over the vocabulary."""
    t, own, h, vocab = work.tokens, work.own, work.model.hidden_size, _vocabulary(work)
    return (
        norm(work.recipe, "final norm", own * h, 4.0 * own * h),
        *parallel.gather(work, each=2.0),
        gemm("head", t, vocab, h, "bf16"),
        # Fused cross-entropy reads the BF16 logits and writes their gradient over them.
        keep(moved("loss", "loss", t * vocab, 4.0), 2.0 * t * vocab),
    )


def head_backward(work: Work) -> tuple[Ops, Ops]:
    """Return the input gradient of the output head in two parts, as `attention.input_gradient`."""
    t, h, vocab = work.tokens, work.model.hidden_size, _vocabulary(work)
    first = parallel.input_gradient(work, (gemm("head dgrad", t, h, vocab, "bf16"),), each=2.0)
    last = (norm_backward(work.recipe, "final norm backward", work.own * h),)
    return (first, last) if work.tp > 1 else ((*first, *last), ())


def head_wgrad(work: Work) -> Ops:
    """Return the weight gradient of the output head, accumulated in FP32."""
    return (wgrad("head wgrad", _vocabulary(work), work.model.hidden_size, work.tokens, "bf16"),)


def _vocabulary(work: Work) -> int:
    """Return the rows of the head on this GPU; the vocabulary is padded where the group does not divide it."""
    return -(-work.model.vocab_size // work.tp)


def mtp_input_forward(work: Work) -> Ops:
    """Return the start of an MTP module: two norms, the next token's embedding and the projection of 2h to h."""
    own, h = work.own, work.model.hidden_size
    return (
        *embed(work),
        norm(work.recipe, "two norms", 2 * own * h, 4.0 * own * h),
        *quantise(work.recipe, 2 * own * h),
        gemm("mtp projection", own, h, 2 * h, work.recipe.gemm),
    )


def mtp_input_backward(work: Work) -> Ops:
    """Return the input gradient of an MTP module's start."""
    own, h = work.own, work.model.hidden_size
    return (
        *quantise(work.recipe, own * h, own * h, 2 * own * h),
        gemm("mtp projection dgrad", own, 2 * h, h, work.recipe.gemm),
        norm_backward(work.recipe, "two norms backward", 2 * own * h),
    )


def mtp_input_wgrad(work: Work) -> Ops:
    """Return the weight gradients of an MTP module's start."""
    h = work.model.hidden_size
    return (wgrad("mtp projection wgrad", h, 2 * h, work.own, work.recipe.gemm), *embed_wgrad(work))

"""Input embedding, output head with its loss, and the multi-token-prediction module's own parts.

Embedding and head are cut over the tensor parallel group by the vocabulary.
"""

from __future__ import annotations

from simulator.ops import loss, parallel
from simulator.ops.op import Item, Op, Ops, Work, gemm, moved, norm, norm_backward, quantise, wgrad


def embed(work: Work) -> Ops:
    """Return the lookup of the input embedding, and of learned positions."""
    h = work.model.hidden_size
    lookup = moved("lookup", "embedding", work.tokens * h, 4.0)
    # Each GPU looks up the part of the vocabulary that it holds: the sum completes the rows.
    ops = parallel.scatter(work, (lookup,))
    if not work.model.learned_positions:
        return ops
    positions = moved("add positions", "elementwise", work.own * h, 4.0)
    return (*ops, positions)


def embed_wgrad(work: Work) -> Ops:
    """Return the scatter of gradients into the input embedding, in FP32."""
    elements = work.tokens * work.model.hidden_size
    return (
        *parallel.gather(work, "gather embedding gradient", bytes_per_element=2.0),
        # Reads a gradient in BF16, reads and writes the sum in FP32.
        moved("scatter", "embedding", elements, 10.0),
    )


def head_forward(work: Work) -> Ops:
    """Return the final norm, the output head (BF16) and the cross-entropy over the vocabulary."""
    h = work.model.hidden_size
    vocabulary = _vocabulary(work)
    normed = work.own * h
    # Kept: the residual stream and the norm's output, both in BF16.
    final_norm = norm(work, "final norm", normed, 4.0 * normed)
    if work.loss == loss.CHUNKED:
        return (final_norm, *_chunks(work))
    return (
        final_norm,
        *parallel.gather(work, bytes_per_element=2.0),
        gemm("head", work.tokens, vocabulary, h, "bf16"),
        *loss.forward(work, work.tokens * vocabulary),
    )


def _chunks(work: Work) -> Ops:
    """Return head and loss by parts of the sequence, each with its gradients before the next.

    Kept instead of logits: the gradient of the head's input, BF16. The head's weight gradient is
    added up where gradients are (Liger Kernel, ops/fused_linear_cross_entropy.py).
    """
    h = work.model.hidden_size
    vocabulary = _vocabulary(work)
    count = loss.chunks(work)
    rows = work.tokens / count
    chunk: tuple[Item, ...] = (
        gemm("head", rows, vocabulary, h, "bf16"),
        moved("loss", "loss", rows * vocabulary, 4.0),
        gemm("head dgrad", rows, h, vocabulary, "bf16"),
        wgrad("head wgrad", vocabulary, h, round(rows), "bf16"),
    )
    return (*chunk * count, Op("input gradient", "copy", saved=2.0 * work.tokens * h))


def head_backward(work: Work) -> tuple[Ops, Ops]:
    """Return the input gradient of the output head in two parts, as `attention.input_gradient`."""
    h = work.model.hidden_size
    vocabulary = _vocabulary(work)
    first: Ops = ()
    if work.loss != loss.CHUNKED:  # whose forward pass has computed it
        dgrad = gemm("head dgrad", work.tokens, h, vocabulary, "bf16")
        logits = loss.backward(work, work.tokens * vocabulary)
        first = (*logits, *parallel.input_gradient(work, (dgrad,), bytes_per_element=2.0))
    last = (norm_backward(work, "final norm backward", work.own * h),)
    return parallel.split_at_sum(work, first, last)


def head_wgrad(work: Work) -> Ops:
    """Return the weight gradient of the output head, accumulated in FP32."""
    if work.loss == loss.CHUNKED:
        return ()
    h = work.model.hidden_size
    return (wgrad("head wgrad", _vocabulary(work), h, work.tokens, "bf16"),)


def _vocabulary(work: Work) -> int:
    """Return the rows of the head on this GPU.

    The vocabulary is padded where the group does not divide it.
    """
    return -(-work.model.vocab_size // work.tp)  # rounded up


def mtp_input_forward(work: Work) -> Ops:
    """Return the start of an MTP module.

    That is two norms, the next token's embedding and the projection of 2h to h.
    """
    own = work.own
    h = work.model.hidden_size
    normed = 2 * own * h  # the residual stream and the embedding, side by side
    return (
        *embed(work),
        norm(work, "two norms", normed, 4.0 * own * h),
        *quantise(work.recipe, normed),
        gemm("mtp projection", own, h, 2 * h, work.recipe.gemm),
    )


def mtp_input_backward(work: Work) -> Ops:
    """Return the input gradient of an MTP module's start."""
    own = work.own
    h = work.model.hidden_size
    gradient = own * h  # of the projection's output
    normed = 2 * own * h  # of its input
    return (
        *quantise(work.recipe, gradient, gradient, normed),
        gemm("mtp projection dgrad", own, 2 * h, h, work.recipe.gemm),
        norm_backward(work, "two norms backward", normed),
    )


def mtp_input_wgrad(work: Work) -> Ops:
    """Return the weight gradients of an MTP module's start."""
    h = work.model.hidden_size
    projection = wgrad("mtp projection wgrad", h, 2 * h, work.own, work.recipe.gemm)
    return (projection, *embed_wgrad(work))

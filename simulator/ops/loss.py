"""The cross-entropy over the vocabulary as software stacks run it: kernels, bytes moved, bytes kept.

One row of LOSSES per implementation. The logits are BF16 wherever they come from the output head.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.ops.op import Op, Ops, Transfer, Work, moved

FP32 = 4.0
"""Size of a number that is summed [B]."""


class Loss(NamedTuple):
    """An implementation of the loss. All sizes are bytes per logit [B]."""

    forward: float
    """Moved by the kernels of the forward pass."""
    forward_kernels: int
    """How many they are."""
    kept: float
    """Kept for the backward pass."""
    forward_peak: float
    """There at once while the forward pass runs, `kept` included."""
    backward: float = 0.0
    """Moved by the kernels of the backward pass."""
    backward_kernels: int = 0
    """How many they are."""
    backward_peak: float = 0.0
    """There at once while the backward pass runs, `kept` included."""
    sums: tuple[float, ...] = ()
    """All-reduces over the parts of the vocabulary: numbers of each per token."""


LOSSES = {
    # One kernel reads the logits and writes their gradient over them (Transformer Engine,
    # common/triton/cross_entropy.py; Liger Kernel; flash-attn's with inplace_backward). Its second
    # read of a row finds it in L2. Over a cut vocabulary one gather brings maximum, sum
    # and target's logit: here as an all-reduce of the three.
    "fused": Loss(4.0, 1, kept=2.0, forward_peak=2.0, backward_peak=2.0, sums=(3,)),
    # torch.compile folds the cast into the softmax, keeps the logits, and writes their gradient
    # next to them.
    # Over a cut vocabulary PyTorch sums maximum, sum and target's logit one by one
    # (distributed/tensor/parallel/loss.py).
    "compiled": Loss(
        2.0,
        2,
        kept=2.0,
        forward_peak=2.0,
        backward=4.0,
        backward_kernels=1,
        backward_peak=4.0,
        sums=(1, 1, 1),
    ),
    # Megatron-LM, core/tensor_parallel/cross_entropy.py: a cast to FP32 (6 B), maximum (4), and in
    # place a subtraction (8), exponential (8), sum (4) and division (8), with some ten small
    # kernels for targets. The FP32 softmax is kept; in the backward pass it is scaled in place (8)
    # and cast to BF16 (6). Maximum, target's logit and sum are all-reduced one by one.
    "vocab_parallel": Loss(
        38.0,
        16,
        kept=4.0,
        forward_peak=6.0,
        backward=14.0,
        backward_kernels=4,
        backward_peak=6.0,
        sums=(1, 1, 1),
    ),
    # Megatron-LM, core/fusions/fused_cross_entropy.py of 2026: cast and maximum in one kernel (6 B),
    # subtraction and exponential in another (8), then sum (4) and division (8), with some four for
    # targets; behind as above. Before that torch.compile wrote the steps in place to new buffers
    # and copied them back, says its note, so that it moved as much as the one above. Target's logit
    # and sum are all-reduced together.
    "fused_vocab_parallel": Loss(
        26.0,
        8,
        kept=4.0,
        forward_peak=6.0,
        backward=14.0,
        backward_kernels=4,
        backward_peak=6.0,
        sums=(1, 2),
    ),
    # torch.nn.functional.cross_entropy(logits.float(), labels): a cast (6 B), log_softmax (8), of
    # which the FP32 output is kept; then zeros with a gradient at the targets (4), the softmax's
    # backward (12) and a cast to BF16 (6). Logits, their FP32 copy and the output are there at once
    # ahead, the output and two FP32 gradients on the way back.
    "unfused": Loss(
        14.0, 3, kept=4.0, forward_peak=10.0, backward=22.0, backward_kernels=4, backward_peak=12.0
    ),
}
"""`training.loss` -> what it does with logits that are there as a whole."""

CHUNKED = "chunked"
"""The loss whose logits are never there as a whole, see `embedding_head`."""


def forward(work: Work, logits: float) -> Ops:
    """Return the loss of logits. logits: how many there are on this GPU."""
    loss = LOSSES[work.loss]
    op = moved("loss", "loss", logits, loss.forward, loss.kept * logits)
    return (op._replace(launches=loss.forward_kernels), *_sums(work, loss))


def _sums(work: Work, loss: Loss) -> Ops:
    """Return the all-reduces over ranks that hold parts of the vocabulary, two passes each."""
    if work.tp == 1:
        return ()
    return tuple(
        Transfer("sum over vocabulary", "tp", 2.0 * FP32 * numbers * work.tokens)
        for numbers in loss.sums
    )


def backward(work: Work, logits: float) -> Ops:
    """Return the gradient of the logits; nothing where the forward pass has written it."""
    loss = LOSSES[work.loss]
    if not loss.backward:
        return ()
    op: Op = moved("loss backward", "loss", logits, loss.backward)
    return (op._replace(launches=loss.backward_kernels),)


def chunks(work: Work) -> int:
    """Return the parts of the sequence of a loss whose logits are never there as a whole.

    As many as make the logits of one as large as the residual stream, a power of two tokens each
    (Liger Kernel, ops/fused_linear_cross_entropy.py).
    """
    model = work.model
    least = -(-model.vocab_size // model.hidden_size)
    rows = -(-work.tokens // least)
    rows = 1 << (rows - 1).bit_length()
    return -(-work.tokens // rows)

"""What a block needs next to what it keeps: the tensors that live only while a pass runs.

Autograd frees what a layer has kept as soon as that layer's backward pass has read it, and the
gradients of activations live no longer than from one kernel to the next but one. So the largest sum
counts, not the sum of all.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.ops import loss
from simulator.ops.expert_kernels import padded_rows
from simulator.ops.op import Work


class Working(NamedTuple):
    """Bytes on top of what is kept [B]."""

    forward: float = 0.0
    """While the forward pass of the block runs."""
    backward: float = 0.0
    """While its backward pass runs, before anything that it has kept is freed."""


def working(part: str, work: Work) -> Working:
    """Return what one part of a block needs. part: a key of `ops.BLOCKS`."""
    if part == "head":
        return _head(work)
    if part in ("dense", "moe"):
        return _layer(part, work)
    # Embeddings and an MTP module's projection: a gradient of the residual stream comes in.
    return Working(0.0, _stream(work))


def _stream(work: Work) -> float:
    """Return the residual stream of a micro-batch, BF16 [B]."""
    return 2.0 * work.own * work.model.hidden_size


def _head(work: Work) -> Working:
    rows = -(-work.model.vocab_size // work.tp)
    logits = float(work.tokens * rows)
    if work.loss == loss.CHUNKED:
        part = 2.0 * logits / loss.chunks(work)
        return Working(part, _stream(work))
    costs = loss.LOSSES[work.loss]
    ahead = costs.forward_peak - costs.kept
    back = costs.backward_peak - costs.kept
    # The gradient of the logits turns into one of the residual stream.
    return Working(ahead * logits, back * logits + _stream(work))


def _layer(part: str, work: Work) -> Working:
    """Return what a transformer layer needs: its FFN as a rule, or unfused attention's matrices."""
    streams = 2.0 * _stream(work)
    ffn = streams + _ffn_gradients(part, work)
    return Working(streams, max(ffn, streams + _score_gradients(work)))


def _ffn_gradients(part: str, work: Work) -> float:
    """Return the gradients of the first layer's output while the activation's backward pass runs.

    That of the activation's output is there too, but what was kept of it no more.
    """
    model = work.model
    matrices = 2 if model.gated else 1
    if part == "dense":
        return 2.0 * work.tokens * matrices * model.intermediate_size / work.tp
    routed = padded_rows(work) * model.moe_intermediate_size / work.etp
    return 2.0 * matrices * routed


def _score_gradients(work: Work) -> float:
    """Return the gradients of two [s, s] matrices per head, where attention runs unfused."""
    if not work.unfused:
        return 0.0
    return 2.0 * 2.0 * work.tokens * work.heads * work.seq_length

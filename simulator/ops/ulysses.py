"""Attention with its heads spread over context parallel ranks: DeepSpeed-Ulysses (arXiv 2309.14509).

All-to-alls turn a part of the sequence with all heads into the whole sequence with a part of the
heads, and back. Each tensor is rearranged in front of its exchange and behind it (Transformer
Engine, flash_attn_a2a_communicate); the backward pass exchanges output and its gradient on the way
in, the gradients of queries, keys and values on the way out (AttnFuncWithCPAndQKVOA2A).
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.ops.op import Op, Ops, Transfer, Work, moved

_BYTES = 2.0
"""Of an element: BF16 [B]."""


class _Tensor(NamedTuple):
    """What is exchanged."""

    name: str
    """What it is, as traces show it."""
    width: int
    """Elements of a token on a tensor parallel rank."""


def spread_heads(work: Work, core: Ops) -> Ops:
    """Return attention in the forward pass with its exchanges."""
    return (*_exchange(work, *_inputs(work)), *core, *_exchange(work, _output(work)))


def spread_heads_backward(work: Work, core: Ops) -> Ops:
    """Return the gradients of attention with their exchanges."""
    output = _output(work)
    gradient = output._replace(name="output gradient")
    inputs = [tensor._replace(name=f"{tensor.name} gradient") for tensor in _inputs(work)]
    return (*_exchange(work, output, gradient), *core, *_exchange(work, *inputs))


def _inputs(work: Work) -> tuple[_Tensor, ...]:
    model = work.model
    # MLA's keys and values are expanded before they travel: a head of each for every query head.
    heads = work.attended_heads
    return (
        _Tensor("queries", work.heads * model.qk_dim),
        _Tensor("keys", heads * model.qk_dim),
        _Tensor("values", heads * model.v_dim),
    )


def _output(work: Work) -> _Tensor:
    return _Tensor("output", work.heads * work.model.v_dim)


def _exchange(work: Work, *tensors: _Tensor) -> Ops:
    """Return the exchange of tensors of a GPU's part of the sequence, one after another."""
    elements = float(work.tokens * sum(tensor.width for tensor in tensors))
    before = _rearranged("rearrange to send", elements, len(tensors))
    behind = _rearranged("rearrange received", elements, len(tensors))
    transfers = [
        Transfer(f"exchange {tensor.name}", "ulysses", work.tokens * tensor.width * _BYTES)
        for tensor in tensors
    ]
    return (before, *transfers, behind)


def _rearranged(name: str, elements: float, tensors: int) -> Op:
    """Return the copies of some tensors: each element is read and written."""
    return moved(name, "copy", elements, 2 * _BYTES)._replace(launches=tensors)

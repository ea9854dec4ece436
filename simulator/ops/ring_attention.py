"""Context parallel attention as PyTorch runs it (torch/distributed/tensor/experimental/_attention.py).

Each rank has a chunk from the front and its mirror from the back of the sequence
(enable_load_balance), so that each of cp kernels has as much work. Keys and values are joined, then
gathered once while the first kernel runs (rotate_method ALL_GATHER, its default and torchtitan's), or
passed on during each kernel (ALL_TO_ALL). Partial outputs are merged in FP32 by their log-sums
(`_SDPAMerger`, convert_to_f32). In the backward pass keys and values come in the same way, and their
gradients are added to in FP32, passed on behind each kernel, the last time to where they belong:
nothing overlaps that. torchtitan compiles the block: a merge, or an addition, is one pass.
"""

from __future__ import annotations

from simulator.ops.op import Item, Op, Ops, Transfer, Work, moved

_BF16 = 2.0
_FP32 = 4.0


def forward(work: Work, core: Op) -> Ops:
    """Return attention with the exchange of keys and values. core: all its kernels as one op."""
    ops: list[Item] = [_joined(work)]
    for step, kernel in enumerate(_kernels(work, core)):
        ops += _keys_and_values(work, step)
        ops.append(kernel)
        if step:
            ops.append(_merged(work, step))
    return tuple(ops)


def backward(work: Work, core: Op) -> Ops:
    """Return its gradients. core: all their kernels as one op."""
    ops: list[Item] = [moved("join keys and values", "copy", _elements(work), 2 * _BF16)]
    for step, kernel in enumerate(_kernels(work, core)):
        ops += _keys_and_values(work, step)
        ops += (kernel, _added(work, step))
        # The next kernel does not read the gradients; behind the last one there is none.
        ahead = 1 if step < work.cp - 1 else 0
        ops.append(_passed(work, "pass key-value gradients", _FP32, ahead))
    ops.append(moved("cast key-value gradients", "elementwise", _elements(work), _FP32 + _BF16))
    return tuple(ops)


def _elements(work: Work) -> float:
    """Return the elements of keys and values of a rank's own tokens."""
    width = work.model.qk_dim + work.model.v_dim
    return float(work.tokens * work.attended_heads * width)


def _joined(work: Work) -> Op:
    """Return the copies to contiguous keys and values, and of both into one buffer."""
    copies = moved("join keys and values", "copy", _elements(work), 4 * _BF16)
    return copies._replace(launches=3)


def _kernels(work: Work, core: Op) -> list[Op]:
    """Return the kernels of a ring; what is kept is kept once."""
    one = core._replace(flops=core.flops / work.cp, launches=1)
    others = one._replace(saved=0.0)
    return [one] + [others] * (work.cp - 1)


def _keys_and_values(work: Work, step: int) -> Ops:
    """Return what brings the keys and values of later steps. step: the kernel that it overlaps."""
    if work.cp_gather:
        if step:
            return ()
        size = work.cp * _elements(work) * _BF16
        return (Transfer("gather keys and values", "cp", size, concurrent=1),)
    if step == work.cp - 1:
        return ()
    return (_passed(work, "pass keys and values", _BF16, 1),)


def _passed(work: Work, name: str, bytes_per_element: float, concurrent: int) -> Transfer:
    """Return a pass of keys and values, or of their gradients, from each rank to the next one.

    A whole buffer of which a ring's gather sends as much from each rank.
    """
    sent = _elements(work) * bytes_per_element
    return Transfer(name, "cp_ring", sent * work.cp / (work.cp - 1), concurrent=concurrent)


def _merged(work: Work, step: int) -> Op:
    """Return the merge of an output with those before it, and of the log-sums.

    The first one reads two BF16 outputs, the last one writes BF16, all between are FP32.
    """
    before = _BF16 if step == 1 else _FP32
    written = _BF16 if step == work.cp - 1 else _FP32
    elements = float(work.tokens * work.heads * work.model.v_dim)
    op = moved("merge outputs", "elementwise", elements, before + _BF16 + written)
    return op._replace(launches=2)


def _added(work: Work, step: int) -> Op:
    """Return the addition of a kernel's BF16 gradients to the FP32 sums of all three.

    The first one finds nothing to add to; those of queries are BF16 in the end.
    """
    before = _FP32 if step else 0.0
    written = _BF16 if step == work.cp - 1 else _FP32
    queries = work.tokens * work.heads * work.model.qk_dim * (before + _BF16 + written)
    others = _elements(work) * (before + _BF16 + _FP32)
    return Op("add gradients", "elementwise", bytes=queries + others, launches=3)

"""GEMMs that overlap a collective of tensor parallelism, as Transformer Engine runs them.

Userbuffers (transformer_engine/common/comm_gemm_overlap) cuts a GEMM by rows. With p pieces of
length g, and transfers of length t that pass a piece on:

- ring exchange, gathering: the first piece is the GPU's own; piece i waits for transfer i, and a
  transfer only for the one before it. The end is the latest of i t + (p - i) g over the pieces, an
  expression linear in i, so that of the first or the last: g + (p - 1) max(g, t).
- ring exchange, scattering: the same in reverse order of time, and a sum of what has come.
- pipeline: transfer i waits for piece i, and all p of them travel: g + (p - 1) max(g, t) + t.

So one transfer of all but the last part, next to p - 1 pieces, and one piece before or behind it
tell the end of a pipeline exactly, whatever p is.

A collective is overlapped only if it is launched before its GEMM: a persistent GEMM holds every SM
to its end. On Hopper that takes CUDA_DEVICE_MAX_CONNECTIONS=1, which Megatron sets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from simulator.hardware import OverlapMethod
from simulator.ops.op import Op, Ops, Taken, Transfer, moved, piece


def gathering(transfer: Transfer, ops: Ops, ranks: int, seconds: float = 0.0) -> Ops:
    """Return a gather that a ring passes on while the first GEMM of `ops` runs in pieces.

    ops: what runs behind it; what stands before its GEMM runs next to the transfer. seconds: of the
    transfer, alone.
    """
    before, whole, behind = _around(ops)
    last = piece(whole, ranks)
    # The last piece to come is the only one that waits for all of them.
    covered = _covered(last, ranks - 1, Taken(seconds))
    travelling = _by_userbuffers(transfer, len(before) + ranks - 1)
    return (copied(transfer, ranks), travelling, *before, *covered, last, *behind)


def copied(gather: Transfer, ranks: int) -> Op:
    """Return the copy of a GPU's own part into the registered buffer that a gather is passed on from.

    Transformer Engine, module/base.py, fill_userbuffers_buffer_for_all_gather.
    """
    return moved("copy to buffer", "copy", gather.bytes / ranks, 2.0)


def scattering(
    transfer: Transfer, ops: Ops, ranks: int, method: OverlapMethod, seconds: float = 0.0
) -> Ops:
    """Return a sum over the group that travels while the GEMM of `ops` runs in pieces.

    seconds: of the transfer, alone.
    """
    before, whole, behind = _around(ops)
    ring = method.method == "ring_exchange"
    count = ranks if ring else method.splits
    margin = Taken(0.0, method.sms, margin=True)
    first = piece(whole, count)._replace(taken=margin)
    if ring:
        rest = _covered(first, count - 1, margin._replace(seconds=seconds))
        travelling = _by_userbuffers(transfer, len(rest) + len(behind))
        # Copies do not add: the parts of all ranks are read, and their sum is written.
        own = transfer.bytes / 2.0 / ranks  # [elements], in BF16
        total = moved("sum pieces", "elementwise", own, 2.0 * (ranks + 1))
        return (*before, first, travelling, *rest, *behind, total)
    last = transfer.bytes / count
    most = replace(transfer, bytes=transfer.bytes - last)
    exposed = replace(transfer, name=f"{transfer.name}, last", bytes=last)
    hidden = seconds * (count - 1) / count
    rest = _covered(first, count - 1, margin._replace(seconds=hidden))
    travelling = _by_userbuffers(most, len(rest) + len(behind))
    return (*before, first, travelling, *rest, *behind, _by_userbuffers(exposed, 0))


def _covered(part: Op, count: int, taken: Taken) -> Ops:
    """Return the pieces of a GEMM that run next to a transfer, each next to its share of it."""
    share = taken._replace(seconds=taken.seconds / count)
    return (part._replace(taken=share),) * count


def sharing(ops: Ops, taken: Taken) -> Ops:
    """Return ops from whose GEMMs a transfer that runs next to them takes SMs."""
    return tuple(_sharing(op, taken) if isinstance(op, Op) else op for op in ops)


def next_to(transfer: Transfer) -> Transfer:
    """Return a transfer that runs next to a GEMM which does not touch its data."""
    return _by_userbuffers(transfer, transfer.concurrent)


def _sharing(op: Op, taken: Taken) -> Op:
    return op._replace(taken=taken) if op.flops else op


def _by_userbuffers(transfer: Transfer, concurrent: int) -> Transfer:
    return replace(transfer, group="userbuffers", concurrent=concurrent)


class _Around(NamedTuple):
    """The ops of a layer, cut at its GEMM."""

    before: Ops
    """What stands before it."""
    whole: Op
    """The GEMM."""
    behind: Ops
    """What stands behind it."""


def _around(ops: Ops) -> _Around:
    """Return ops cut at the first GEMM among them."""
    for index, op in enumerate(ops):
        if isinstance(op, Op) and op.kind == "gemm":
            return _Around(ops[:index], op, ops[index + 1 :])
    raise AssertionError("there is no GEMM to overlap")

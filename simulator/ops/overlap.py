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

from simulator.hardware import OverlapMethod
from simulator.ops.op import Op, Ops, Transfer, moved, piece


def gathering(transfer: Transfer, ops: Ops, ranks: int) -> Ops:
    """Return a gather that a ring passes on while the first GEMM of `ops` runs in pieces.

    ops: what runs behind it; what stands before its GEMM runs next to the transfer.
    """
    before, whole, behind = _around(ops)
    pieces = (piece(whole, ranks),) * ranks
    # The last piece to come is the only one that waits for all of them.
    unwaited = len(before) + ranks - 1
    return (_by_userbuffers(transfer, unwaited), *before, *pieces, *behind)


def scattering(transfer: Transfer, ops: Ops, ranks: int, method: OverlapMethod) -> Ops:
    """Return a sum over the group that travels while the GEMM of `ops` runs in pieces."""
    before, whole, behind = _around(ops)
    ring = method.method == "ring_exchange"
    count = ranks if ring else method.splits
    first = piece(whole, count)._replace(sms=method.sms)
    rest = (first,) * (count - 1)
    concurrent = len(rest) + len(behind)
    if ring:
        travelling = _by_userbuffers(transfer, concurrent)
        # Copies do not add: the parts of all ranks are read, and their sum is written.
        own = transfer.bytes / 2.0 / ranks  # [elements], in BF16
        total = moved("sum pieces", "elementwise", own, 2.0 * (ranks + 1))
        return (*before, first, travelling, *rest, *behind, total)
    last = transfer.bytes / count
    most = replace(transfer, bytes=transfer.bytes - last)
    rest_of_it = replace(transfer, name=f"{transfer.name}, last", bytes=last)
    travelling = _by_userbuffers(most, concurrent)
    exposed = _by_userbuffers(rest_of_it, 0)
    return (*before, first, travelling, *rest, *behind, exposed)


def leaving(ops: Ops, method: OverlapMethod) -> Ops:
    """Return ops whose GEMMs leave SMs to a transfer that runs next to them."""
    return tuple(_leaving(op, method.sms) if isinstance(op, Op) else op for op in ops)


def next_to(transfer: Transfer) -> Transfer:
    """Return a transfer that runs next to a GEMM which does not touch its data."""
    return _by_userbuffers(transfer, transfer.concurrent)


def _leaving(op: Op, sms: int) -> Op:
    return op._replace(sms=sms) if op.flops else op


def _by_userbuffers(transfer: Transfer, concurrent: int) -> Transfer:
    return replace(transfer, group="userbuffers", concurrent=concurrent)


def _around(ops: Ops) -> tuple[Ops, Op, Ops]:
    """Return what stands before the GEMM of a layer, the GEMM, and what stands behind it."""
    for index, op in enumerate(ops):
        if isinstance(op, Op) and op.kind == "gemm":
            return ops[:index], op, ops[index + 1 :]
    raise AssertionError("there is no GEMM to overlap")

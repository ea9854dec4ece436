"""What a profiler says of a collective: its name, sizes, dtype and group, by the names that PyTorch's tools read.

The names are those of `record_param_comms` in PyTorch
(torch/csrc/distributed/c10d/ParamCommsUtils.hpp) as Kineto writes them next to a kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.kinds import DATA, EXCHANGES, SENDS, CoflowKind
from simulator.collectives.named import dispatcher_of
from simulator.costs.buckets import Bucket, Members, holders, of_stage, shards
from simulator.experts import WAYS
from simulator.precision import BYTES, Dtype
from simulator.program import Coflow, Program
from simulator.program.coflows import stage_hosts

DTYPES: dict[Dtype, str] = {
    "bf16": "BFloat16",
    "fp8": "Float8_e4m3fn",
    "fp8_tensor": "Float8_e4m3fn",
    "fp8_blockwise": "Float8_e4m3fn",
    "mxfp8": "Float8_e4m3fn",
    "nvfp4": "Float4_e2m1fn_x2",
}
"""Dtype of a recipe -> PyTorch's name of it."""
WIDTHS = {1.0: "Float8_e4m3fn", 2.0: "BFloat16", 4.0: "Float", 8.0: "Double"}
"""Bytes of a gradient or a parameter -> PyTorch's name of its type."""
KERNELS = {
    "all_gather": "AllGather",
    "reduce_scatter": "ReduceScatter",
    "all_reduce": "AllReduce",
    "dispatch": "Dispatch",
    "cached_dispatch": "Dispatch",
    "combine": "Combine",
    "F": "SendRecv",
    "B": "SendRecv",
    "ring": "SendRecv",
}
"""What a transfer does -> the middle of its kernel's name, as NCCL's: ncclDevKernel_AllGather."""
CALLS = {
    "AllGather": "_allgather_base",
    "ReduceScatter": "_reduce_scatter_base",
    "AllReduce": "allreduce",
    "Dispatch": "all_to_allv",
    "Combine": "all_to_allv",
    "SendRecv": "send",
}
"""Middle of a kernel's name -> what c10d calls it."""
SHOWN_RANKS = 30
"""PyTorch writes no more ranks of a group than this."""


Group = tuple[int, ...]
"""Ranks of a process group, rising."""


@dataclass(frozen=True, slots=True)
class Call:
    """A transfer as one rank calls it."""

    kernel: str
    """Middle of the kernel's name: a value of KERNELS."""
    sent: int
    """Elements that the rank puts in."""
    received: int
    """Elements that it gets out."""
    dtype: str
    """Type of the elements, as PyTorch writes it."""
    kind: str
    """Kind of the process group: data, expert_data, expert, tp, cp, etp or pp."""
    ranks: Group
    """The process group."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Return what stands next to the kernel in a trace."""
        shown = [str(rank) for rank in self.ranks]
        # As PyTorch shortens them: the first ones, dots, the last one.
        if len(shown) > SHOWN_RANKS:
            first = shown[: SHOWN_RANKS - 1]
            shown = [*first, "...", shown[-1]]
        return {
            "Collective name": CALLS[self.kernel],
            "In msg nelems": self.sent,
            "Out msg nelems": self.received,
            "Group size": len(self.ranks),
            "dtype": self.dtype,
            "Process Group Name": f"{self.kind} of {self.ranks[0]}",
            "Process Group Description": self.kind,
            "Process Group Ranks": f"[{', '.join(shown)}]",
        }


class Calls:
    """Tells what call a row of a program is, and keeps the answers: many rows are alike."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._layout = program.scenario.layout
        self._work = program.costs.work
        self._dispatcher = dispatcher_of(program.scenario)
        self._buckets = list(_buckets(program))
        self._known: dict[tuple[object, ...], Call] = {}

    def of(self, rank_class: int, flow: Coflow, label: str, peer: int = -1) -> Call:
        """Return the call of a class of ranks. label: of its row. peer: rank that a send goes to."""
        # Thousands of rows are the same call of another micro-batch.
        key = (rank_class, flow.label, label, peer)
        if key not in self._known:
            rank = int(self._program.first_rank[rank_class])
            self._known[key] = self._call(rank, flow, label, peer)
        return self._known[key]

    def _call(self, rank: int, flow: Coflow, label: str, peer: int) -> Call:
        kind, number = flow.label
        if kind in EXCHANGES:
            return self._exchange(rank, kind, number)
        if kind in SENDS:
            # Activations and their gradients travel in BF16, whatever the recipe computes in.
            count = round(self._program.costs.activation_bytes() / BYTES["bf16"])
            return Call(
                kernel="SendRecv",
                sent=count,
                received=count,
                dtype=DTYPES["bf16"],
                kind="pp",
                ranks=tuple(sorted((rank, peer))),
            )
        if kind in DATA:
            return self._bucket(rank, kind, number)
        return self._inside(rank, kind, number, label)

    def _exchange(self, rank: int, kind: str, number: int) -> Call:
        """Return a dispatch or a combine. number: of the load of its layer."""
        loads = self._program.costs.loads
        assert loads is not None
        load = loads.distinct[number]
        group = self._group(rank, "expert")
        # A GPU's own tokens on one side, on the other those that its experts receive of all.
        width = self._work.own * self._work.model.hidden_size
        # A kernel that forwards reads each token once; others are given a copy for each receiver.
        copies = 1.0 if self._dispatcher.way is WAYS["hierarchical"] else load.copies
        own = round(width * copies)
        routed = round(width * load.received)
        # Combine is the mirror of dispatch, and adds up in BF16 what went out in the recipe's format.
        if kind == CoflowKind.COMBINE:
            sent, received, dtype = routed, own, DTYPES["bf16"]
        else:
            sent, received, dtype = own, routed, DTYPES[self._work.recipe.dispatch]
        return Call(
            kernel=KERNELS[kind],
            sent=sent,
            received=received,
            dtype=dtype,
            kind="expert",
            ranks=group,
        )

    def _bucket(self, rank: int, kind: str, number: int) -> Call:
        """Return a collective of gradients or parameters. number: of its bucket."""
        bucket, members = self._buckets[number]
        inside, across = shards(self._layout, members)
        table = across if kind == "all_reduce" else inside  # ranks [group, member]
        # Shards lie inside; an all-reduce across them, where it is needed, moves a shard only.
        whole = round(bucket.parameters)
        part = round(bucket.parameters / inside.shape[1])
        sent = whole if kind == "reduce_scatter" else part
        received = whole if kind == "all_gather" else part
        # Without ZeRO, the gather is the second half of a sum of gradients.
        recipe = self._work.recipe
        width = recipe.gradient
        if kind == "all_gather" and self._layout.zero:
            width = recipe.parameter
        return Call(
            kernel=KERNELS[kind],
            sent=sent,
            received=received,
            dtype=WIDTHS.get(width, "Float"),
            kind=bucket.group,
            ranks=tuple(sorted(_row_of(table, rank))),
        )

    def _inside(self, rank: int, kind: str, size: int, label: str) -> Call:
        """Return a collective of tensor, context or expert tensor parallelism. size: see `ops.Transfer` [B]."""
        group = self._group(rank, kind)
        is_sum = label.startswith(("scatter", "sum"))
        # What GEMMs read is gathered in their format, everything else in BF16.
        is_coded = label.startswith("gather input") or (kind == "etp" and not is_sum)
        dtype: Dtype = self._work.recipe.gemm if is_coded else "bf16"
        whole = round(size / BYTES[dtype])
        part = whole // len(group)
        kernel, sent, received = "AllGather", part, whole
        if label == "ring":
            kernel, received = "SendRecv", part
        elif is_sum and kind == "tp" and not self._work.sequence_parallel:
            # An all-reduce passes over its buffer twice, and `size` counts both passes.
            kernel, sent, received = "AllReduce", whole // 2, whole // 2
        elif is_sum:
            kernel, sent, received = "ReduceScatter", whole, part
        return Call(
            kernel=kernel,
            sent=sent,
            received=received,
            dtype=DTYPES[dtype],
            kind=kind,
            ranks=group,
        )

    def _group(self, rank: int, kind: str) -> Group:
        index = self._layout.pipeline_index(rank)
        table = self._layout.ranks(index, kind)  # ranks [group, member]
        return _row_of(table, rank)


def _buckets(program: Program) -> Iterator[tuple[Bucket, Members]]:
    """Yield the buckets that travel, with their holders, in the order in which `program.coflows` numbers them."""
    hosts = stage_hosts(program.schedule)
    for stage, indices in hosts.items():
        for bucket in of_stage(program.costs, stage):
            members = holders(program.scenario.layout, bucket.group, indices)
            # A bucket that one rank holds alone never leaves it, and has no number.
            if members.shape[1] > 1:
                yield bucket, members


def _row_of(table: NDArray[np.int64], rank: int) -> Group:
    """Return the group that holds a rank. table: ranks [group, member]."""
    rows = (row for row in table.tolist() if rank in row)
    return tuple(next(rows))

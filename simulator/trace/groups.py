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

from simulator.collectives.communication import dispatcher_of
from simulator.collectives.kinds import DATA, EXCHANGES, SENDS, CoflowKind
from simulator.costs.buckets import Bucket, Members, holders, of_stage, shards
from simulator.precision import BYTES, Dtype
from simulator.program import Coflow, Program
from simulator.program.coflows import stage_hosts

DTYPES: dict[Dtype, str] = {
    "bf16": "BFloat16",
    "fp8": "Float8_e4m3fn",
    "fp8_tensor": "Float8_e4m3fn",
    "mxfp8": "Float8_e4m3fn",
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
        if len(shown) > SHOWN_RANKS:
            shown = [*shown[: SHOWN_RANKS - 1], "...", shown[-1]]
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
            count = round(self._program.costs.activation_bytes() / BYTES["bf16"])
            return Call("SendRecv", count, count, DTYPES["bf16"], "pp", tuple(sorted((rank, peer))))
        if kind in DATA:
            return self._bucket(rank, kind, number)
        return self._inside(rank, kind, number, label)

    def _exchange(self, rank: int, kind: str, number: int) -> Call:
        """Return a dispatch or a combine. number: of the load of its layer."""
        loads = self._program.costs.loads
        assert loads is not None
        load = loads.distinct[number]
        group = self._group(rank, "expert")
        width = self._work.own * self._work.model.hidden_size
        # A kernel that forwards reads each token once; others are given a copy for each receiver.
        copies = load.copies if self._dispatcher.in_rounds else 1.0
        own, routed = round(width * copies), round(width * load.received)
        if kind == CoflowKind.COMBINE:
            return Call("Combine", routed, own, DTYPES["bf16"], "expert", group)
        return Call("Dispatch", own, routed, DTYPES[self._work.recipe.dispatch], "expert", group)

    def _bucket(self, rank: int, kind: str, number: int) -> Call:
        """Return a collective of gradients or parameters. number: of its bucket."""
        bucket, members = self._buckets[number]
        inside, across = shards(self._layout, members)
        table = across if kind == "all_reduce" else inside
        whole, part = round(bucket.parameters), round(bucket.parameters / inside.shape[1])
        sizes = {
            "all_gather": (part, whole),
            "reduce_scatter": (whole, part),
            "all_reduce": (part, part),
        }
        recipe = self._work.recipe
        is_parameter = kind == "all_gather" and self._layout.zero
        dtype = WIDTHS.get(recipe.parameter if is_parameter else recipe.gradient, "Float")
        group = tuple(sorted(_row_of(table, rank)))
        return Call(KERNELS[kind], *sizes[kind], dtype, bucket.group, group)

    def _inside(self, rank: int, kind: str, size: int, label: str) -> Call:
        """Return a collective of tensor, context or expert tensor parallelism. size: see `ops.Transfer` [B]."""
        group = self._group(rank, kind)
        is_sum = label.startswith(("scatter", "sum"))
        # What GEMMs read is gathered in their format, everything else in BF16.
        is_coded = label.startswith("gather input") or (kind == "etp" and not is_sum)
        dtype: Dtype = self._work.recipe.gemm if is_coded else "bf16"
        whole = round(size / BYTES[dtype])
        part = whole // len(group)
        if label == "ring":
            return Call("SendRecv", part, part, DTYPES[dtype], kind, group)
        # An all-reduce passes over its buffer twice, and `size` counts both passes.
        if is_sum and kind == "tp" and not self._work.sequence_parallel:
            return Call("AllReduce", whole // 2, whole // 2, DTYPES[dtype], kind, group)
        if is_sum:
            return Call("ReduceScatter", whole, part, DTYPES[dtype], kind, group)
        return Call("AllGather", part, whole, DTYPES[dtype], kind, group)

    def _group(self, rank: int, kind: str) -> Group:
        table = self._layout.ranks(self._layout.pipeline_index(rank), kind)
        return _row_of(table, rank)


def _buckets(program: Program) -> Iterator[tuple[Bucket, Members]]:
    """Yield the buckets that travel, with their holders, in the order in which `program.coflows` numbers them."""
    hosts = stage_hosts(program.schedule)
    for stage, indices in hosts.items():
        for bucket in of_stage(program.costs, stage):
            members = holders(program.scenario.layout, bucket.group, indices)
            if members.shape[1] > 1:
                yield bucket, members


def _row_of(table: NDArray[np.int64], rank: int) -> Group:
    """Return the group that holds a rank. table: ranks [group, member]."""
    return tuple(next(row for row in table.tolist() if rank in row))

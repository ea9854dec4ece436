"""What a profiler says of a collective: its name, sizes, dtype and group, by the names that PyTorch's tools read.

The names are those of `record_param_comms` in PyTorch
(torch/csrc/distributed/c10d/ParamCommsUtils.hpp) as Kineto writes them beside a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from simulator.costs.buckets import Bucket, Members, holders, of_stage, shards
from simulator.precision import BYTES, Dtype
from simulator.program import Coflow, Program
from simulator.program.coflows import DATA, EXCHANGES, SENDS, stage_hosts

DTYPES: dict[Dtype, str] = {
    "bf16": "BFloat16",
    "fp8": "Float8_e4m3fn",
    "fp8_tensor": "Float8_e4m3fn",
    "mxfp8": "Float8_e4m3fn",
}
"""dtype of a recipe -> PyTorch's name of it"""
WIDTHS = {1.0: "Float8_e4m3fn", 2.0: "BFloat16", 4.0: "Float", 8.0: "Double"}
"""bytes of a gradient or a parameter -> PyTorch's name"""
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
"""what a transfer does -> the middle of its kernel's name, as NCCL's: ncclDevKernel_AllGather"""
CALLS = {
    "AllGather": "_allgather_base",
    "ReduceScatter": "_reduce_scatter_base",
    "AllReduce": "allreduce",
    "Dispatch": "all_to_allv",
    "Combine": "all_to_allv",
    "SendRecv": "send",
}
"""middle of a kernel's name -> what c10d calls it"""
SHOWN_RANKS = 30
"""PyTorch writes no more ranks of a group than this."""


@dataclass(frozen=True, slots=True)
class Call:
    """A transfer as one rank calls it. kernel: a value of KERNELS. sent/received: elements. group: ranks, rising."""

    kernel: str
    sent: int
    received: int
    dtype: str
    kind: str
    ranks: tuple[int, ...]

    @property
    def arguments(self) -> dict[str, Any]:
        """Return what stands beside the kernel in a trace."""
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


@dataclass
class Calls:
    """Answers what call a row of a program is. Keeps what it has found out."""

    program: Program
    buckets: list[tuple[Bucket, Members]] = field(default_factory=list)
    known: dict[tuple[object, ...], Call] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The order in which `program.coflows` numbers them.
        hosts = stage_hosts(self.program.schedule)
        for stage, indices in hosts.items():
            for bucket in of_stage(self.program.costs, stage):
                members = holders(self.program.scenario.layout, bucket.group, indices)
                if members.shape[1] > 1:
                    self.buckets.append((bucket, members))

    def of(self, rank_class: int, flow: Coflow, label: str, peer: int = -1) -> Call:
        """Return the call of a class of ranks. label: of its row. peer: rank that a send goes to."""
        key = (rank_class, flow.label, label, peer)
        if key not in self.known:
            self.known[key] = self._call(
                int(self.program.first_rank[rank_class]), flow.label, label, peer
            )
        return self.known[key]

    def _call(self, rank: int, coflow: tuple[str, int], label: str, peer: int) -> Call:
        kind, number = coflow
        if kind in EXCHANGES:
            return self._exchange(rank, kind, number)
        if kind in SENDS:
            count = round(self.program.costs.activation_bytes() / 2.0)
            return Call("SendRecv", count, count, "BFloat16", "pp", tuple(sorted((rank, peer))))
        if kind in DATA:
            return self._bucket(rank, kind, number)
        return self._inside(rank, kind, number, label)

    def _exchange(self, rank: int, kind: str, number: int) -> Call:
        costs = self.program.costs
        assert costs.loads is not None
        width = costs.work.own * costs.work.model.hidden_size
        sent, received = round(width), round(width * costs.loads.distinct[number].received)
        if kind == "combine":
            return Call(
                "Combine", received, sent, "BFloat16", "expert", self._group(rank, "expert")
            )
        dtype = DTYPES[costs.work.recipe.dispatch]
        return Call("Dispatch", sent, received, dtype, "expert", self._group(rank, "expert"))

    def _bucket(self, rank: int, kind: str, number: int) -> Call:
        bucket, members = self.buckets[number]
        layout, recipe = self.program.scenario.layout, self.program.costs.work.recipe
        inside, across = shards(layout, members)
        table = across if kind == "all_reduce" else inside
        group = tuple(sorted(next(row for row in table.tolist() if rank in row)))
        whole, part = round(bucket.parameters), round(bucket.parameters / inside.shape[1])
        width = recipe.parameter if kind == "all_gather" and layout.zero else recipe.gradient
        sizes = {
            "all_gather": (part, whole),
            "reduce_scatter": (whole, part),
            "all_reduce": (part, part),
        }
        return Call(KERNELS[kind], *sizes[kind], WIDTHS.get(width, "Float"), bucket.group, group)

    def _inside(self, rank: int, kind: str, size: int, label: str) -> Call:
        """Return a collective of tensor, context or expert tensor parallelism. size: see `ops.Transfer` [B]."""
        group, work = self._group(rank, kind), self.program.costs.work
        summed = label.startswith(("scatter", "sum"))
        coded = label.startswith("gather input") or (kind == "etp" and not summed)
        dtype: Dtype = work.recipe.gemm if coded else "bf16"
        whole = round(size / BYTES[dtype])
        if label == "ring":
            return Call(
                "SendRecv", whole // len(group), whole // len(group), DTYPES[dtype], kind, group
            )
        if summed and kind == "tp" and not work.sequence_parallel:
            return Call("AllReduce", whole // 2, whole // 2, DTYPES[dtype], kind, group)
        part = whole // len(group)
        if summed:
            return Call("ReduceScatter", whole, part, DTYPES[dtype], kind, group)
        return Call("AllGather", part, whole, DTYPES[dtype], kind, group)

    def _group(self, rank: int, kind: str) -> tuple[int, ...]:
        layout = self.program.scenario.layout
        table = layout.ranks(layout.pipeline_index(rank), kind)
        return tuple(next(row for row in table.tolist() if rank in row))

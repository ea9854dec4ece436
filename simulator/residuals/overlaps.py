"""Measured GEMMs of tensor parallel layers with their collectives, compared with what a step takes.

The measurements are those of `simulator/data/measured/tensor_overlap.yaml`. Times
come from the code that serves a step: ops are cut into segments, laid down as rows, and a row
starts when what it waits for and its stream are done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from simulator import inputs
from simulator.collectives.algorithms import TWO_SIDED
from simulator.collectives.choose import own_part
from simulator.collectives.tuner import Shape, estimate
from simulator.compute import Processor
from simulator.costs import BlockCost, BlockMemory, Part
from simulator.costs.phases import phase_cost
from simulator.hardware import CommunicationModel, KernelConfig, OverlapMethod
from simulator.ops import Op, Phase, Transfer
from simulator.ops.op import Ops, gemm, piece
from simulator.ops.overlap import gathering, scattering
from simulator.precision import Dtype
from simulator.program.chunk_rows import NO_CALL, Call, Chunk
from simulator.program.chunks import halves
from simulator.residuals.links import NVLINK_LATENCY
from simulator.residuals.rows import processor

SETTLED = 2e-3
"""From this length on [s] a layer in a loop runs at the clock that the power limit leaves."""
EXPRESSED = {"nccl": "serial", "transformer_engine": "ring", "async_tp": "ring"}
"""Name in the measurements -> what it is here; the others are fused kernels."""
RING = OverlapMethod(method="ring_exchange")


@dataclass(frozen=True, slots=True)
class Row:
    """One measured layer."""

    source: str
    """Where it was published."""
    gpu: str
    """What it ran on."""
    op: str
    """Its collective."""
    shape: tuple[int, int, int]
    """m, n and k of the GEMM on one GPU."""
    library: str
    """What ran it."""
    measured: float
    """Published time [s]."""
    computed: float
    """Time by the tables [s]; 0 of what they cannot express."""

    @property
    def error(self) -> float:
        """Return the signed relative error."""
        return self.computed / self.measured - 1.0


@dataclass(frozen=True, slots=True)
class _Links:
    """The links of one node."""

    table: KernelConfig
    """Kernels of the GPU."""
    nvlink: float
    """Of one GPU in one direction [B/s]."""
    ranks: int
    """GPUs that take part."""

    def seconds(self, call: Call) -> float:
        """Return the time of one pass over a buffer, alone [s]."""
        kernels, size = self.table.communication, float(call.size)
        kernel = self._nccl(size) if call.kind == "tp" else kernels[call.kind]
        rounds = (self.ranks - 1) * kernel.nvlink_latency * NVLINK_LATENCY
        transfer = self.moving(kernel, size)
        own = own_part(kernel, "all_gather", size, self.ranks)
        return kernel.setup + kernel.waiting(rounds, transfer) + transfer + own

    def _nccl(self, size: float) -> CommunicationModel:
        """Return the protocol of the ring that NCCL takes."""
        limits = self.table.nccl
        rate = limits.ring * self.nvlink
        group = Shape(self.ranks, 1, rate, rate, limits)
        estimates = {
            row: estimate("all_gather", "ring", protocol, group, size)
            for protocol, row in TWO_SIDED.items()
        }
        return self.table.communication[min(estimates, key=lambda row: estimates[row])]

    def moving(self, kernel: CommunicationModel, size: float) -> float:
        """Return the time in which a buffer crosses the links [s]."""
        crossing = (self.ranks - 1) / self.ranks * size
        return crossing / (self.nvlink * kernel.nvlink)


class Pieces(NamedTuple):
    """A GEMM in pieces of equal rows."""

    dtype: Dtype
    """What it reads."""
    case: str
    """Model, ranks and tokens."""
    gemm: str
    """Which of a layer's GEMMs."""
    parts: int
    """How many pieces."""
    whole: float
    """Measured time of the whole [s]."""
    measured: float
    """Time of all pieces over that of the whole."""
    computed: float
    """The same by the tables."""


def measured_pieces() -> Iterator[Pieces]:
    """Yield GEMMs of Llama's layers in pieces, kernels alone."""
    part = replace(processor("h100"), sustained=False)
    for row in inputs.table("gemm_in_pieces"):
        dtype: Dtype = "fp8_tensor" if row["dtype"] == "fp8_tensor" else "bf16"
        count = int(row["pieces"])
        m = int(row["m"])
        n = int(row["n"])
        k = int(row["k"])
        whole = gemm(row["gemm"], m, n, k, dtype)
        pieces = count * part.kernel(piece(whole, count), overlapped=False)
        yield Pieces(
            dtype=dtype,
            case=row["case"],
            gemm=row["gemm"],
            parts=count,
            whole=float(row["whole_us"]) * 1e-6,
            measured=float(row["ratio"]),
            computed=pieces / part.kernel(whole, overlapped=False),
        )


def measured_overlaps() -> Iterator[Row]:
    """Yield every measured layer, by every library that ran it."""
    for row in inputs.data("measured", "tensor_overlap").data["rows"]:
        for library, seconds in _published(row).items():
            yield Row(
                source=row["source"],
                gpu=row.get("part", row["gpu"].upper()),
                op=row["op"],
                shape=(row["m"], row["n"], row["k"]),
                library=library,
                measured=seconds,
                computed=_computed(row, library),
            )


def _published(row: dict[str, Any]) -> dict[str, float]:
    """Return library -> the published time of a layer [s], whether as a time or as a rate."""
    flops = 2.0 * row["m"] * row["n"] * row["k"]
    times = {library: ms * 1e-3 for library, ms in row.get("ms", {}).items()}
    for library, tflops in row.get("tflops", {}).items():
        times[library] = flops / tflops / 1e12
    return times


def _computed(row: dict[str, Any], library: str) -> float:
    """Return the time of a measured layer by the tables, 0 if they cannot express it [s]."""
    how = EXPRESSED.get(library)
    if how is None:
        return 0.0
    whole = gemm("layer", row["m"], row["n"], row["k"], "bf16")
    part = _in_a_loop(processor(row["gpu"]), whole)
    links = _Links(part.kernels, 1e9 * row["nvlink_gb_s"], row["ranks"])
    return elapsed(_layer(row, whole, how, links), part, links)


def _layer(row: dict[str, Any], whole: Op, how: str, links: _Links) -> Ops:
    """Return the ops of a measured layer."""
    gathers = row["op"] == "all_gather"
    width = row["k"] if gathers else row["n"]
    transfer = Transfer(row["op"], "tp", 2.0 * row["m"] * width)
    copying = links.moving(links.table.communication["userbuffers"], transfer.bytes)
    if how == "ring" and gathers:
        return gathering(transfer, (whole,), row["ranks"], copying)
    if how == "ring":
        return scattering(transfer, (whole,), row["ranks"], RING, copying)
    return (transfer, whole) if gathers else (whole, transfer)


def _in_a_loop(part: Processor, op: Op) -> Processor:
    """Return a GPU as a benchmark's loop finds it: its clock has not given way to short kernels."""
    settled = part.kernel(op, overlapped=False) >= SETTLED
    return replace(part, sustained=settled)


def elapsed(ops: Ops, part: Processor, links: _Links) -> float:
    """Return how long ops take from their first kernel or transfer to their last, alone [s]."""
    phase = Phase.ATTENTION_F
    cost = phase_cost(ops, part)
    block = BlockCost(load=-1, phases={phase: cost}, memory=BlockMemory(0.0))
    rows = Chunk()
    rows.compute(halves([Part(0, "dense", block)]).ahead[0], phase, ())
    ends: list[float] = []  # [row] s
    free: dict[int, float] = {}  # stream -> when its last row ends [s]
    columns = zip(rows.stream, rows.segment, rows.call, rows.after, strict=True)
    for stream, segment, call, after in columns:
        start = max((free.get(stream, 0.0), *(ends[row] for row in after)))
        lasts = cost.segments[segment].total if call == NO_CALL else links.seconds(call)
        ends.append(start + lasts)
        free[stream] = ends[-1]
    return max(ends)

"""NCCL's collectives inside a node compared with the kernel tables, by op, protocol and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from simulator import inputs
from simulator.collectives import Choice, Kernels, choices, chosen, of_nccl
from simulator.hardware import CommunicationModel
from simulator.residuals.rows import Floats, Residuals, processor
from simulator.topology import Network, TopologyConfig, network

NVLINK_LATENCY = 3.33e-6
"""Of a round [s], as topologies have it by default: arXiv 2505.09343, table 5."""
SMALL, LARGE = 16 * 2.0**10, 32e6
"""Sizes from which on classes begin [B]."""
LINES = {"a100": 300e9, "h100": 450e9, "h200": 450e9, "b200": 900e9}
"""NVLink of a GPU in one direction [B/s]."""
OPS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")


class Call(NamedTuple):
    """A measured collective, and the way that NCCL took by its own estimate."""

    gpu: str
    """What it ran on."""
    nccl: str
    """Version of the library."""
    op: str
    """What ran."""
    ranks: int
    """GPUs that took part."""
    bytes: float
    """Of the whole buffer [B]."""
    measured: float
    """Time [s]."""
    way: Choice
    """Algorithm, protocol and kernel."""

    @property
    def computed(self) -> float:
        """Return the time by the kernel table [s]."""
        return self.way.seconds(self.bytes)


def node(gpu: str, ranks: int) -> Network:
    """Return one node of some GPUs. gpu: as `LINES` names it."""
    described = {
        "name": gpu,
        "gpu": gpu,
        "nodes": 1,
        "node": {
            "gpus": ranks,
            "nvlink": f"{LINES[gpu] / 1e9} GB/s per direction",
            "nics": ranks,
            "nic": "50 GB/s per direction",
        },
        "fabric": {"kind": "single_node", "switch_ports": 64, "latency": "3.7 us"},
        "price": "1 USD per GPU-hour",
    }
    return network(TopologyConfig.model_validate(described))


def calls(gpus: Sequence[str] = tuple(LINES), ops: Sequence[str] = OPS) -> Iterator[Call]:
    """Yield the measured collectives of some GPUs."""
    ways: dict[tuple[str, str, int], list[Choice]] = {}
    for row in inputs.table("nccl_one_node"):
        gpu, op, ranks = row["gpu"], row["op"], int(row["ranks"])
        if gpu not in gpus or op not in ops:
            continue
        if (gpu, op, ranks) not in ways:
            kernels = Kernels.of(processor(gpu).kernels)
            ways[gpu, op, ranks] = choices(node(gpu, ranks), range(ranks), kernels, op, of_nccl(op))
        size = float(row["bytes"])
        way = chosen(ways[gpu, op, ranks], size)
        yield Call(gpu, row["nccl"], op, ranks, size, float(row["us"]) * 1e-6, way)


class Sizes(NamedTuple):
    """A class of sizes."""

    name: str
    """As tables print it."""
    least: float
    """Smallest buffer [B]."""
    below: float
    """What its buffers stay below [B]."""


CLASSES = (Sizes("16 KiB to 32 MB", SMALL, LARGE), Sizes("32 MB and more", LARGE, np.inf))


def links() -> Iterator[Residuals]:
    """Yield NCCL's collectives in a node, by op and size."""
    for gpu in LINES:
        measured = list(calls((gpu,)))
        for op in OPS:
            for sizes in CLASSES:
                some = [
                    call
                    for call in measured
                    if call.op == op and sizes.least <= call.bytes < sizes.below
                ]
                yield Residuals(
                    group="link",
                    name=f"{op.replace('_', '-')}, 2 to 8 GPUs, {sizes.name}",
                    gpu=gpu,
                    fitted=True,
                    measured=np.array([call.measured for call in some]),
                    computed=np.array([call.computed for call in some]),
                )


class Passes(NamedTuple):
    """Collectives that one row of a communication table runs, in closed form."""

    rounds: Floats
    """How often the latency of NVLink passes [row]."""
    crossing: Floats
    """Bytes over a GPU's NVLink in one direction [row] B."""
    own: Floats
    """Part that a GPU keeps and copies [row] B."""
    line: Floats
    """NVLink's rate [row] B/s."""
    measured: Floats
    """Time [row] s."""

    def seconds(self, model: CommunicationModel) -> Floats:
        """Return the times by a row of the table [row] s."""
        transfer = self.crossing / (self.line * model.nvlink)
        rounds = self.rounds * model.nvlink_latency * NVLINK_LATENCY
        columns = zip(rounds.tolist(), transfer.tolist(), strict=True)
        waiting = np.array([model.waiting(*pair) for pair in columns])
        own = self.own / model.own_part if model.own_part else 0.0
        total: Floats = model.setup + waiting + transfer + own
        return total


def passes(some: Sequence[Call]) -> Passes:
    """Return measured collectives in closed form."""
    rounds, crossing, own = [], [], []
    for call in some:
        n, size = call.ranks, call.bytes
        twice = 2 if call.op == "all_reduce" else 1
        keeps = call.op != "all_reduce"
        own.append(size / n if keeps else 0.0)
        if call.way.algorithm == "nvls":
            rounds.append(1.0)  # up to the switch and down again
            crossing.append(size + size / n)
        else:
            rounds.append(1.0 if call.op == "all_to_all" else twice * (n - 1.0))
            crossing.append(twice * (n - 1) / n * size)
    return Passes(
        rounds=np.array(rounds),
        crossing=np.array(crossing),
        own=np.array(own),
        line=np.array([LINES[call.gpu] for call in some]),
        measured=np.array([call.measured for call in some]),
    )

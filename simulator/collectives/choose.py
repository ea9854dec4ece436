"""Which algorithm and protocol NCCL would take: the one that its cost model gives the least time.

NCCL's tuner adds, for every algorithm and protocol that the hardware allows, a base latency, the
latency of the rounds and the bytes over a bandwidth, and takes the minimum (NCCL 2.18,
src/graph/tuning.cc; Hu et al., arXiv 2507.04786, section 5). Here the same minimum is taken over
resolved times. Its candidates: rings and trees, each with the protocols LL, LL128 and Simple; NVLS
inside a node and NVLSTree across, where the kernel table has them (Hopper on). The other algorithms
are run when they are named: NCCL has SHARP as a plug-in, and the rest not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.collectives.demand import Algorithm, Rounds
from simulator.collectives.resolve import Cost, cost
from simulator.errors import InputError, LayoutError
from simulator.hardware import CommunicationModel
from simulator.topology import Network

Kernels = Mapping[str, CommunicationModel]

PROTOCOLS = {"LL": "nccl_ll", "LL128": "nccl_ll128", "Simple": "nccl_simple"}
"""protocol -> row of the communication table, of rings, trees and their like."""
IN_SWITCHES = ("nvls", "nvls_tree", "sharp")
ONE_SIDED = ("all_to_all", "send_recv")
"""Ops that NCCL runs as grouped sends."""

RATES = {"tree": 0.92}
"""algorithm -> share of the protocol's rate that it reaches, where not all: NCCL 2.18, src/graph/tuning.cc."""

CANDIDATES = {
    "all_reduce": ("ring", "tree", "nvls", "nvls_tree"),
    "reduce_scatter": ("ring", "nvls"),
    "all_gather": ("ring", "nvls"),
    "broadcast": ("ring",),
    "all_to_all": ("pairwise",),
    "send_recv": ("direct",),
}
"""op -> what NCCL chooses among."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run a collective. algorithm, protocol: as NCCL names them. cost: of one byte."""

    algorithm: str
    protocol: str
    cost: Cost

    def seconds(self, size: float) -> float:
        """Return the time of `size` bytes [s]."""
        return self.cost.latency + size * self.cost.transfer


def choices(
    network: Network,
    members: Sequence[int],
    kernels: Kernels,
    op: str,
    table: Mapping[str, Algorithm],
) -> list[Choice]:
    """Return the ways that are open to these members, and what each takes.

    table: the algorithms to consider, by name; a lone one must be possible. Errors: InputError if
    none is.
    """
    found: list[Choice] = []
    for name, algorithm in table.items():
        try:
            rounds = algorithm(network, members, 1.0)
        except LayoutError:
            if len(table) == 1:
                raise
            continue
        rows = _rows(op, name).items()
        found += [_choice(network, rounds, kernels, name, way) for way in rows if way[1] in kernels]
    if not found:
        raise InputError(
            "adds in the NVSwitch, which this GPU's kernel table does not know",
            value=", ".join(table),
            key="--algorithm",
            remedy="Choose ring.",
        )
    return found


def _rows(op: str, name: str) -> dict[str, str]:
    if name in IN_SWITCHES:
        return {"Simple": "nvls"}
    return {"Simple": "send_recv"} if op in ONE_SIDED else PROTOCOLS


def _choice(
    network: Network, rounds: Rounds, kernels: Kernels, name: str, way: tuple[str, str]
) -> Choice:
    one = cost(network, rounds, kernels[way[1]])
    return Choice(name, way[0], Cost(one.latency, one.transfer / RATES.get(name, 1.0)))


def fastest(found: Sequence[Choice], size: float) -> Choice:
    """Return the choice that takes the least time for `size` bytes; the first of equals."""
    return min(found, key=lambda choice: choice.seconds(size))

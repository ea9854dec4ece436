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

from simulator.collectives.algorithms import Algorithm
from simulator.collectives.resolve import Cost, cost
from simulator.errors import InputError, LayoutError
from simulator.hardware import CommunicationModel
from simulator.topology import Network

Kernels = Mapping[str, CommunicationModel]


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run a collective."""

    algorithm: str
    """Name under which it was considered."""
    protocol: str
    """As NCCL names it, see `Algorithm.kernels`."""
    cost: Cost
    """Of one byte."""

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
    possible: list[Choice] = []
    for name, algorithm in table.items():
        # Of one byte: latencies do not depend on the size, and transfers are proportional to it, so
        # that every other size follows from this one.
        try:
            rounds = algorithm.ops[op](network, members, 1.0)
        except LayoutError:
            if len(table) == 1:
                raise
            continue
        for protocol, row in algorithm.kernels.items():
            if row in kernels:
                byte = cost(network, rounds, kernels[row])
                transfer = byte.transfer / algorithm.rate
                reached = Cost(byte.latency, transfer)
                possible.append(Choice(name, protocol, reached))
    if not possible:
        raise InputError(
            "adds in the NVSwitch, which this GPU's kernel table does not know",
            value=", ".join(table),
            key="--algorithm",
            remedy="Choose ring.",
        )
    return possible


def fastest(possible: Sequence[Choice], size: float) -> Choice:
    """Return the choice that takes the least time for `size` bytes; the first of equals."""
    return min(possible, key=lambda choice: choice.seconds(size))

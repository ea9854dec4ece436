"""Which algorithm and protocol NCCL takes: those with the least estimate, see `tuner`.

Its candidates: rings and trees, each with the protocols LL, LL128 and Simple; NVLS inside a node
and NVLSTree across, where the kernel table has them (Hopper on). The other algorithms are run when
they are named: NCCL has SHARP as a plug-in, and the rest not at all. Sends to peers go by LL up to
a size of the message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from simulator.collectives.algorithms import ALGORITHMS, Algorithm
from simulator.collectives.nccl_kernels import adapted, tree_loop
from simulator.collectives.resolve import Cost, cost
from simulator.collectives.sms import at_rate
from simulator.collectives.tuner import TREE, Shape, constants, estimate, shape
from simulator.errors import InputError, LayoutError
from simulator.hardware import CommunicationModel, KernelConfig, TunerLimits
from simulator.topology import Network, wired

PARTS = ("all_gather", "reduce_scatter", "all_to_all")
"""Ops of which a GPU keeps a part of its own."""


class Kernels(NamedTuple):
    """NCCL's kernels on one architecture, as a value that can be remembered."""

    rows: tuple[tuple[str, CommunicationModel], ...]
    """Rows of the communication table."""
    limits: TunerLimits
    """What NCCL takes the GPUs to be capable of."""

    @classmethod
    def of(cls, table: KernelConfig) -> Kernels:
        """Return those of a kernel table."""
        return cls(tuple(table.communication.items()), table.nccl)


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run a collective."""

    name: str
    """Name under which the algorithm was considered."""
    algorithm: str
    """Row of `ALGORITHMS`."""
    op: str
    """Op of that row."""
    protocol: str
    """As NCCL names it, see `Algorithm.kernels`."""
    kernel: CommunicationModel
    """Row of the communication table, at the rate that the algorithm reaches."""
    network: Network
    """The cluster."""
    members: tuple[int, ...]
    """Ranks that take part."""
    group: Shape
    """What NCCL knows of them."""

    @property
    def cost(self) -> Cost:
        """Return what one byte takes, without the kernel's setup."""
        return _cost(self.network, self.algorithm, self.op, self.members, self.kernel)

    def estimate(self, size: float) -> float:
        """Return NCCL's estimate [s], by which it chooses. size: of the buffer [B]."""
        row = ALGORITHMS[self.algorithm]
        if row.estimated:
            return estimate(self.op, row.estimated, self.protocol, self.group, size)
        # Sends to peers: by LL as long as the message is small.
        message = size / len(self.members) if self.op == "all_to_all" else size
        small = message <= constants().send_ll
        return 0.0 if small == (self.protocol == "LL") else 1.0

    def at(self, size: float) -> CommunicationModel:
        """Return the kernel that runs `size` bytes, with the time until a tree's chunks have spread."""
        if self.algorithm != TREE or self.group.nodes == 1:
            return self.kernel
        first = tree_loop(self.protocol, size, self.group) * self._in_turn
        return self.kernel.model_copy(update={"setup": self.kernel.setup + first})

    @property
    def _in_turn(self) -> float:
        """Return what one byte takes longer that passes round by round, alone on its links [s]."""
        way = (self.network, self.algorithm, self.op, self.members, self.kernel)
        return _cost(*way, pipelined=False).transfer - self.cost.transfer

    def seconds(self, size: float) -> float:
        """Return the time of `size` bytes [s]."""
        byte, kernel = self.cost, self.at(size)
        transfer = size * byte.transfer
        own = own_part(kernel, self.op, size, len(self.members))
        return kernel.setup + kernel.waiting(byte.rounds, transfer) + transfer + own


def own_part(kernel: CommunicationModel, op: str, size: float, ranks: int) -> float:
    """Return how long a GPU copies the part that it keeps, which no link sees [s]."""
    if not kernel.own_part or op not in PARTS:
        return 0.0
    return size / ranks / kernel.own_part


@lru_cache(maxsize=1024)  # sizes and alternatives share it
def _cost(
    network: Network,
    algorithm: str,
    op: str,
    members: tuple[int, ...],
    kernel: CommunicationModel,
    *,
    pipelined: bool = True,
) -> Cost:
    # Of one byte: latencies do not depend on the size, and transfers are proportional to it, so
    # that every other size follows from this one.
    rounds = ALGORITHMS[algorithm].ops[op](network, members, 1.0)
    if not pipelined:
        rounds = replace(rounds, pipelined=False)
    return cost(network, rounds, kernel)


def choices(
    network: Network,
    members: Sequence[int],
    kernels: Kernels,
    op: str,
    table: Mapping[str, Algorithm],
) -> list[Choice]:
    """Return the ways that are open to these members.

    table: the algorithms to consider, by name; a lone one must be possible. Errors: InputError if
    none is.
    """
    rows, ranks = dict(kernels.rows), tuple(members)
    group = shape(network, ranks, kernels.limits)
    possible: list[Choice] = []
    for name, algorithm in table.items():
        try:
            _check(wired(network), algorithm.name, op, ranks)
        except LayoutError:
            if len(table) == 1:
                raise
            continue
        for protocol, row in algorithm.protocols(op, rows).items():
            kernel = at_rate(rows[row], algorithm.rate)
            kernel = adapted(kernel, algorithm.name, protocol, group)
            way = Choice(name, algorithm.name, op, protocol, kernel, network, ranks, group)
            possible.append(way)
    if not possible:
        raise InputError(
            "adds in the NVSwitch, which this GPU's kernel table does not know",
            value=", ".join(table),
            key="--algorithm",
            remedy="Choose ring.",
        )
    return possible


@lru_cache(maxsize=1024)  # points of a sweep share it
def _check(network: Network, algorithm: str, op: str, members: tuple[int, ...]) -> None:
    """Refuse members that an algorithm cannot run on. Errors: LayoutError."""
    ALGORITHMS[algorithm].ops[op](network, members, 1.0)


def chosen(possible: Sequence[Choice], size: float) -> Choice:
    """Return the choice of least estimate for `size` bytes; the first of equals."""
    return min(possible, key=lambda choice: choice.estimate(size))

"""What a dispatcher is asked to move, and the kernels that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.collectives.kinds import CoflowKind
from simulator.collectives.paths import Links
from simulator.experts import Load
from simulator.hardware import CommunicationModel
from simulator.topology import Network


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens of one micro-batch that an expert group exchanges."""

    network: Network
    """The cluster."""
    members: tuple[int, ...]
    """Ranks of the group, in the order of its experts."""
    load: Load
    """Who gets how many of the copies."""
    kind: CoflowKind
    """Which of the exchanges it is."""
    kernel: CommunicationModel
    """The kernel that runs it, whose latencies count."""
    algorithm: str
    """Row of `ALGORITHMS` that carries it, where the dispatcher runs a collective."""


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of several groups, each under several loads that put bytes on the same links."""

    network: Network
    """The cluster."""
    groups: Links
    """Ranks [group, member], of each in the order of its experts."""
    loads: Sequence[Load]
    """Who gets how many of the copies [load]."""
    kind: CoflowKind
    """Which of the exchanges they are."""
    kernel: CommunicationModel
    """The kernel that runs them, whose latencies count."""
    algorithm: str
    """Row of `ALGORITHMS` that carries them, where the dispatcher runs a collective."""

    def of_load(self, load: int) -> list[Batch]:
        """Return the batch of each group under one load. load: index into `loads`."""
        return [
            Batch(
                self.network, tuple(row), self.loads[load], self.kind, self.kernel, self.algorithm
            )
            for row in self.groups.tolist()
        ]


@dataclass(frozen=True, slots=True)
class TokenKernels:
    """The kernels of a dispatcher on one GPU architecture."""

    models: Mapping[CoflowKind, CommunicationModel]
    """Kind of exchange -> rates, latencies and setup."""
    header: float = 0.0
    """Bytes before each token that is sent to experts [B]."""
    benchmark_tokens: int = 0
    """Tokens per GPU of the published benchmark, 0 if any number is measured."""

"""Collectives of one byte as coflows, remembered: a step scales them by its buffers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from simulator.collectives.algorithms import ALGORITHMS
from simulator.collectives.demand import Demand, Pattern, demand
from simulator.hardware import CommunicationModel
from simulator.topology import Network, wired


def unit(
    network: Network,
    algorithm: str,
    op: str,
    members: Sequence[int],
    kernel: CommunicationModel | None = None,
) -> Demand:
    """Return the demand of one byte of a collective's whole buffer, as a step runs it.

    Its rounds overlap, chunk by chunk. kernel: whose latencies count, the topology's own if none.
    Errors: LayoutError if the algorithm cannot run on these members.
    """
    pattern = ALGORITHMS[algorithm].ops[op]
    return _unit(wired(network), pattern, tuple(members), latency_of(kernel))


def latency_of(kernel: CommunicationModel | None) -> CommunicationModel | None:
    """Return a kernel, None if its latencies are the topology's: only these matter here."""
    if kernel is None or (kernel.nvlink_latency == 1.0 and not kernel.nic_overhead):
        return None
    return kernel


@lru_cache(
    maxsize=4096
)  # stages share their ranks, points of a sweep their wiring, ops their pattern
def _unit(
    network: Network,
    pattern: Pattern,
    members: tuple[int, ...],
    kernel: CommunicationModel | None,
) -> Demand:
    return demand(network, pattern(network, members, 1.0), kernel)

"""The links of servers as columns: one there and one back for each GPU and each NIC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.topology.config import TopologyConfig
from simulator.topology.faults import Damage
from simulator.topology.labels import Run
from simulator.topology.routing import Link
from simulator.topology.switches import Switches, text

Floats: TypeAlias = NDArray[np.float64]


class Ends(NamedTuple):
    """What two links join, one there and one back."""

    one: str
    """Where the first one begins."""
    other: str
    """Where it ends."""


class Lines(NamedTuple):
    """Links that are numbered one behind another."""

    capacity: Floats
    """Bandwidth [link] B/s."""
    latency: Floats
    """Time from one end to the other [link] s."""
    name: Run[str]
    """Their names, made when asked for."""


def listed(links: Sequence[Link]) -> Lines:
    """Return links that were made one by one."""
    capacity = np.array([link.capacity for link in links], dtype=np.float64)
    latency = np.array([link.latency for link in links], dtype=np.float64)
    return Lines(capacity, latency, Run(len(links), lambda number: links[number].name))


def gpu_lines(config: TopologyConfig, damage: Damage, healthy: NDArray[np.bool_]) -> Lines:
    """Return the links between GPUs that are not down and their NVSwitch, in order."""
    width = np.full(config.gpus, config.node.nvlink)  # [gpu] B/s
    for rank, left in damage.nvlink.items():
        width[rank] = left
    ranks = np.flatnonzero(healthy)

    def ends(number: int) -> Ends:
        node, i = divmod(int(ranks[number]), config.node.gpus)
        return Ends(f"gpu{node}.{i}", f"nvswitch{node}")

    half = config.node.nvlink_latency / 2  # two such links lead from GPU to GPU
    return _there_and_back(width[ranks], np.full(len(ranks), half), ends)


def nic_lines(
    config: TopologyConfig, switches: Switches, damage: Damage, nics: Sequence[int]
) -> Lines:
    """Return the links between working NICs and their switches. nics: their numbers."""
    count = len(switches.home)
    width = np.full(count, config.node.nic)  # [nic] B/s
    delay = np.full(count, config.fabric.leaf_latency / 2)  # two lead from NIC to NIC under a leaf
    if switches.nic:
        width = np.array([cable.bandwidth for cable in switches.nic])
        delay = np.array([cable.latency for cable in switches.nic])
    for number, left in damage.nic.items():
        width[number] = left

    def ends(number: int) -> Ends:
        node, j = divmod(nics[number], config.node.nics)
        return Ends(f"nic{node}.{j}", text(switches.home[nics[number]]))

    working = np.array(nics, dtype=np.int64)
    return _there_and_back(width[working], delay[working], ends)


def _there_and_back(width: Floats, delay: Floats, ends: Callable[[int], Ends]) -> Lines:
    """Return two links for each width [B/s] and delay [s]. ends: of a pair of links."""

    def name(number: int) -> str:
        one, other = ends(number // 2)
        return f"{other}->{one}" if number % 2 else f"{one}->{other}"

    return Lines(np.repeat(width, 2), np.repeat(delay, 2), Run(2 * len(width), name))

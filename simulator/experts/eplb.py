"""Redundant experts and where they live: the load balancer that DeepSeek published.

Heavy experts get replicas, and replicas are packed on GPUs so that GPUs carry alike loads; where
nodes divide the groups of group-limited routing, a group stays within a node. Source: github
deepseek-ai/EPLB, README and eplb.py; DeepSeek-V3, arXiv 2412.19437, section 3.4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError

Loads = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which expert is in which slot: slots are numbered along GPUs, equally many on each."""

    expert: Indices
    """Expert in each slot [layer, slot]."""
    slots: Indices
    """Slots of each expert, -1 where it has fewer replicas than another [layer, expert, replica]."""
    count: Indices
    """Replicas of each expert [layer, expert]."""

    def slot_loads(self, loads: Loads) -> Loads:
        """Return the loads [layer, slot] when replicas share evenly. loads: [layer, expert]."""
        return np.take_along_axis(loads / self.count, self.expert, axis=1)


class Packs(NamedTuple):
    """Where items are packed."""

    pack: Indices
    """Pack of each item [layer, item]."""
    slot: Indices
    """Position of the item in its pack [layer, item]."""


class Replicas(NamedTuple):
    """Experts with copies."""

    expert: Indices
    """Expert of each slot [layer, slot]."""
    number: Indices
    """Which of the expert's replicas it is [layer, slot]."""
    replicas: Indices
    """Replicas of each expert [layer, expert]."""


def pack(loads: Loads, packs: int) -> Packs:
    """Put items into packs of equal number, the heaviest first, each into the lightest with room.

    loads: [layer, item].
    """
    layers, items = loads.shape
    room = items // packs
    if room == 1:
        alone = np.tile(np.arange(items), (layers, 1))
        first = np.zeros((layers, items), dtype=np.int64)
        return Packs(alone, first)
    heaviest_first = np.argsort(-loads, axis=1, kind="stable")
    layer = np.arange(layers)
    total = np.zeros((layers, packs))
    filled = np.zeros((layers, packs), dtype=np.int64)
    pack_of = np.empty((layers, items), dtype=np.int64)
    index = np.empty((layers, items), dtype=np.int64)
    # An item depends on where those before it went, but layers do not on each other: the loop takes
    # one item of every layer at a time.
    for item in heaviest_first.T:  # [layer]
        open_total = np.where(filled < room, total, np.inf)  # [layer, pack]
        lightest = open_total.argmin(axis=1)
        pack_of[layer, item] = lightest
        index[layer, item] = filled[layer, lightest]
        total[layer, lightest] += loads[layer, item]
        filled[layer, lightest] += 1
    return Packs(pack_of, index)


def replicate(loads: Loads, slots: int) -> Replicas:
    """Give every expert a slot, and each further slot to the expert whose replicas carry most.

    loads: [layer, expert].
    """
    layers, experts = loads.shape
    layer = np.arange(layers)
    expert = np.tile(np.arange(slots), (layers, 1))
    number = np.zeros((layers, slots), dtype=np.int64)
    count = np.ones((layers, experts), dtype=np.int64)
    for slot in range(experts, slots):
        of_replica = loads / count  # [layer, expert]
        heaviest = of_replica.argmax(axis=1)
        expert[:, slot] = heaviest
        number[:, slot] = count[layer, heaviest]
        count[layer, heaviest] += 1
    return Replicas(expert, number, count)


def rebalance(loads: Loads, slots: int, groups: int, nodes: int, gpus: int) -> Plan:
    """Return replicas and their slots, hierarchically where nodes divide the groups.

    loads: expected load [layer, expert]. slots: experts with their replicas. groups: of
    group-limited routing. Errors: InputError where slots do not divide over GPUs, or are fewer than
    experts.
    """
    experts = loads.shape[1]
    if slots < experts or slots % gpus:
        legal = -(-experts // gpus) * gpus
        raise InputError(
            f"and {experts} experts do not divide over {gpus} GPUs",
            key="experts.redundant_experts",
            value=slots - experts,
            remedy=f"Choose {legal - experts} plus a multiple of {gpus}.",
        )
    if groups % nodes:  # a group would lie on two nodes: all GPUs are one node then, as in EPLB
        groups = nodes = 1
    placed = _hierarchical(loads, slots, groups, nodes, gpus)
    most = int(placed.replicas.max())
    where = np.full((*loads.shape, most), -1, dtype=np.int64)
    layer = np.arange(len(loads))[:, None]
    where[layer, placed.expert, placed.number] = np.arange(slots)
    return Plan(placed.expert, where, placed.replicas)


def _hierarchical(loads: Loads, slots: int, groups: int, nodes: int, gpus: int) -> Replicas:
    """Return the replicas slot by slot: groups go to nodes, experts get copies, slots go to GPUs."""
    layers, experts = loads.shape
    size, on_node = experts // groups, experts // nodes
    of_group = loads.reshape(layers, groups, size).sum(axis=2)
    node, index = pack(of_group, nodes)  # [layer, group]
    number_of_group = node * (groups // nodes) + index  # [layer, group], counted node by node
    start = number_of_group * size
    # Experts are counted anew, node by node; and back.
    members = start[:, :, None] + np.arange(size)  # [layer, group, expert of it]
    position = members.reshape(layers, experts)
    expert_at = np.argsort(position, axis=1)
    # From here on every (layer, node) is a problem of its own.
    in_order = np.take_along_axis(loads, expert_at, axis=1)
    there = in_order.reshape(layers * nodes, on_node)
    copies = replicate(there, slots // nodes)
    of_slot = np.take_along_axis(there / copies.replicas, copies.expert, axis=1)
    gpu, index = pack(of_slot, gpus // nodes)
    # Slots in the order of the GPUs that they are packed on.
    slot_number = gpu * (slots // gpus) + index
    order = np.argsort(slot_number, axis=1)
    local = np.take_along_axis(copies.expert, order, axis=1).reshape(layers, slots)
    number = np.take_along_axis(copies.number, order, axis=1).reshape(layers, slots)
    # Back to the cluster: experts of node n come after those of the nodes before it.
    ahead = np.repeat(np.arange(nodes) * on_node, slots // nodes)
    expert = np.take_along_axis(expert_at, local + ahead, axis=1)
    replicas = copies.replicas.reshape(layers, experts)
    count = np.take_along_axis(replicas, position, axis=1)
    return Replicas(expert, number, count)

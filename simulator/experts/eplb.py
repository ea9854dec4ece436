"""Redundant experts and where they live: the expert-parallelism load balancer that DeepSeek published.

Heavy experts get replicas, and replicas are packed on GPUs so that GPUs carry alike loads; where
nodes divide the groups of group-limited routing, a group stays within a node. Source: github
deepseek-ai/EPLB, README and eplb.py; DeepSeek-V3, arXiv 2412.19437, section 3.4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError

Loads = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which expert stands in which slot. Slots are numbered along GPUs, each GPU holds as many as any other.

    expert: [layer, slot]. slots: of each expert, [layer, expert, replica], -1 where it has fewer.
    count: of its replicas, [layer, expert].
    """

    expert: Indices
    slots: Indices
    count: Indices

    def slot_loads(self, loads: Loads) -> Loads:
        """Return the load of each slot when replicas share evenly. loads: [layer, expert]. Returns [layer, slot]."""
        return np.take_along_axis(loads / self.count, self.expert, axis=1)


def pack(loads: Loads, packs: int) -> tuple[Indices, Indices]:
    """Put items into packs of equally many, the heaviest first, each into the lightest pack with room.

    loads: [layer, item]. Returns (pack, place in it), each [layer, item].
    """
    layers, items = loads.shape
    room = items // packs
    if room == 1:
        return np.tile(np.arange(items), (layers, 1)), np.zeros((layers, items), dtype=np.int64)
    order = np.argsort(-loads, axis=1, kind="stable")
    every = np.arange(layers)
    total, filled = np.zeros((layers, packs)), np.zeros((layers, packs), dtype=np.int64)
    pack_of, place = (
        np.empty((layers, items), dtype=np.int64),
        np.empty((layers, items), dtype=np.int64),
    )
    for item in order.T:
        target = np.where(filled < room, total, np.inf).argmin(axis=1)
        pack_of[every, item], place[every, item] = target, filled[every, target]
        total[every, target] += loads[every, item]
        filled[every, target] += 1
    return pack_of, place


def replicate(loads: Loads, slots: int) -> tuple[Indices, Indices, Indices]:
    """Give every expert a slot and each further slot to the expert whose replicas carry most.

    loads: [layer, expert]. Returns (expert of each slot, number of that replica), each [layer,
    slot], and replicas per expert [layer, expert].
    """
    layers, experts = loads.shape
    every = np.arange(layers)
    expert = np.tile(np.arange(slots), (layers, 1))
    replica = np.zeros((layers, slots), dtype=np.int64)
    count = np.ones((layers, experts), dtype=np.int64)
    for slot in range(experts, slots):
        heaviest = (loads / count).argmax(axis=1)
        expert[:, slot], replica[:, slot] = heaviest, count[every, heaviest]
        count[every, heaviest] += 1
    return expert, replica, count


def rebalance(loads: Loads, slots: int, groups: int, nodes: int, gpus: int) -> Plan:
    """Return replicas and their places, hierarchically where nodes divide the groups, else globally.

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
    if groups % nodes:
        groups = nodes = 1
    expert, replica, count = _hierarchical(loads, slots, groups, nodes, gpus)
    places = np.full((*loads.shape, int(count.max())), -1, dtype=np.int64)
    layer = np.arange(len(loads))[:, None]
    places[layer, expert, replica] = np.arange(slots)
    return Plan(expert, places, count)


def _hierarchical(
    loads: Loads, slots: int, groups: int, nodes: int, gpus: int
) -> tuple[Indices, Indices, Indices]:
    """Return (expert of each slot, number of that replica, replicas per expert): groups to nodes, copies, to GPUs."""
    layers, experts = loads.shape
    size, on_node = experts // groups, experts // nodes
    node, place = pack(loads.reshape(layers, groups, size).sum(axis=2), nodes)
    start = (node * (groups // nodes) + place) * size
    position = (start[:, :, None] + np.arange(size)).reshape(
        layers, experts
    )  # of an expert, node by node
    expert_at = np.argsort(position, axis=1)
    # From here on every (layer, node) is a problem of its own.
    there = np.take_along_axis(loads, expert_at, axis=1).reshape(layers * nodes, on_node)
    local, replica, count = replicate(there, slots // nodes)
    gpu, place = pack(np.take_along_axis(there / count, local, axis=1), gpus // nodes)
    order = np.argsort(gpu * (slots // gpus) + place, axis=1)
    local, replica = (
        np.take_along_axis(local, order, axis=1),
        np.take_along_axis(replica, order, axis=1),
    )
    ahead = np.repeat(np.arange(nodes) * on_node, slots // nodes)
    expert = np.take_along_axis(expert_at, local.reshape(layers, slots) + ahead, axis=1)
    return (
        expert,
        replica.reshape(layers, slots),
        np.take_along_axis(count.reshape(layers, experts), position, axis=1),
    )

"""A cluster's configuration -> its network: servers put on the fabric, and all links numbered."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.errors import LayoutError
from simulator.topology.config import TopologyConfig
from simulator.topology.families import FABRICS
from simulator.topology.faults import Damage, apply
from simulator.topology.network import Ids, Network
from simulator.topology.routing import SINGLE_CABLES, Link, Paths, paths
from simulator.topology.switches import Switches, text

Bools = NDArray[np.bool_]


class Slots(NamedTuple):
    """The PCIe links of all servers."""

    links: list[Link]
    """Each link there, followed by the one back."""
    pcie: Ids
    """See `Network.pcie` [gpu]."""
    slot: Ids
    """See `Network.slot` [nic]."""


class Leaves(NamedTuple):
    """The leaves of a fabric, numbered in the order of the GPUs."""

    of_gpu: list[int]
    """Leaf of each GPU's NIC [gpu], -1 where it uses none."""
    up: list[int]
    """Bundle from each leaf to what is above it [leaf], -1 where there is no single one."""


@lru_cache(maxsize=4)  # alternatives of a run share their cluster
def network(config: TopologyConfig, *, partial: bool = False) -> Network:
    """Return the links of a cluster as arrays.

    partial: also where GPUs are down, for those that are not. Errors: LayoutError if the fabric
    cannot hold these nodes, if faults cut some of them off, or if a GPU is down that a run would
    count on.
    """
    switches, damage = build(config)
    if damage.gpu_down and not partial:
        raise LayoutError(
            "is down, and a run takes all GPUs",
            value=min(damage.gpu_down),
            key="faults",
            remedy="Take it out of `faults`, or leave its node out: lower `nodes`.",
        )
    return _network(config, switches, damage)


def build(config: TopologyConfig) -> tuple[Switches, Damage]:
    """Return the switches of a cluster and what faults leave of it. Errors: LayoutError."""
    switches = FABRICS[config.fabric.kind].build(config)
    if not config.faults:
        return switches, Damage()
    return apply(config.faults, switches, config)


def _network(config: TopologyConfig, switches: Switches, damage: Damage) -> Network:
    """Return the network. Links: NVLink, NICs, between switches, PCIe, in this order."""
    healthy = np.ones(config.gpus, dtype=bool)  # [gpu]
    healthy[sorted(damage.gpu_down)] = False
    nics = _working_nics(config, switches, damage, healthy)

    # All ids follow from how many links of each kind there are, so that they can be given before the
    # links are made: a link there has an even number within its kind, and the one back comes next.
    gpu_up = np.where(healthy, 2 * (np.cumsum(healthy) - 1), -1)  # [gpu]
    first_nic = 2 * int(healthy.sum())
    ways = paths(switches, config.routing, config.fabric.seed, first_nic + 2 * len(nics))
    first_slot = ways.first + len(ways.links)

    nic_links, switch, part = ([-1] * len(switches.home) for _ in range(3))  # [nic]
    for index, number in enumerate(nics):
        home = switches.home[number]
        nic_links[number] = first_nic + 2 * index
        switch[number] = ways.number[home]
        part[number] = ways.part[home]
    _check_whole(config, part)

    # What a GPU sends goes through the NIC that it uses, which may be another's where its own is
    # down: NIC -> link and switch become GPU -> link and leaf.
    uses = _nic_of_each_gpu(config, part)  # [gpu]
    nic_up = _looked_up(nic_links, uses)  # [gpu]
    leaves = _leaves(ways, _looked_up(switch, uses))
    up = np.array(leaves.up, dtype=np.int64)  # [leaf]
    slots = _slots(config, healthy, nics, first_slot)
    nvlink = _nvlink_links(config, damage, healthy)
    nic = _nic_links(config, switches, damage, nics)
    kinds = {"nvlink": nvlink, "nic": nic, "fabric": ways.links, "pcie": slots.links}
    links = [link for of_kind in kinds.values() for link in of_kind]
    return Network(
        capacity=_frozen([link.capacity for link in links], np.float64),
        latency=_frozen([link.latency for link in links], np.float64),
        kind=tuple(kind for kind, of_kind in kinds.items() for _ in of_kind),
        name=tuple(link.name for link in links),
        gpus_per_node=config.node.gpus,
        gpu_up=_frozen(gpu_up, np.int64),
        gpu_down=_frozen(_back(gpu_up), np.int64),
        nic_up=_frozen(nic_up, np.int64),
        nic_down=_frozen(_back(nic_up), np.int64),
        rail=_frozen(np.where(uses >= 0, uses % config.node.nics, -1), np.int64),
        leaf=_frozen(leaves.of_gpu, np.int64),
        leaf_up=_frozen(up, np.int64),
        leaf_down=_frozen(_back(up), np.int64),
        speed=_frozen(np.where(healthy, _speeds(config, damage), 0.0), np.float64),
        nics_per_node=config.node.nics,
        switch=tuple(switch),
        part=tuple(part),
        nic_links=tuple(nic_links),
        paths=ways,
        pcie=_frozen(slots.pcie, np.int64),
        slot=_frozen(slots.slot, np.int64),
    )


def _back(links: Ids) -> Ids:
    """Return the links that lead back, -1 where there is none."""
    return np.where(links >= 0, links + 1, -1)


def _looked_up(table: list[int], index: Ids) -> Ids:
    """Return the rows of a table at some indices, -1 where the index is -1."""
    return np.where(index >= 0, np.array([*table, -1])[index], -1)


def _speeds(config: TopologyConfig, damage: Damage) -> NDArray[np.float64]:
    """Return the speed of each GPU [gpu]: a fault's, times what jitter leaves of it."""
    faulty: NDArray[np.float64] = np.array([damage.speed.get(g, 1.0) for g in range(config.gpus)])
    return faulty * config.jitter.speeds(config.gpus) if config.jitter else faulty


def _leaves(ways: Paths, switch: Ids) -> Leaves:
    """Return the leaves of the NICs that GPUs use. switch: of each GPU's NIC [gpu]."""
    # The switches that have NICs are the leaves, in the order in which GPUs meet them.
    used = [number for number in dict.fromkeys(switch.tolist()) if number >= 0]
    index = {number: leaf for leaf, number in enumerate(used)}
    above = [_single_links(ways, number) for number in used]
    # Only in a tree of bundles does each leaf have one link to what is above it; elsewhere `spread`
    # knows how traffic divides.
    bundled = ways.routing not in SINGLE_CABLES and all(len(links) <= 1 for links in above)
    up = [links[0] if links and bundled else -1 for links in above]
    return Leaves([index.get(number, -1) for number in switch.tolist()], up)


def _single_links(ways: Paths, switch: int) -> list[int]:
    """Return the links from a switch to those neighbours to which it has just one."""
    return [links[0] for links in ways.ahead[switch].values() if len(links) == 1]


def _working_nics(
    config: TopologyConfig, switches: Switches, damage: Damage, healthy: Bools
) -> list[int]:
    """Return the numbers of the NICs that work: not down, on a switch, and with a GPU."""
    if not switches.home:
        return []
    # GPUs that share a NIC are neighbours: a row each of [nic, gpu of the NIC].
    has_gpu: Bools = np.any(healthy.reshape(config.nics, -1), axis=1)  # [nic]
    return [
        number
        for number, home in enumerate(switches.home)
        if home and has_gpu[number] and damage.nic.get(number, 1.0)
    ]


def _nic_of_each_gpu(config: TopologyConfig, part: list[int]) -> Ids:
    """Return the NIC of every GPU [gpu], -1 if none.

    Its own, or if that is down the next one in the node that works.
    """
    share, nics = config.node.gpus // config.node.nics, config.node.nics
    uses = np.full(config.gpus, -1)
    if not part:
        return uses
    for number in range(config.nics):
        node = number // nics * nics
        # From the own NIC on, round the node, so that the failures of neighbours spread.
        in_order = (node + (number - node + step) % nics for step in range(nics))
        nearest = next((nic for nic in in_order if part[nic] >= 0), -1)
        uses[number * share : (number + 1) * share] = nearest
    return uses


def _check_whole(config: TopologyConfig, part: list[int]) -> None:
    """Refuse a cluster of which some nodes cannot reach the rest. Errors: LayoutError."""
    if config.nodes == 1 or not (config.faults or config.fabric.kind == "custom"):
        return
    sides = _sides(config, part)
    if len(sides) > 1:
        small = min(sides, key=len)
        shown = ", ".join(str(node) for node in small[:8])
        dots = ", ..." if len(small) > 8 else ""
        plural = "s" if len(small) > 1 else ""
        raise LayoutError(
            f"cut off node{plural} {shown}{dots} from the rest",
            key="faults",
            remedy="Mend a link, switch or NIC on the way to them, or lower `nodes`.",
        )


def _sides(config: TopologyConfig, part: list[int]) -> list[list[int]]:
    """Return the nodes in groups that reach each other. part: of the fabric, of each NIC [nic].

    A union-find over nodes, numbered -1, -2, ..., and parts of the fabric, 0, 1, ....
    """
    parent: dict[int, int] = {}

    def root(item: int) -> int:
        while parent.setdefault(item, item) != item:
            item = parent[item]
        return item

    for number, component in enumerate(part):
        if component >= 0:
            parent[root(component)] = root(-1 - number // config.node.nics)
    sides: dict[int, list[int]] = {}
    for node in range(config.nodes):
        sides.setdefault(root(-1 - node), []).append(node)
    return list(sides.values())


def _nvlink_links(config: TopologyConfig, damage: Damage, healthy: Bools) -> list[Link]:
    """Return the links between GPUs that are not down and their NVSwitch, in order."""
    links: list[Link] = []
    half = config.node.nvlink_latency / 2
    for rank in np.flatnonzero(healthy).tolist():
        node, i = divmod(rank, config.node.gpus)
        width = damage.nvlink.get(rank, config.node.nvlink)
        links += _there_and_back(f"gpu{node}.{i}", f"nvswitch{node}", width, half)
    return links


def _nic_links(
    config: TopologyConfig, switches: Switches, damage: Damage, nics: list[int]
) -> list[Link]:
    """Return the links between NICs and their switches."""
    links: list[Link] = []
    names = {home: text(home) for home in dict.fromkeys(switches.home) if home}
    for number in nics:
        node, j = divmod(number, config.node.nics)
        width, delay = config.node.nic, config.fabric.leaf_latency / 2
        if switches.nic:
            width, delay = switches.nic[number]
        width = damage.nic.get(number, width)
        links += _there_and_back(f"nic{node}.{j}", names[switches.home[number]], width, delay)
    return links


def _slots(config: TopologyConfig, healthy: Bools, nics: list[int], first: int) -> Slots:
    """Return the PCIe links, numbered from `first`.

    A NIC and the GPUs that use it hang on one PCIe switch. The latency is within the NIC's,
    measured end to end.
    """
    pcie, slot = np.full(config.gpus, -1), np.full(config.nics, -1)
    links: list[Link] = []
    width, node = config.node.pcie, config.node
    if width is None or not nics:
        return Slots(links, pcie, slot)
    for rank in np.flatnonzero(healthy).tolist():
        gpu = f"gpu{rank // node.gpus}.{rank % node.gpus}"
        pcie[rank] = first + len(links)
        hub = _hub(config, rank // (node.gpus // node.nics))
        links += _there_and_back(gpu, hub, width, 0.0)
    for number in nics:
        nic = f"nic{number // node.nics}.{number % node.nics}"
        slot[number] = first + len(links)
        links += _there_and_back(_hub(config, number), nic, width, 0.0)
    return Slots(links, pcie, slot)


def _hub(config: TopologyConfig, nic: int) -> str:
    """Return the name of the PCIe switch of a NIC."""
    return f"pcie{nic // config.node.nics}.{nic % config.node.nics}"


def _there_and_back(one: str, other: str, width: float, delay: float) -> list[Link]:
    return [Link(f"{one}->{other}", width, delay), Link(f"{other}->{one}", width, delay)]


def _frozen(values: Any, kind: type) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=kind)
    array.flags.writeable = False
    return array

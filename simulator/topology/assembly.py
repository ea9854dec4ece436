"""A cluster's configuration -> its network: servers put on the fabric, and all links numbered."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.errors import LayoutError
from simulator.progress import doing
from simulator.topology.config import TopologyConfig
from simulator.topology.families import FABRICS
from simulator.topology.faults import Damage, apply
from simulator.topology.labels import Labels, kind_codes
from simulator.topology.lines import gpu_lines, listed, nic_lines
from simulator.topology.link_kind import LinkKind
from simulator.topology.network import Ids, Network
from simulator.topology.routing import SINGLE_CABLES, Link, Paths, paths
from simulator.topology.switches import Switches

Bools: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]


class Slots(NamedTuple):
    """The PCIe links of all servers."""

    links: list[Link]
    """Each link there, followed by the one back."""
    pcie: Ids
    """See `Network.pcie` [gpu]."""
    slot: Ids
    """See `Network.slot` [nic]."""


class Ports(NamedTuple):
    """Where the NICs are on the fabric."""

    link: list[int]
    """Link from each NIC to its switch [nic], -1 if the NIC is down or cut off."""
    switch: list[int]
    """Index of each NIC's switch in the paths [nic], -1 likewise."""
    part: list[int]
    """Connected part of the fabric of each NIC [nic], -1 likewise."""


class Leaves(NamedTuple):
    """The leaves of a fabric, numbered in the order of the GPUs."""

    of_gpu: list[int]
    """Leaf of each GPU's NIC [gpu], -1 where it uses none."""
    up: list[int]
    """Bundle from each leaf to what is above it [leaf], -1 where there is no single one."""


@lru_cache(maxsize=4)  # alternatives of a run share their cluster
@doing("building the network")
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
    order = np.cumsum(healthy) - 1  # of each GPU among the healthy ones [gpu]
    gpu_up = np.where(healthy, 2 * order, -1)  # [gpu] link
    first_nic = 2 * int(healthy.sum())
    first_cable = first_nic + 2 * len(nics)
    ways = paths(switches, config.routing, config.fabric.seed, first_cable)
    first_slot = ways.first + len(ways.links)

    ports = _ports(switches, ways, nics, first_nic)
    _check_whole(config, ports.part)
    # What a GPU sends goes through the NIC that it uses, which may be another's where its own is
    # down: NIC -> link and switch become GPU -> link and leaf.
    uses = _nic_of_each_gpu(config, ports.part)  # [gpu] NIC
    nic_up = _looked_up(ports.link, uses)  # [gpu] link
    index = uses % config.node.nics  # of the NIC in its node [gpu]
    rail = np.where(uses >= 0, index, -1)  # [gpu]
    leaves = _leaves(ways, _looked_up(ports.switch, uses))
    leaf_up = np.array(leaves.up, dtype=np.int64)  # [leaf] link
    # A GPU that is down computes nothing, whatever jitter would make of it.
    speed = np.where(healthy, _speeds(config, damage), 0.0)  # [gpu]
    # The order of the kinds is the order of the ids given above.
    slots = _slots(config, healthy, nics, first_slot)
    kinds = {
        LinkKind.NVLINK: gpu_lines(config, damage, healthy),
        LinkKind.NIC: nic_lines(config, switches, damage, nics),
        LinkKind.FABRIC: listed(ways.links),
        LinkKind.PCIE: listed(slots.links),
    }
    return Network(
        capacity=_frozen(np.concatenate([lines.capacity for lines in kinds.values()]), np.float64),
        latency=_frozen(np.concatenate([lines.latency for lines in kinds.values()]), np.float64),
        kind_code=_frozen(
            kind_codes({kind: len(lines.capacity) for kind, lines in kinds.items()}), np.int8
        ),
        name=Labels(tuple(lines.name for lines in kinds.values())),
        gpus_per_node=config.node.gpus,
        gpu_up=_frozen(gpu_up, np.int64),
        gpu_down=_frozen(_back(gpu_up), np.int64),
        nic_up=_frozen(nic_up, np.int64),
        nic_down=_frozen(_back(nic_up), np.int64),
        rail=_frozen(rail, np.int64),
        leaf=_frozen(leaves.of_gpu, np.int64),
        leaf_up=_frozen(leaf_up, np.int64),
        leaf_down=_frozen(_back(leaf_up), np.int64),
        speed=_frozen(speed, np.float64),
        nics_per_node=config.node.nics,
        switch=tuple(ports.switch),
        part=tuple(ports.part),
        nic_links=tuple(ports.link),
        paths=ways,
        pcie=_frozen(slots.pcie, np.int64),
        slot=_frozen(slots.slot, np.int64),
    )


def _back(links: Ids) -> Ids:
    """Return the links that lead back, -1 where there is none."""
    return np.where(links >= 0, links + 1, -1)


def _looked_up(table: list[int], index: Ids) -> Ids:
    """Return the rows of a table at some indices, -1 where the index is -1."""
    # The row added at the end is the one that -1 reads, so that an empty table works too.
    rows = np.array([*table, -1])
    return np.where(index >= 0, rows[index], -1)


def _speeds(config: TopologyConfig, damage: Damage) -> Floats:
    """Return the speed of each GPU [gpu]: a fault's, times what jitter leaves of it."""
    speeds: Floats = np.ones(config.gpus)
    for rank, speed in damage.speed.items():
        speeds[rank] = speed
    if config.jitter:
        speeds = speeds * config.jitter.speeds(config.gpus)
    return speeds


def _ports(switches: Switches, ways: Paths, nics: list[int], first: int) -> Ports:
    """Return where the working NICs are on the fabric. first: id of the first NIC's link."""
    count = len(switches.home)
    none = [-1] * count
    ports = Ports(link=none.copy(), switch=none.copy(), part=none.copy())
    for index, number in enumerate(nics):
        home = switches.home[number]
        ports.link[number] = first + 2 * index
        ports.switch[number] = ways.number[home]
        ports.part[number] = ways.part[home]
    return ports


def _leaves(ways: Paths, switch: Ids) -> Leaves:
    """Return the leaves of the NICs that GPUs use. switch: of each GPU's NIC [gpu]."""
    # The switches that have NICs are the leaves, in the order in which GPUs meet them.
    switches = switch.tolist()
    used = [number for number in dict.fromkeys(switches) if number >= 0]
    index = {number: leaf for leaf, number in enumerate(used)}
    above = [_single_links(ways, number) for number in used]
    # Only in a tree of bundles does each leaf have one link to what is above it; elsewhere `spread`
    # knows how traffic divides.
    is_tree = all(len(links) <= 1 for links in above)
    bundled = is_tree and ways.routing not in SINGLE_CABLES
    up = [links[0] if links and bundled else -1 for links in above]
    of_gpu = [index.get(number, -1) for number in switches]
    return Leaves(of_gpu, up)


def _single_links(ways: Paths, switch: int) -> list[int]:
    """Return the links from a switch to those neighbours to which it has just one."""
    bundles = ways.ahead[switch].values()
    return [links[0] for links in bundles if len(links) == 1]


def _working_nics(
    config: TopologyConfig, switches: Switches, damage: Damage, healthy: Bools
) -> list[int]:
    """Return the numbers of the NICs that work: not down, on a switch, and with a GPU."""
    if not switches.home:
        return []
    # GPUs that share a NIC are neighbours, so that they are a row.
    sharers = healthy.reshape(config.nics, -1)  # [nic, gpu of the NIC]
    has_gpu: Bools = np.any(sharers, axis=1)  # [nic]
    working = []
    for number, home in enumerate(switches.home):
        down = damage.nic.get(number) == 0.0
        if home and has_gpu[number] and not down:
            working.append(number)
    return working


def _nic_of_each_gpu(config: TopologyConfig, part: list[int]) -> Ids:
    """Return the NIC of every GPU [gpu], -1 if none.

    Its own, or if that is down the next one in the node that works.
    """
    nics = config.node.nics
    uses = np.full(config.nics, -1)  # of the GPUs of each NIC [nic]
    if part and min(part) >= 0:
        uses = np.arange(config.nics)
    elif part:
        for number in range(config.nics):
            first = number // nics * nics  # NIC of the node
            # From the own NIC on, round the node, so that the failures of neighbours spread.
            in_order = (*range(number, first + nics), *range(first, number))
            working = (nic for nic in in_order if part[nic] >= 0)
            uses[number] = next(working, -1)
    return np.repeat(uses, config.node.gpus // nics)


def _check_whole(config: TopologyConfig, part: list[int]) -> None:
    """Refuse a cluster of which some nodes cannot reach the rest. Errors: LayoutError."""
    # Only what users draw or break can be in pieces: the families build whole fabrics.
    in_pieces = config.faults or config.fabric.kind == "custom"
    if config.nodes == 1 or not in_pieces:
        return
    sides = _sides(config, part)
    if len(sides) > 1:
        # The smallest side is what users look for: mostly one node, cut off from all others.
        small = min(sides, key=len)
        shown = ", ".join(str(node) for node in small[:8])
        if len(small) > 8:
            shown += ", ..."
        nodes = "nodes" if len(small) > 1 else "node"
        raise LayoutError(
            f"cut off {nodes} {shown} from the rest",
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
        node = -1 - number // config.node.nics
        if component >= 0:
            parent[root(component)] = root(node)
    sides: dict[int, list[int]] = defaultdict(list)
    for node in range(config.nodes):
        side = root(-1 - node)
        sides[side].append(node)
    return list(sides.values())


def _slots(config: TopologyConfig, healthy: Bools, nics: list[int], first: int) -> Slots:
    """Return the PCIe links, numbered from `first`.

    A NIC and the GPUs that use it hang on one PCIe switch. The latency is within the NIC's,
    measured end to end.
    """
    links: list[Link] = []
    pcie = np.full(config.gpus, -1)  # [gpu] link
    slot = np.full(config.nics, -1)  # [nic] link
    node = config.node
    if node.pcie is None or not nics:
        return Slots(links, pcie, slot)
    share = node.gpus // node.nics  # GPUs of one NIC
    for rank in np.flatnonzero(healthy).tolist():
        gpu = _numbered("gpu", rank, node.gpus)
        hub = _numbered("pcie", rank // share, node.nics)
        pcie[rank] = first + len(links)
        links += _there_and_back(gpu, hub, node.pcie, 0.0)
    for number in nics:
        hub = _numbered("pcie", number, node.nics)
        nic = _numbered("nic", number, node.nics)
        slot[number] = first + len(links)
        links += _there_and_back(hub, nic, node.pcie, 0.0)
    return Slots(links, pcie, slot)


def _numbered(kind: str, number: int, per_node: int) -> str:
    """Return the name of a part of a node, `nic3.0`."""
    node, index = divmod(number, per_node)
    return f"{kind}{node}.{index}"


def _there_and_back(one: str, other: str, width: float, delay: float) -> list[Link]:
    there = Link(f"{one}->{other}", width, delay)
    back = Link(f"{other}->{one}", width, delay)
    return [there, back]


def _frozen(values: Any, kind: type) -> NDArray[Any]:
    """Return a copy that nobody can change: networks are shared by all runs on their cluster."""
    array: NDArray[Any] = np.array(values, dtype=kind)
    array.flags.writeable = False
    return array

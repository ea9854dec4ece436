"""Two layers of switches: fat trees by rail, in order or by plane, single servers, NVL72 racks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from simulator.errors import LayoutError
from simulator.topology.cabling import Cabling, Vertex
from simulator.topology.cluster import Cluster
from simulator.topology.switches import Switches, connect, full_bisection

TRAY, RACK = 4, 72
"""GPUs of a compute tray and of a rack of NVL72."""
LeavesOf: TypeAlias = Callable[[int, int], int]
"""(nodes, down ports of a leaf) -> leaves that they take"""


def rail_optimised(cluster: Cluster) -> Switches:
    """Return two layers, NIC j of every node on the leaves of rail j, without oversubscription.

    multi_rail is the same graph: its rails meet at the spines, and traffic between rails crosses
    them instead of NVLink (the multi-rail fat tree of arXiv 2505.09343, section 5.1).
    """
    return _on_rails(cluster, cluster.node.nics)


def fat_tree_2(cluster: Cluster) -> Switches:
    """Return two layers, the NICs in order of the nodes on the leaves, without oversubscription."""
    down = cluster.fabric.switch_ports // 2
    nics = cluster.node.nics
    home = tuple(("leaf", number // down) for number in range(cluster.nics))

    def leaves_of(nodes: int, ports: int) -> int:
        return math.ceil(nodes * nics / ports)

    return _two_layers(cluster, home, leaves_of)


def multi_plane(cluster: Cluster) -> Switches:
    """Return one two-layer fat tree for each plane and no cable between them.

    NIC j is in plane j modulo planes. DeepSeek's multi-plane fat tree: arXiv 2505.09343, section
    5.1.
    """
    nics = cluster.node.nics
    planes = cluster.fabric.planes or nics
    _check_share(nics, planes, "planes", "node")
    per_plane = nics // planes

    def leaves_of(nodes: int, ports: int) -> int:
        return math.ceil(nodes * per_plane / ports)

    home = _dealt_out(cluster, planes)
    uplinks = cluster.fabric.switch_ports // 2
    cabling = Cabling()
    bundle: dict[Vertex, Vertex] = {}
    for plane in range(planes):
        leaves = [leaf for leaf in dict.fromkeys(home) if leaf[1] == plane]
        count = _spines(cluster, len(leaves), leaves_of)
        spines = [("spine", plane, index) for index in range(count)]
        join(cabling, leaves, spines, cluster, uplinks)
        bundle |= dict.fromkeys(spines, ("spines", plane))
    # Each plane carries its own share of what half of the nodes send.
    half = cluster.nodes // 2 * nics  # NICs of half of the nodes
    return Switches(cabling, home, half * cluster.node.nic, bundle=bundle)


def single_node(cluster: Cluster) -> Switches:
    """Return no switches: the GPUs of one server meet at its NVSwitch, and NICs lead nowhere."""
    if cluster.nodes != 1:
        raise LayoutError(
            "nodes do not fit fabric.kind single_node, which connects none",
            value=cluster.nodes,
            key="nodes",
            remedy="Write nodes: 1, or fabric.kind: rail_optimised.",
        )
    return _nvlink_alone(cluster)


def nvl72(cluster: Cluster) -> Switches:
    """Return racks of up to 72 GPUs, an NVSwitch domain each, that meet rail by rail in two layers.

    A rack has 18 compute trays of 4 GPUs (NVIDIA GB200 NVL72), of which a job may use fewer: NIC j
    hangs on rail j modulo 4.
    """
    gpus = cluster.node.gpus
    if gpus > RACK or gpus % TRAY:
        raise LayoutError(
            "GPUs are not trays of an NVL72 rack",
            value=gpus,
            key="node.gpus",
            remedy=(
                f"Write a multiple of {TRAY} up to {RACK}; a node is a rack, or what is used of it."
            ),
        )
    if cluster.nodes == 1:
        return _nvlink_alone(cluster)
    rails = cluster.fabric.rails or min(TRAY, cluster.node.nics)
    _check_share(cluster.node.nics, rails, "rails", "rack")
    return _on_rails(cluster, rails)


def join(
    cabling: Cabling,
    leaves: Sequence[Vertex],
    spines: Sequence[Vertex],
    cluster: Cluster,
    uplinks: int,
) -> None:
    """Share the uplinks of each leaf evenly among the spines."""
    cabling.add([*leaves, *spines])
    for leaf, spine in itertools.product(leaves, spines):
        cables = uplinks // len(spines)
        connect(cabling, leaf, spine, cluster, cables)


def _nvlink_alone(cluster: Cluster) -> Switches:
    """Return a fabric without switches, whose bisection is that of the one NVSwitch."""
    node = cluster.node
    bisection = node.gpus // 2 * node.nvlink
    return Switches(Cabling(), home=(), bisection=bisection)


def _check_share(nics: int, groups: int, what: str, owner: str) -> None:
    """Refuse rails or planes that do not share a node's NICs evenly. Errors: LayoutError."""
    if nics % groups:
        divisors = [n for n in range(1, nics + 1) if nics % n == 0]
        legal = ", ".join(map(str, divisors))
        raise LayoutError(
            f"{what} do not share the {nics} NICs of a {owner} evenly",
            value=groups,
            key=f"fabric.{what}",
            remedy=f"Choose from: {legal}.",
        )


def _dealt_out(cluster: Cluster, groups: int) -> tuple[Vertex, ...]:
    """Return the leaf of every NIC, NIC j of a node in rail or plane j modulo `groups` [nic]."""
    down = cluster.fabric.switch_ports // 2  # NICs of one leaf
    nics = cluster.node.nics
    share = nics // groups  # NICs of a node in one group
    home = []
    for number in range(cluster.nics):
        node, j = divmod(number, nics)
        index, group = divmod(j, groups)
        position = node * share + index  # of the NIC in its rail or plane
        home.append(("leaf", group, position // down))
    return tuple(home)


def _on_rails(cluster: Cluster, rails: int) -> Switches:
    """Return two layers, NIC j of every node on the leaves of rail j modulo `rails`."""
    share = cluster.node.nics // rails
    home = _dealt_out(cluster, rails)

    def leaves_of(nodes: int, ports: int) -> int:
        # Rails share no leaf, so that each rounds up for itself.
        return rails * math.ceil(nodes * share / ports)

    return _two_layers(cluster, home, leaves_of)


def _two_layers(cluster: Cluster, home: tuple[Vertex, ...], leaves_of: LeavesOf) -> Switches:
    """Return leaves that all meet at the same spines. home: leaf of every NIC [nic]."""
    leaves = list(dict.fromkeys(home))
    count = _spines(cluster, len(leaves), leaves_of)
    spines = [("spine", index) for index in range(count)]
    cabling = Cabling()
    uplinks = cluster.fabric.switch_ports // 2
    join(cabling, leaves, spines, cluster, uplinks)
    # Full bisection: any half of the NICs can send to the other half at line rate.
    bundle: dict[Vertex, Vertex] = dict.fromkeys(spines, ("spines",))
    return Switches(cabling, home, full_bisection(cluster), bundle=bundle)


def _spines(cluster: Cluster, leaves: int, leaves_of: LeavesOf) -> int:
    """Return the fewest spines that take every uplink, as many cables from each leaf to each spine.

    The fewest by ports is leaves / 2, rounded up; NVIDIA rounds on to a divisor of a leaf's
    uplinks, 18 spines and not 16 for 32 leaves of 144 ports (DGX SuperPOD B300 XDR reference
    architecture, table 3). Zero for a lone leaf. Errors: LayoutError if a leaf has fewer uplinks
    than there are spines, so that two layers do not suffice.
    """
    uplinks = cluster.fabric.switch_ports // 2
    if leaves == 1:
        return 0
    fewest = math.ceil(leaves / 2)  # a spine has twice as many ports as a leaf has uplinks
    # Beyond `uplinks` a leaf would have no cable to some spine.
    for spines in range(fewest, uplinks + 1):
        if uplinks % spines == 0:
            return spines
    raise _too_many_leaves(cluster, leaves, leaves_of)


def _too_many_leaves(cluster: Cluster, leaves: int, leaves_of: LeavesOf) -> LayoutError:
    """Return the complaint about leaves that do not meet in two layers, and what would."""
    ports = cluster.fabric.switch_ports
    nodes = cluster.nodes
    uplinks = ports // 2
    spines = math.ceil(leaves / 2)
    # Two layers of p ports hold p leaves: as many as a spine has ports.
    enough = ports
    while leaves_of(nodes, enough // 2) > enough:
        enough += 2
    fitting = nodes
    while fitting and leaves_of(fitting, uplinks) > ports:
        fitting -= 1
    fewer = f", or nodes: {fitting} at most" if fitting else ""
    return LayoutError(
        f"ports do not hold {nodes} nodes in two layers: {leaves} leaves need {spines} spines, "
        f"and a leaf has {uplinks} uplinks, at least one of which must go to each spine",
        value=ports,
        key="fabric.switch_ports",
        remedy=f"Write switch_ports: {enough}{fewer}.",
    )

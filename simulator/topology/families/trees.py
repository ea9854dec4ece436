"""Two layers of switches: rail-optimised, multi-rail, plain and multi-plane fat trees, and NVL72 racks on rails."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from simulator.errors import LayoutError
from simulator.topology.cluster import Cluster
from simulator.topology.switches import Switches, Vertex, connect, empty, full_bisection

if TYPE_CHECKING:
    import networkx as nx


def rail_optimised(cluster: Cluster) -> Switches:
    """Return two layers, NIC j of every node on the leaves of rail j, without oversubscription.

    multi_rail is the same graph: its rails meet at the spines, and traffic between rails crosses
    them instead of NVLink (the multi-rail fat tree of arXiv 2505.09343, section 5.1).
    """
    half, rails = cluster.fabric.switch_ports // 2, cluster.node.nics
    home = tuple(("leaf", j, n // half) for n in range(cluster.nodes) for j in range(rails))
    return _two_layers(cluster, home, lambda nodes, down: rails * -(-nodes // down))


def fat_tree_2(cluster: Cluster) -> Switches:
    """Return two layers, the NICs in order of the nodes on the leaves, without oversubscription."""
    half, nics = cluster.fabric.switch_ports // 2, cluster.node.nics
    home = tuple(("leaf", number // half) for number in range(cluster.nics))
    return _two_layers(cluster, home, lambda nodes, down: -(-nodes * nics // down))


def multi_plane(cluster: Cluster) -> Switches:
    """Return one two-layer fat tree for each plane and no cable between them; NIC j is in plane j modulo planes.

    DeepSeek's multi-plane fat tree: arXiv 2505.09343, section 5.1.
    """
    half, nics = cluster.fabric.switch_ports // 2, cluster.node.nics
    planes = cluster.fabric.planes or nics
    if nics % planes:
        raise LayoutError(
            f"planes do not share the {nics} NICs of a node evenly",
            value=planes,
            key="fabric.planes",
            remedy=f"Write one of {', '.join(str(n) for n in range(1, nics + 1) if nics % n == 0)}.",
        )
    each = nics // planes
    home = tuple(
        ("leaf", j % planes, (n * each + j // planes) // half)
        for n in range(cluster.nodes)
        for j in range(nics)
    )
    graph = empty()
    bundle: dict[Vertex, Vertex] = {}
    for plane in range(planes):
        leaves = list(dict.fromkeys(leaf for leaf in home if leaf[1] == plane))
        spines = [
            ("spine", plane, s)
            for s in range(_spines(cluster, len(leaves), lambda n, d: -(-n * each // d)))
        ]
        join(graph, leaves, spines, cluster, half)
        bundle |= dict.fromkeys(spines, ("spines", plane))
    halves = (
        cluster.nodes // 2 * nics * cluster.node.nic
    )  # of the nodes: each plane carries its own share
    return Switches(graph, home, halves, bundle=bundle)


def single_node(cluster: Cluster) -> Switches:
    """Return no switches: the GPUs of one server meet at its NVSwitch; NICs lead nowhere and are left out."""
    if cluster.nodes != 1:
        raise LayoutError(
            "nodes do not fit fabric.kind single_node, which connects none",
            value=cluster.nodes,
            key="nodes",
            remedy="Write nodes: 1, or fabric.kind: rail_optimised.",
        )
    return Switches(empty(), (), cluster.node.gpus // 2 * cluster.node.nvlink)


def nvl72(cluster: Cluster) -> Switches:
    """Return racks of 72 GPUs under one NVSwitch domain each; more than one rack meet in two layers, rail by rail.

    A rack has 18 compute trays of 4 GPUs (NVIDIA GB200 NVL72): NIC j hangs on rail j modulo 4.
    """
    if cluster.node.gpus != 72:
        raise LayoutError(
            "GPUs are not an NVL72 rack",
            value=cluster.node.gpus,
            key="node.gpus",
            remedy="Write node.gpus: 72; a node is a rack.",
        )
    if cluster.nodes == 1:
        return Switches(empty(), (), cluster.node.gpus // 2 * cluster.node.nvlink)
    half, nics = cluster.fabric.switch_ports // 2, cluster.node.nics
    rails = cluster.fabric.rails or min(4, nics)
    if nics % rails:
        raise LayoutError(
            f"rails do not share the {nics} NICs of a rack evenly",
            value=rails,
            key="fabric.rails",
            remedy=f"Write one of {', '.join(str(n) for n in range(1, nics + 1) if nics % n == 0)}.",
        )
    each = nics // rails
    home = tuple(
        ("leaf", j % rails, (n * each + j // rails) // half)
        for n in range(cluster.nodes)
        for j in range(nics)
    )
    return _two_layers(cluster, home, lambda nodes, down: rails * -(-nodes * each // down))


def join(
    graph: nx.Graph,
    leaves: Sequence[Vertex],
    spines: Sequence[Vertex],
    cluster: Cluster,
    uplinks: int,
) -> None:
    """Share the uplinks of each leaf evenly among the spines."""
    graph.add_nodes_from([*leaves, *spines])
    for leaf, spine in itertools.product(leaves, spines):
        connect(graph, leaf, spine, cluster, uplinks // len(spines))


def _two_layers(
    cluster: Cluster, home: tuple[Vertex, ...], leaves_of: Callable[[int, int], int]
) -> Switches:
    """Return leaves that all meet at the same spines. leaves_of: (nodes, down ports) -> leaves that they take."""
    leaves = list(dict.fromkeys(home))
    spines = [("spine", s) for s in range(_spines(cluster, len(leaves), leaves_of))]
    graph = empty()
    join(graph, leaves, spines, cluster, cluster.fabric.switch_ports // 2)
    # Full bisection: any half of the NICs can send to the other half at line rate.
    return Switches(graph, home, full_bisection(cluster), bundle=dict.fromkeys(spines, ("spines",)))


def _spines(cluster: Cluster, leaves: int, leaves_of: Callable[[int, int], int]) -> int:
    """Return the fewest spines that take every uplink, the same number of cables from each leaf to each spine.

    The fewest by ports is leaves / 2, rounded up; NVIDIA rounds on to a divisor of a leaf's
    uplinks, 18 spines and not 16 for 32 leaves of 144 ports (DGX SuperPOD B300 XDR reference
    architecture, table 3). Zero for a lone leaf. Errors: LayoutError if a leaf has fewer uplinks
    than there are spines, so that two layers do not suffice.
    """
    ports, nodes = cluster.fabric.switch_ports, cluster.nodes
    half, fewest = ports // 2, -(-leaves // 2)
    if leaves == 1:
        return 0
    if fewest > half:
        enough = next(p for p in itertools.count(ports, 2) if leaves_of(nodes, p // 2) <= p)
        fitting = next((n for n in range(nodes, 0, -1) if leaves_of(n, half) <= ports), 0)
        raise LayoutError(
            f"ports do not hold {nodes} nodes in two layers: {leaves} leaves need {fewest} spines, "
            f"and a leaf has {half} uplinks, at least one of which must go to each spine",
            value=ports,
            key="fabric.switch_ports",
            remedy=f"Write switch_ports: {enough}"
            + (f", or nodes: {fitting} at most." if fitting else "."),
        )
    return next(spines for spines in range(fewest, half + 1) if half % spines == 0)

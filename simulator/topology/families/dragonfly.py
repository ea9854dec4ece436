"""Dragonfly: groups of routers that are all joined, and cables between all groups.

Kim et al., ISCA 2008.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from simulator.errors import LayoutError
from simulator.topology.cluster import Cluster
from simulator.topology.switches import (
    Switches,
    check_ports,
    check_room,
    connect,
    empty,
    fill,
    full_bisection,
)

if TYPE_CHECKING:
    import networkx as nx


def dragonfly(cluster: Cluster) -> Switches:
    """Return g groups of a routers with h global ports and p NICs each, every global port cabled.

    Between any two groups run a h / (g - 1) cables, rounded either way; canonical is g = a h + 1,
    one each.
    """
    fabric = cluster.fabric
    a = fabric.group_routers
    h, p = fabric.global_ports or max(1, a // 2), fabric.router_nics or max(1, a // 2)
    groups = fabric.groups or -(-cluster.nics // (a * p))
    check_ports(cluster, p + a - 1 + h, f"{p} NICs, {a - 1} routers of the group, {h} global ports")
    if groups > a * h + 1:
        raise LayoutError(
            f"groups are more than a h + 1 = {a * h + 1}, so that some pair has no cable",
            value=groups,
            key="fabric.groups" if fabric.groups else "nodes",
            remedy="Raise fabric.group_routers or fabric.global_ports, or take fewer nodes.",
        )
    check_room(cluster, groups * a * p, f"a dragonfly of {groups} groups")
    graph = empty()
    routers = [("router", group, r) for group in range(groups) for r in range(a)]
    graph.add_nodes_from(routers)
    for group in range(groups):
        _join_routers(graph, cluster, group, a)
    _join_groups(graph, cluster, groups, a, h)
    between, note = full_bisection(cluster), "closed form"
    if groups > 1:
        # Each half of the groups sends over the cables between halves, all pairs of groups having
        # alike many.
        pairs = groups // 2 * ((groups + 1) // 2)
        between = pairs * a * h / (groups - 1) * cluster.node.nic
        if groups % 2 or a * h % (groups - 1):
            note = "the mean cut between halves of the groups, an estimate for this size"
    bisection = min(full_bisection(cluster), between)
    return Switches(graph, fill(cluster, routers, p), bisection, note)


def _join_routers(graph: nx.Graph, cluster: Cluster, group: int, a: int) -> None:
    """Join all routers of a group with each other."""
    for r, s in itertools.combinations(range(a), 2):
        connect(graph, ("router", group, r), ("router", group, s), cluster)


def _join_groups(graph: nx.Graph, cluster: Cluster, groups: int, a: int, h: int) -> None:
    """Cable every global port: port k of a group leads `offsets[k]` groups further on, and back."""
    ports: dict[tuple[int, int], list[int]] = defaultdict(list)
    for group in range(groups):
        for k, offset in enumerate(_offsets(groups, a * h)):
            ports[group, offset].append(k % a)
    for (group, offset), mine in ports.items():
        other = (group + offset) % groups
        if group < other:
            for r, s in zip(mine, ports[other, groups - offset], strict=True):
                connect(graph, ("router", group, r), ("router", other, s), cluster)


def _offsets(groups: int, ports: int) -> list[int]:
    """Return how many groups further on each global port of a group leads.

    Each offset d comes as often as groups - d, its way back.
    """
    if groups == 1:
        return []
    whole, rest = divmod(ports, groups - 1)
    offsets = list(range(1, groups)) * whole
    for d in range(1, rest // 2 + 1):
        offsets += [d, groups - d]
    # An odd port out leads across; with an odd number of groups nobody is across, and the port
    # stays empty.
    return offsets + [groups // 2] * (rest % 2 if groups % 2 == 0 else 0)


def dragonfly_counts(a: int, h: int, p: int, groups: int) -> tuple[int, int, int]:
    """Return endpoints, switches and cables between switches, every global port cabled."""
    return a * p * groups, a * groups, groups * a * (a - 1) // 2 + groups * a * h // 2

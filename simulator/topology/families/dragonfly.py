"""Dragonfly: groups of routers that are all joined, and cables between all groups.

Kim et al., ISCA 2008.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

from simulator.errors import LayoutError
from simulator.topology.cabling import Cabling, Vertex
from simulator.topology.cluster import Cluster
from simulator.topology.switches import (
    Switches,
    check_ports,
    check_room,
    connect,
    fill,
    full_bisection,
)


def dragonfly(cluster: Cluster) -> Switches:
    """Return g groups of a routers with h global ports and p NICs each, every global port cabled.

    Between any two groups run a h / (g - 1) cables, rounded either way; canonical is g = a h + 1,
    one each.
    """
    fabric = cluster.fabric
    # The names of the paper. It recommends a = 2 p = 2 h, which balances all channels.
    a = fabric.group_routers
    balanced = max(1, a // 2)
    h = fabric.global_ports or balanced
    p = fabric.router_nics or balanced
    groups = fabric.groups or math.ceil(cluster.nics / (a * p))  # as few as hold the NICs
    near = a - 1  # routers of the same group
    what = f"{p} NICs, {near} routers of the group, {h} global ports"
    check_ports(cluster, p + near + h, what)
    most = a * h + 1
    if groups > most:
        raise LayoutError(
            f"groups are more than a h + 1 = {most}, so that some pair has no cable",
            value=groups,
            key="fabric.groups" if fabric.groups else "nodes",
            remedy="Raise fabric.group_routers or fabric.global_ports, or take fewer nodes.",
        )
    places = groups * a * p
    check_room(cluster, places, f"a dragonfly of {groups} groups")
    cabling = Cabling()
    routers: list[Vertex] = []
    for group in range(groups):
        members = _routers(group, a)
        cabling.add(members)
        _join_all(cabling, cluster, members)
        routers += members
    _join_groups(cabling, cluster, groups, a, h)
    cut = _cut(groups, a * h) * cluster.node.nic
    note = "closed form"
    if groups > 1 and not _all_alike(groups, a * h):
        note = "the mean cut between halves of the groups, an estimate for this size"
    bisection = min(full_bisection(cluster), cut)
    return Switches(cabling, fill(cluster, routers, p), bisection, note)


def _cut(groups: int, ports: int) -> float:
    """Return the cables between halves of the groups. ports: global ports of one group."""
    if groups == 1:
        return math.inf  # nothing to cut: the group is joined all to all
    # Each half sends over the cables between halves; all pairs of groups have as many on average.
    half = groups // 2
    pairs = half * (groups - half)
    return pairs * ports / (groups - 1)


def _all_alike(groups: int, ports: int) -> bool:
    """Tell whether all pairs of groups have as many cables, and halves as many groups."""
    return groups % 2 == 0 and ports % (groups - 1) == 0


def _join_all(cabling: Cabling, cluster: Cluster, routers: list[Vertex]) -> None:
    """Join all routers of a group with each other."""
    for one, other in itertools.combinations(routers, 2):
        connect(cabling, one, other, cluster)


def _join_groups(cabling: Cabling, cluster: Cluster, groups: int, a: int, h: int) -> None:
    """Cable every global port: port k of a group leads `offsets[k]` groups further on, and back."""
    # Port k belongs to router k modulo a, so that the cables to one group start at all its routers
    # in turn. All groups are alike.
    routers: dict[int, list[int]] = defaultdict(list)  # offset -> routers of the ports there
    for k, offset in enumerate(_offsets(groups, a * h)):
        routers[offset].append(k % a)
    for group in range(groups):
        here = _routers(group, a)
        for offset, near in routers.items():
            other = (group + offset) % groups
            if group > other:
                continue  # the way back of cables that are there
            there = _routers(other, a)
            far = routers[groups - offset]
            for r, s in zip(near, far, strict=True):
                connect(cabling, here[r], there[s], cluster)


def _routers(group: int, a: int) -> list[Vertex]:
    """Return the routers of a group."""
    return [("router", group, r) for r in range(a)]


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
    if rest % 2 and groups % 2 == 0:
        offsets.append(groups // 2)
    return offsets


def dragonfly_counts(a: int, h: int, p: int, groups: int) -> tuple[int, int, int]:
    """Return endpoints, switches and cables between switches, every global port cabled."""
    routers = a * groups
    within = routers * (a - 1) // 2
    between = routers * h // 2
    return p * routers, routers, within + between

"""The three-dimensional torus."""

from __future__ import annotations

import itertools
import math

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


def torus_3d(cluster: Cluster) -> Switches:
    """Return a switch at every point of a grid that closes on itself, with the same nodes on each.

    A ring of two has both its cables between the same switches. Cut across the longest dimension L,
    two faces of (switches / L) rings cross: the bisection for an even L, a lower bound for an odd
    one.
    """
    dims = cluster.fabric.dims
    cables = cluster.fabric.cables
    count = math.prod(dims)
    nodes = math.ceil(cluster.nodes / count)  # of one switch
    nics = nodes * cluster.node.nics
    rings = sum(length > 1 for length in dims)  # through each switch
    ahead_and_back = 2 * cables * rings
    check_ports(
        cluster,
        nics + ahead_and_back,
        f"{nics} NICs and {ahead_and_back} cables to neighbours",
    )
    check_room(cluster, count * nics, f"a torus of {count} switches")
    axes = [range(length) for length in dims]
    points = list(itertools.product(*axes))
    switches: list[Vertex] = [("switch", *point) for point in points]
    cabling = Cabling()
    cabling.add(switches)
    # Each switch adds the cables to the next one in each dimension, and the one before has added
    # those to it. In a ring of two both add them, so that it has twice as many.
    for point in points:
        for axis, length in enumerate(dims):
            if length > 1:
                ahead = list(point)
                ahead[axis] = (point[axis] + 1) % length
                end = ("switch", *ahead)
                connect(cabling, ("switch", *point), end, cluster, cables)
    longest = max(dims)
    cut = math.inf
    if longest > 1:
        face = count // longest  # rings that a face cuts
        cut = 2 * face * cables * cluster.node.nic
    even = longest % 2 == 0 and cluster.nodes % count == 0
    note = "closed form"
    if count > 1 and not even:
        note = "a cut across the longest dimension, an estimate for this size"
    bisection = min(full_bisection(cluster), cut)
    return Switches(cabling, fill(cluster, switches, nics), bisection, note)

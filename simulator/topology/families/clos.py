"""Three layers of switches: the fat tree without oversubscription, and the Clos with ratios."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from simulator.errors import LayoutError
from simulator.topology.cluster import Cluster
from simulator.topology.families.trees import fat_tree_2, join
from simulator.topology.switches import (
    Switches,
    Vertex,
    check_ports,
    check_room,
    empty,
    full_bisection,
)

if TYPE_CHECKING:
    import networkx as nx

_CORES: Vertex = ("cores",)


def fat_tree_3(cluster: Cluster) -> Switches:
    """Return pods of half leaves and half aggregation switches of k ports, under core switches.

    Aggregation switch a of every pod meets core group a; there are (k/2)^2 core switches at most,
    and smaller clusters have fewer per group, the fewest that take all uplinks evenly. Al-Fares et
    al., SIGCOMM 2008, section 3.
    """
    ports, half = cluster.fabric.switch_ports, cluster.fabric.switch_ports // 2
    check_room(cluster, ports * half * half, f"a three-layer fat tree of {ports} ports")
    pod_size = half**2  # NICs under one pod
    pods = -(-cluster.nics // pod_size)
    if pods == 1:
        return fat_tree_2(cluster)
    home = tuple(("leaf", nic // pod_size, nic // half % half) for nic in range(cluster.nics))
    cores = next(count for count in range(-(-pods // 2), half + 1) if half % count == 0)
    graph = empty()
    bundle: dict[Vertex, Vertex] = {}
    for pod in range(pods):
        leaves = list(dict.fromkeys(home[pod * pod_size : (pod + 1) * pod_size]))
        aggregation = [("agg", pod, index) for index in range(half)]
        join(graph, leaves, aggregation, cluster, half)
        bundle |= dict.fromkeys(aggregation, ("aggs", pod))
        for index, switch in enumerate(aggregation):
            group = [("core", index, core) for core in range(cores)]
            join(graph, [switch], group, cluster, half)
    bundle |= {vertex: _CORES for vertex in graph if vertex[0] == "core"}
    return Switches(graph, home, full_bisection(cluster), bundle=bundle)


def clos_3(cluster: Cluster) -> Switches:
    """Return racks under a leaf, pods of racks, and a top layer, oversubscribed at leaf and pod.

    Llama 3's network: racks of 16 GPUs, pods of 3,072 GPUs with full bisection, 1:7 above (arXiv
    2407.21783, section 3.3.1). A pod leaves with exactly its NICs' bandwidth over both ratios; the
    cables are rounded up to whole ones. Each pod has the uplinks of a full one, also where the last
    is not full.
    """
    fabric, rate = cluster.fabric, cluster.node.nic
    at_leaf, whole_ratio = fabric.oversubscription[0], math.prod(fabric.oversubscription)
    share = cluster.node.gpus // cluster.node.nics  # GPUs of one NIC
    down = fabric.leaf_gpus // share if fabric.leaf_gpus else fabric.switch_ports // 2
    pod = fabric.pod_gpus // share  # NICs of one pod
    _check_pod(cluster, down, pod)
    uplinks = math.ceil(down / at_leaf)
    check_ports(cluster, down + uplinks, f"{down} NICs and {uplinks} uplinks of a leaf")
    middles, rise = _middle(cluster, pod // down, uplinks)
    home = tuple(("leaf", nic // pod, nic % pod // down) for nic in range(cluster.nics))
    pods = home[-1][1] + 1
    tops, rise = _top(cluster, pods, middles, rise)

    # A cable carries its share of what the ratio lets through, not the line rate: cables are whole.
    leaf_cable = down / at_leaf / uplinks * rate
    pod_cable = pod * rate / whole_ratio / middles / rise
    graph = empty()
    bundle: dict[Vertex, Vertex] = {}
    top: list[Vertex] = [("top", number) for number in range(tops)]
    for index in range(pods):
        leaves = list(dict.fromkeys(home[index * pod : (index + 1) * pod]))
        mids = [("mid", index, number) for number in range(middles)]
        _join_at(graph, leaves, mids, cluster, uplinks, leaf_cable)
        _join_at(graph, mids, top, cluster, rise, pod_cable)
        bundle |= dict.fromkeys(mids, ("mids", index))
    bundle |= dict.fromkeys(top, _CORES)

    ratio = at_leaf if pods == 1 else whole_ratio
    even = pods == 1 or (pods % 2 == 0 and pods * pod == cluster.nics)
    note = "closed form"
    if not even:
        note = "closed form for whole pods in each half, a lower bound for this size"
    return Switches(graph, home, full_bisection(cluster) / ratio, note, bundle)


def _join_at(
    graph: nx.Graph,
    lower: list[Vertex],
    upper: list[Vertex],
    cluster: Cluster,
    uplinks: int,
    bandwidth: float,
) -> None:
    """Share the uplinks of each lower switch among the upper ones. bandwidth: of a cable [B/s]."""
    join(graph, lower, upper, cluster, uplinks)
    for edge in itertools.product(lower, upper):
        graph.edges[edge]["bandwidth"] = bandwidth


def _check_pod(cluster: Cluster, down: int, pod: int) -> None:
    """Refuse pods of NICs that do not make whole leaves and whole nodes. Errors: LayoutError."""
    share = cluster.node.gpus // cluster.node.nics
    if down and pod and pod % down == 0 and pod % cluster.node.nics == 0:
        return
    step = math.lcm(max(down, 1), cluster.node.nics) * share
    raise LayoutError(
        f"GPUs do not make whole leaves of {down * share} GPUs and whole nodes of "
        f"{cluster.node.gpus}",
        value=cluster.fabric.pod_gpus,
        key="fabric.pod_gpus",
        remedy=f"Write a multiple of {step}.",
    )


def _middle(cluster: Cluster, racks: int, uplinks: int) -> tuple[int, int]:
    """Return how many switches join the leaves of a pod, and the uplinks of one of them."""
    ports = cluster.fabric.spine_ports or cluster.fabric.switch_ports
    at_pod = cluster.fabric.oversubscription[1]
    for middles in range(1, uplinks + 1):
        below = racks * uplinks / middles
        rise = math.ceil(below / at_pod)
        if uplinks % middles == 0 and below + rise <= ports:
            return middles, rise
    least = racks + math.ceil(racks / at_pod)
    raise LayoutError(
        f"ports do not join the {racks} leaves of a pod: a switch with a cable to each takes "
        f"{least}",
        value=ports,
        key="fabric.spine_ports",
        remedy=f"Write spine_ports: {least} at least, or a smaller pod_gpus.",
    )


def _top(cluster: Cluster, pods: int, middles: int, rise: int) -> tuple[int, int]:
    """Return how many switches join the pods, and the uplinks of a middle switch.

    rise: uplinks that a middle switch needs; the result is rounded up to a multiple of the top
    switches.
    """
    ports = cluster.fabric.spine_ports or cluster.fabric.switch_ports
    if pods == 1:
        return 0, rise
    for tops in range(1, rise + 1):
        even = -(-rise // tops) * tops
        if pods * middles * even <= tops * ports:
            return tops, even
    raise LayoutError(
        f"ports do not join {pods * middles} switches of {pods} pods in one layer",
        value=ports,
        key="fabric.spine_ports",
        remedy=f"Write spine_ports: {pods * middles} at least, or fewer nodes.",
    )

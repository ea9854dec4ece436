"""Three layers of switches: the fat tree without oversubscription, and the Clos with a ratio at each tier."""

from __future__ import annotations

import math

from simulator.errors import LayoutError
from simulator.topology.cluster import Cluster
from simulator.topology.families.trees import fat_tree_2, join
from simulator.topology.switches import (
    Switches,
    Vertex,
    check_ports,
    check_room,
    connect,
    empty,
    full_bisection,
)

_CORES: Vertex = ("cores",)


def fat_tree_3(cluster: Cluster) -> Switches:
    """Return pods of half leaves and half aggregation switches of k ports, joined by (k/2)^2 core switches at most.

    Aggregation switch a of every pod meets core group a; smaller clusters have fewer core switches
    per group, the fewest that take all uplinks evenly. Al-Fares et al., SIGCOMM 2008, section 3.
    """
    ports, half = cluster.fabric.switch_ports, cluster.fabric.switch_ports // 2
    check_room(cluster, ports * half * half, f"a three-layer fat tree of {ports} ports")
    pods = -(-cluster.nics // half**2)
    if pods == 1:
        return fat_tree_2(cluster)
    home = tuple(("leaf", e // half**2, e // half % half) for e in range(cluster.nics))
    graph = empty()
    bundle: dict[Vertex, Vertex] = {}
    cores = next(c for c in range(-(-pods // 2), half + 1) if half % c == 0)
    for pod in range(pods):
        leaves = list(dict.fromkeys(leaf for leaf in home[pod * half**2 : (pod + 1) * half**2]))
        aggs = [("agg", pod, a) for a in range(half)]
        join(graph, leaves, aggs, cluster, half)
        bundle |= dict.fromkeys(aggs, ("aggs", pod))
        for a, agg in enumerate(aggs):
            join(graph, [agg], [("core", a, c) for c in range(cores)], cluster, half)
    bundle |= {vertex: _CORES for vertex in graph if vertex[0] == "core"}
    return Switches(graph, home, full_bisection(cluster), bundle=bundle)


def clos_3(cluster: Cluster) -> Switches:
    """Return racks under a leaf, pods of racks, and a top layer, with an oversubscription at the leaf and at the pod.

    Llama 3's network: racks of 16 GPUs, pods of 3,072 GPUs with full bisection, 1:7 above (arXiv
    2407.21783, section 3.3.1). A pod leaves with exactly its NICs' bandwidth over both ratios; the
    cables are rounded up to whole ones. Each pod has the uplinks of a full one, also where the last
    is not full.
    """
    fabric = cluster.fabric
    share = cluster.node.gpus // cluster.node.nics
    down = fabric.leaf_gpus // share if fabric.leaf_gpus else fabric.switch_ports // 2
    pod = fabric.pod_gpus // share
    _check_pod(cluster, down, pod)
    uplinks = math.ceil(down / fabric.oversubscription[0])
    check_ports(cluster, down + uplinks, f"{down} NICs and {uplinks} uplinks of a leaf")
    middles, rise = _middle(cluster, pod // down, uplinks)
    home = tuple(("leaf", e // pod, e % pod // down) for e in range(cluster.nics))
    pods = home[-1][1] + 1
    graph = empty()
    bundle: dict[Vertex, Vertex] = {}
    tops, rise = _top(cluster, pods, middles, rise)
    exit_ = pod * cluster.node.nic / math.prod(fabric.oversubscription)
    for p in range(pods):
        leaves = list(dict.fromkeys(home[p * pod : (p + 1) * pod]))
        mids = [("mid", p, m) for m in range(middles)]
        join(graph, leaves, mids, cluster, uplinks)
        for leaf in leaves:
            for mid in mids:
                graph.edges[leaf, mid]["bandwidth"] = (
                    down / fabric.oversubscription[0] / uplinks * cluster.node.nic
                )
        bundle |= dict.fromkeys(mids, ("mids", p))
        for mid in mids:
            for t in range(tops):
                connect(graph, mid, ("top", t), cluster, rise // tops)
                graph.edges[mid, ("top", t)]["bandwidth"] = exit_ / middles / rise
    bundle |= {("top", t): _CORES for t in range(tops)}
    ratio = fabric.oversubscription[0] if pods == 1 else math.prod(fabric.oversubscription)
    whole = pods == 1 or (pods % 2 == 0 and pods * pod == cluster.nics)
    note = (
        "closed form"
        if whole
        else "closed form for whole pods in each half, a lower bound for this size"
    )
    return Switches(graph, home, full_bisection(cluster) / ratio, note, bundle)


def _check_pod(cluster: Cluster, down: int, pod: int) -> None:
    share = cluster.node.gpus // cluster.node.nics
    if down and pod and pod % down == 0 and pod % cluster.node.nics == 0:
        return
    step = math.lcm(max(down, 1), cluster.node.nics) * share
    raise LayoutError(
        f"GPUs do not make whole leaves of {down * share} GPUs and whole nodes of {cluster.node.gpus}",
        value=cluster.fabric.pod_gpus,
        key="fabric.pod_gpus",
        remedy=f"Write a multiple of {step}.",
    )


def _middle(cluster: Cluster, racks: int, uplinks: int) -> tuple[int, int]:
    """Return how many switches join the leaves of a pod, and the uplinks of one of them."""
    ports = cluster.fabric.spine_ports or cluster.fabric.switch_ports
    for middles in range(1, uplinks + 1):
        below = racks * uplinks / middles
        rise = math.ceil(below / cluster.fabric.oversubscription[1])
        if uplinks % middles == 0 and below + rise <= ports:
            return middles, rise
    least = racks + math.ceil(racks / cluster.fabric.oversubscription[1])
    raise LayoutError(
        f"ports do not join the {racks} leaves of a pod: a switch with a cable to each takes {least}",
        value=ports,
        key="fabric.spine_ports",
        remedy=f"Write spine_ports: {least} at least, or a smaller pod_gpus.",
    )


def _top(cluster: Cluster, pods: int, middles: int, rise: int) -> tuple[int, int]:
    """Return how many switches join the pods, and the uplinks of a middle switch, a multiple of that."""
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

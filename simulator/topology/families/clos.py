"""Three layers of switches: the fat tree without oversubscription, and the Clos with ratios."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from simulator.errors import LayoutError
from simulator.topology.cabling import Cabling, Vertex
from simulator.topology.cluster import Cluster
from simulator.topology.families.trees import fat_tree_2, join
from simulator.topology.switches import Switches, check_ports, check_room, full_bisection

_CORES: Vertex = ("cores",)


class Layer(NamedTuple):
    """Switches above others of `clos_3`: of one pod, or those that join the pods."""

    switches: int
    """Number of switches of the layer (of one pod)."""
    uplinks: int
    """Cables that lead up from a switch in the middle of a pod."""


def fat_tree_3(cluster: Cluster) -> Switches:
    """Return pods of half leaves and half aggregation switches of k ports, under core switches.

    Aggregation switch a of every pod meets core group a; there are (k/2)^2 core switches at most,
    and smaller clusters have fewer per group, the fewest that take all uplinks evenly. Al-Fares et
    al., SIGCOMM 2008, section 3.
    """
    ports = cluster.fabric.switch_ports
    half = ports // 2
    pod_size = half**2  # NICs under one pod
    check_room(cluster, ports * pod_size, f"a three-layer fat tree of {ports} ports")
    pods = math.ceil(cluster.nics / pod_size)
    if pods == 1:
        return fat_tree_2(cluster)
    home = _leaves(cluster, pod_size, half)
    # A core switch has a port for every pod's uplinks: half of the pods fill one at least.
    fewest = math.ceil(pods / 2)
    counts = range(fewest, half + 1)
    cores = next(count for count in counts if half % count == 0)  # of one group
    cabling = Cabling()
    bundle: dict[Vertex, Vertex] = {}
    for pod in range(pods):
        leaves = _of_pod(home, pod, pod_size)
        aggregation = [("agg", pod, index) for index in range(half)]
        join(cabling, leaves, aggregation, cluster, half)
        bundle |= dict.fromkeys(aggregation, ("aggs", pod))
        for index, switch in enumerate(aggregation):
            group = [("core", index, core) for core in range(cores)]
            join(cabling, [switch], group, cluster, half)
            bundle |= dict.fromkeys(group, _CORES)
    return Switches(cabling, home, full_bisection(cluster), bundle=bundle)


def clos_3(cluster: Cluster) -> Switches:
    """Return racks under a leaf, pods of racks, and a top layer, oversubscribed at leaf and pod.

    Llama 3's network: racks of 16 GPUs, pods of 3,072 GPUs with full bisection, 1:7 above (arXiv
    2407.21783, section 3.3.1). A pod leaves with exactly its NICs' bandwidth over both ratios; the
    cables are rounded up to whole ones. Each pod has the uplinks of a full one, also where the last
    is not full.
    """
    fabric = cluster.fabric
    rate = cluster.node.nic
    at_leaf = fabric.oversubscription[0]
    whole_ratio = math.prod(fabric.oversubscription)
    share = cluster.node.gpus // cluster.node.nics  # GPUs of one NIC
    down = fabric.switch_ports // 2  # NICs of one leaf
    if fabric.leaf_gpus:
        down = fabric.leaf_gpus // share
    pod_size = fabric.pod_gpus // share  # NICs of one pod
    _check_pod(cluster, down, pod_size)
    uplinks = math.ceil(down / at_leaf)
    check_ports(cluster, down + uplinks, f"{down} NICs and {uplinks} uplinks of a leaf")
    middle = _middle(cluster, pod_size // down, uplinks)
    home = _leaves(cluster, pod_size, down)
    pods = math.ceil(cluster.nics / pod_size)
    top = _top(cluster, pods, middle)

    # A cable carries its share of what the ratio lets through, not the line rate: cables are whole.
    leaf_cable = down / at_leaf / uplinks * rate  # [B/s]
    upward = pod_size * rate / whole_ratio  # all cables of a pod [B/s]
    pod_cable = upward / middle.switches / top.uplinks  # [B/s]
    cabling = Cabling()
    bundle: dict[Vertex, Vertex] = {}
    tops: list[Vertex] = [("top", number) for number in range(top.switches)]
    for pod in range(pods):
        leaves = _of_pod(home, pod, pod_size)
        mids = [("mid", pod, number) for number in range(middle.switches)]
        _join_at(cabling, leaves, mids, cluster, uplinks, leaf_cable)
        _join_at(cabling, mids, tops, cluster, top.uplinks, pod_cable)
        bundle |= dict.fromkeys(mids, ("mids", pod))
    bundle |= dict.fromkeys(tops, _CORES)

    ratio = at_leaf if pods == 1 else whole_ratio
    # Where halves are not whole pods, some of the traffic between them stays below the top layer.
    full = pods * pod_size == cluster.nics
    note = "closed form"
    if pods > 1 and not (full and pods % 2 == 0):
        note = "closed form for whole pods in each half, a lower bound for this size"
    return Switches(cabling, home, full_bisection(cluster) / ratio, note, bundle)


def _leaves(cluster: Cluster, pod_size: int, leaf_size: int) -> tuple[Vertex, ...]:
    """Return the leaf of every NIC, pod by pod [nic]. Sizes: in NICs."""
    home = []
    for nic in range(cluster.nics):
        pod, index = divmod(nic, pod_size)
        home.append(("leaf", pod, index // leaf_size))
    return tuple(home)


def _of_pod(home: tuple[Vertex, ...], pod: int, pod_size: int) -> list[Vertex]:
    """Return the leaves of a pod, each once and in order. pod_size: in NICs."""
    first = pod * pod_size
    of_nics = home[first : first + pod_size]
    return list(dict.fromkeys(of_nics))


def _join_at(
    cabling: Cabling,
    lower: list[Vertex],
    upper: list[Vertex],
    cluster: Cluster,
    uplinks: int,
    bandwidth: float,
) -> None:
    """Share the uplinks of each lower switch among the upper ones. bandwidth: of a cable [B/s]."""
    join(cabling, lower, upper, cluster, uplinks)
    for edge in itertools.product(lower, upper):
        trunk = cabling.between(*edge)
        cabling.join(*edge, trunk._replace(bandwidth=bandwidth))


def _check_pod(cluster: Cluster, down: int, pod: int) -> None:
    """Refuse pods of NICs that do not make whole leaves and whole nodes. Errors: LayoutError."""
    node = cluster.node
    whole_leaves = down > 0 and pod % down == 0
    if pod > 0 and whole_leaves and pod % node.nics == 0:
        return
    share = node.gpus // node.nics  # GPUs of one NIC
    step = math.lcm(max(down, 1), node.nics) * share  # GPUs
    raise LayoutError(
        f"GPUs do not make whole leaves of {down * share} GPUs and whole nodes of {node.gpus}",
        value=cluster.fabric.pod_gpus,
        key="fabric.pod_gpus",
        remedy=f"Write a multiple of {step}.",
    )


def _middle(cluster: Cluster, racks: int, uplinks: int) -> Layer:
    """Return the fewest switches that join the leaves of a pod, and the uplinks of one of them."""
    ports = cluster.fabric.spine_ports or cluster.fabric.switch_ports
    at_pod = cluster.fabric.oversubscription[1]
    for switches in range(1, uplinks + 1):
        below = racks * uplinks / switches
        above = math.ceil(below / at_pod)
        # Only a divisor of a leaf's uplinks takes as many cables from it on every switch.
        if uplinks % switches == 0 and below + above <= ports:
            return Layer(switches, above)
    least = racks + math.ceil(racks / at_pod)
    raise LayoutError(
        f"ports do not join the {racks} leaves of a pod: a switch with a cable to each takes "
        f"{least}",
        value=ports,
        key="fabric.spine_ports",
        remedy=f"Write spine_ports: {least} at least, or a smaller pod_gpus.",
    )


def _top(cluster: Cluster, pods: int, middle: Layer) -> Layer:
    """Return the fewest switches that join the pods, and the uplinks of a middle switch.

    Those are the ones that it needs, rounded up to a multiple of the top switches.
    """
    ports = cluster.fabric.spine_ports or cluster.fabric.switch_ports
    if pods == 1:
        return Layer(0, middle.uplinks)
    below = pods * middle.switches
    for switches in range(1, middle.uplinks + 1):
        cables = math.ceil(middle.uplinks / switches)  # from a middle switch to one of them
        even = cables * switches
        if below * even <= switches * ports:
            return Layer(switches, even)
    raise LayoutError(
        f"ports do not join {below} switches of {pods} pods in one layer",
        value=ports,
        key="fabric.spine_ports",
        remedy=f"Write spine_ports: {below} at least, or fewer nodes.",
    )

"""Collectives on tiny clusters: bytes on every kind of link in closed form, what goes out comes in, latencies."""

import numpy as np
import pytest

from simulator.collectives import Demand, exchange, send, unit
from simulator.errors import LayoutError
from simulator.experts import Routing
from simulator.hardware import CommunicationModel
from simulator.topology import TopologyConfig, network

PASSES = ("reduce_scatter", "all_gather")
NVLINK, LEAF, SPINE = 3.33e-6, 2.8e-6, 3.7e-6


def cluster(nodes=4, gpus=2, nics=None, ports=4, kind="rail_optimised", faults=()):
    """Return the links of a small cluster. With 4 ports a leaf holds two nodes: 0 and 1, 2 and 3."""
    return network(
        TopologyConfig(
            name="small",
            gpu="h800",
            nodes=nodes,
            node={
                "gpus": gpus,
                "nvlink": "400 GB/s bidirectional",
                "nics": nics or gpus,
                "nic": "50 GB/s per direction",
                "nvlink_latency": "3.33 us",
            },
            fabric={
                "kind": kind,
                "switch_ports": ports,
                "latency": "3.7 us",
                "leaf_latency": "2.8 us",
            },
            price="2 USD per GPU-hour",
            faults=list(faults),
        )
    )


def rings(net, members, op="all_gather"):
    """Return a pass over one byte as a step runs it unless its workload says otherwise."""
    return unit(net, "hierarchical_ring", op, members)


def on(demand, links):
    """Return the bytes of a demand on each of these links, a shared one once; zero where it names none."""
    table = dict(zip(demand.links.tolist(), demand.bytes.tolist(), strict=True))
    return [table.get(link, 0.0) for link in dict.fromkeys(links.tolist()) if link >= 0]


def totals(net, demand):
    """Return the bytes on all links of each sort: NVLink up, down, NIC up, down, leaf up, down."""
    sorts = (net.gpu_up, net.gpu_down, net.nic_up, net.nic_down, net.leaf_up, net.leaf_down)
    return [sum(on(demand, links)) for links in sorts]


def everywhere(nodes, gpus):
    """Return a routing in which every token goes to every GPU."""
    return Routing(nodes=float(nodes), gpus=float(nodes * gpus), ep_nodes=nodes, gpus_per_node=gpus)


# Sends


def test_a_send_crosses_its_route():
    net = cluster()
    for source in range(8):
        for target in range(8):
            assert send(net, source, target) == net.route(source, target)


def test_a_send_across_leaves_crosses_two_nics_and_two_bundles():
    net = cluster()
    links, latency = send(net, 1, 7)
    assert [net.name[link] for link in links] == [
        "nic0.1->leaf1.0",
        "leaf1.0->spines",
        "spines->leaf1.1",
        "leaf1.1->nic3.1",
    ]
    assert latency == pytest.approx(SPINE)


# Rings


def test_rings_over_four_nodes_of_two():
    # Inside a node: 1/2 of the buffer over NVLink, each way. Then each GPU's half goes round 4
    # nodes: 3/4 x 1/2 over its NIC. Of the hops 0 -> 1 -> 2 -> 3 -> 0 on each rail, 1 -> 2 and 3 ->
    # 0 change the leaf.
    net = cluster()
    demand = rings(net, range(8))
    assert on(demand, net.gpu_up) == on(demand, net.gpu_down) == [0.5] * 8
    assert on(demand, net.nic_up) == on(demand, net.nic_down) == [0.375] * 8
    assert on(demand, net.leaf_up) == on(demand, net.leaf_down) == [0.375] * 4
    assert demand.latency == pytest.approx(1 * NVLINK + 3 * SPINE)


def test_a_ring_of_one_gpu_per_node_uses_its_rail_only():
    # 3/4 of the buffer over the NICs of rail 0.
    net = cluster()
    demand = rings(net, [0, 2, 4, 6])
    assert on(demand, net.nic_up) == on(demand, net.nic_down) == [0.75, 0.0] * 4
    assert totals(net, demand)[:2] == [0, 0]
    assert on(demand, net.leaf_up) == on(demand, net.leaf_down) == [0.75, 0.0] * 2
    assert demand.latency == pytest.approx(3 * SPINE)


def test_a_ring_within_a_leaf_leaves_the_spines_alone():
    net = cluster()
    demand = rings(net, [0, 2])
    assert on(demand, net.nic_up) == [0.5, 0, 0.5, 0, 0, 0, 0, 0]
    assert totals(net, demand)[4:] == [0, 0]
    assert demand.latency == pytest.approx(LEAF)


def test_a_ring_within_a_node_uses_nvlink_only():
    # 4 GPUs: 3/4 of the buffer in 3 rounds.
    net = cluster(nodes=1, gpus=4, ports=8)
    demand = rings(net, range(4))
    assert on(demand, net.gpu_up) == on(demand, net.gpu_down) == [0.75] * 4
    assert totals(net, demand)[2:] == [0, 0, 0, 0]
    assert demand.latency == pytest.approx(3 * NVLINK)


@pytest.mark.parametrize("op", PASSES)
@pytest.mark.parametrize(
    ("nodes", "gpus"), [(1, 2), (1, 8), (2, 1), (2, 4), (3, 2), (5, 4), (8, 8)]
)
def test_every_collective_sends_all_but_the_own_part_of_the_buffer(op, nodes, gpus):
    # A reduce-scatter or all-gather over g GPUs of n nodes: (g-1)/g over NVLink and (n-1)/n/g over
    # the NIC; together 1 - 1/(n g), which is what any of them must at least send and receive.
    net = cluster(nodes, gpus, ports=32)
    demand = rings(net, range(nodes * gpus), op)
    nvlink, nic = (gpus - 1) / gpus, (nodes - 1) / nodes / gpus
    each = (net.gpu_up, nvlink), (net.gpu_down, nvlink), (net.nic_up, nic), (net.nic_down, nic)
    for links, share in each:
        assert on(demand, links) == pytest.approx([share] * nodes * gpus)
    assert nvlink + nic == pytest.approx(1 - 1 / (nodes * gpus))


def test_gpus_that_share_a_nic_add_up_on_it():
    # 4 GPUs on 2 NICs: twice 3/4 x 1/4.
    net = cluster(gpus=4, nics=2, ports=8)
    assert on(rings(net, range(16)), net.nic_up) == pytest.approx([2 * 3 / 16] * 8)


def test_a_group_that_lies_unevenly_on_its_nodes_is_refused():
    with pytest.raises(LayoutError) as caught:
        rings(cluster(), [0, 1, 2])
    assert str(caught.value) == "layout.pp: spreads a group of 3 GPUs unevenly over 2 nodes."


def test_the_order_of_the_members_does_not_matter():
    net = cluster()
    one, other = rings(net, [0, 1, 2, 3]), rings(net, [3, 1, 0, 2])
    assert one.links.tolist() == other.links.tolist()
    assert one.bytes.tolist() == other.bytes.tolist()


# Dispatch and combine


def test_an_exchange_over_four_nodes_of_two():
    # 3 of 4 nodes and 4 of 8 GPUs per token. NIC: 3 x 3/4 = 2.25 copies, the own node apart.
    # NVLink: 4 x 1/2 = 2, the GPU on the rail apart. Leaf: 2 GPUs x 2.25 copies to 3 other nodes, 2
    # of which are behind the spines = 3.
    net = cluster()
    demand = exchange(net, range(8), Routing(nodes=3.0, gpus=4.0, ep_nodes=4, gpus_per_node=2))
    assert on(demand, net.gpu_up) == on(demand, net.gpu_down) == [2.0] * 8
    assert on(demand, net.nic_up) == on(demand, net.nic_down) == [2.25] * 8
    assert on(demand, net.leaf_up) == on(demand, net.leaf_down) == pytest.approx([3.0] * 4)
    assert demand.latency == pytest.approx(NVLINK + SPINE)


def test_an_exchange_on_a_part_of_the_cluster_touches_no_other_links():
    # Nodes 1 and 2 stand on different leaves: both nodes' copies all cross the spines.
    net = cluster()
    demand = exchange(net, [2, 3, 4, 5], everywhere(2, 2))
    assert on(demand, net.nic_up) == on(demand, net.nic_down) == [0, 0, 1, 1, 1, 1, 0, 0]
    assert on(demand, net.leaf_up) == on(demand, net.leaf_down) == [1.0] * 4
    assert on(demand, net.gpu_up) == [0, 0, 2, 2, 2, 2, 0, 0]


def test_an_exchange_within_a_leaf_leaves_the_spines_alone():
    net = cluster()
    demand = exchange(net, [0, 1, 2, 3], everywhere(2, 2))
    assert totals(net, demand) == [8, 8, 4, 4, 0, 0]
    assert demand.latency == pytest.approx(NVLINK + LEAF)


def test_an_exchange_within_a_node_uses_nvlink_only():
    net = cluster(nodes=1, gpus=4, kind="single_node")
    demand = exchange(net, range(4), everywhere(1, 4))
    assert on(demand, net.gpu_up) == on(demand, net.gpu_down) == [3.0] * 4
    assert len(demand.links) == 8
    assert demand.latency == pytest.approx(NVLINK)


@pytest.mark.parametrize(("nodes", "gpus"), [(2, 1), (2, 4), (3, 2), (4, 4), (7, 2), (8, 8)])
@pytest.mark.parametrize("ports", [16, 32])
def test_an_exchange_to_everybody_is_counted_pair_by_pair(nodes, gpus, ports):
    # Oracle: each GPU sends a copy to the GPU of its rail on every other node, by the route that
    # the cluster gives, which hands one to each neighbour, as does the source in its own node.
    net = cluster(nodes, gpus, ports=ports)
    count = np.zeros(len(net.name))
    ranks = range(nodes * gpus)
    for source in ranks:
        for node in range(nodes):
            rail = node * gpus + source % gpus
            neighbours = [rank for rank in ranks if rank // gpus == node and rank != rail]
            for link in (
                *net.route(source, rail)[0],
                *(link for n in neighbours for link in net.route(rail, n)[0]),
            ):
                count[link] += 1
    demand = exchange(net, ranks, everywhere(nodes, gpus))
    assert on(demand, np.arange(len(net.name))) == pytest.approx(count.tolist())


def test_an_exchange_with_shared_nics_crosses_the_spines_as_often():
    # 4 nodes of 4 GPUs on 2 NICs: 4 GPUs on a leaf, each with 3 copies, 2 of 3 other nodes behind
    # the spines: 8.
    net = cluster(gpus=4, nics=2)
    demand = exchange(net, range(16), everywhere(4, 4))
    assert on(demand, net.leaf_up) == pytest.approx([8.0] * 4)


# Laws

DEMANDS = {
    "rings": rings,
    "exchange": lambda net, members: exchange(net, members, everywhere(len(members) // 2, 2)),
}
every_demand = pytest.mark.parametrize("name", DEMANDS)


@every_demand
@pytest.mark.parametrize(
    "members", [range(2), range(2, 6), range(4, 8), range(8), range(16), range(4, 14)]
)
def test_what_goes_out_comes_in(name, members):
    net = cluster(nodes=8, ports=8)
    up_gpu, down_gpu, up_nic, down_nic, up_leaf, down_leaf = totals(
        net, DEMANDS[name](net, members)
    )
    assert up_gpu == pytest.approx(down_gpu)
    assert up_nic == pytest.approx(down_nic)
    assert up_leaf == pytest.approx(down_leaf)
    assert up_leaf <= up_nic


@every_demand
def test_a_demand_names_each_link_once_and_only_those_with_bytes(name):
    demand = DEMANDS[name](cluster(), range(8))
    assert len(set(demand.links.tolist())) == len(demand.links) == len(demand.bytes)
    assert demand.links.min() >= 0
    assert demand.bytes.min() > 0


@pytest.mark.parametrize(
    "demand", [rings(cluster(), [3]), exchange(cluster(), [3], everywhere(1, 1))]
)
def test_one_gpu_alone_asks_for_nothing(demand):
    assert (demand.links.tolist(), demand.bytes.tolist(), demand.latency) == ([], [], 0.0)


def test_a_scaled_demand_has_as_many_times_the_bytes_and_the_same_latency():
    demand = rings(cluster(), range(8))
    scaled = demand.scaled(4e9)
    assert scaled.bytes.tolist() == pytest.approx((demand.bytes * 4e9).tolist())
    assert (scaled.links.tolist(), scaled.latency) == (demand.links.tolist(), demand.latency)


def test_a_link_is_busy_for_its_bytes_over_the_share_that_the_kernel_reaches():
    # 0.5 of NVLink and 0.8 of everything else; the bundles to the spines count with the NICs.
    net = cluster()
    demand = Demand(
        np.array([net.gpu_up[0], net.nic_up[0], net.leaf_up[0]]), np.array([1.0, 2.0, 4.0]), 0.0
    )
    kernel = CommunicationModel(nic=0.8, nvlink=0.5, source="made up")
    assert demand.occupied(net, kernel).tolist() == [2.0, 2.5, 5.0]


@pytest.mark.parametrize(
    "faults", [[], [{"nic": [1, 0], "down": True}], [{"nic": [0, 1], "down": True}]]
)
def test_an_exchange_takes_the_ways_that_there_are(faults):
    # One copy over NICs, none forwarded: each GPU's copy spreads over its peers on the 3 other
    # nodes, on every link of the way, the detour over a neighbour's NIC included.
    net = cluster(faults=faults)
    only = Routing(nodes=4 / 3, gpus=0.0, ep_nodes=4, gpus_per_node=2)
    asked = exchange(net, range(8), only)
    due: dict[int, float] = {}
    for source in range(8):
        for target in range(source % 2, 8, 2):
            for link in net.route(source, target)[0] if source // 2 != target // 2 else ():
                due[link] = due.get(link, 0.0) + only.over_nic / 3
    assert dict(zip(asked.links.tolist(), asked.bytes.tolist(), strict=True)) == pytest.approx(due)

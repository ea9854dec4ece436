"""Laws over all families of fabrics, and each family's own shape against published counts."""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
from fabrics import cluster, ring

from simulator.collectives.paths import all_pairs, ways
from simulator.errors import InputError, LayoutError
from simulator.inputs import find, read, shipped, validate
from simulator.topology import FABRICS, TopologyConfig, as_graph, describe, network, wired
from simulator.topology.bisection import halves
from simulator.topology.cluster import ROUTINGS
from simulator.topology.families import dragonfly, slim_fly

SMALL = {
    "rail_optimised": [{}, {"nodes": 4, "gpus": 4, "nics": 2, "ports": 4}],
    "single_node": [{"nodes": 1, "gpus": 8}],
    "nvl72": [
        {"nodes": 1, "gpus": 72},
        {"nodes": 2, "gpus": 72, "nics": 8, "ports": 8, "rails": 2},
        {"nodes": 3, "gpus": 8, "nics": 8, "ports": 8},
    ],
    "fat_tree_2": [{}, {"nodes": 3, "ports": 4}],
    "multi_plane": [{}, {"gpus": 4, "planes": 2, "ports": 4}],
    "multi_rail": [{}, {"nodes": 3, "ports": 4}],
    "fat_tree_3": [{"nodes": 8, "ports": 4}, {"nodes": 5, "ports": 4}, {"nodes": 2, "ports": 4}],
    "clos_3": [
        {"pod_gpus": 8, "leaf_gpus": 4, "oversubscription": [1, 2], "nodes": 8},
        {"pod_gpus": 8, "leaf_gpus": 4, "oversubscription": [2, 4], "nodes": 8},
        {"pod_gpus": 8, "oversubscription": [1, 7], "nodes": 7},
    ],
    "dragonfly": [
        {"group_routers": 2, "nodes": 3},
        {"group_routers": 4, "global_ports": 1, "router_nics": 2, "nodes": 14},
        {"group_routers": 3, "global_ports": 1, "router_nics": 1, "nodes": 6},
    ],
    "slim_fly": [{"q": 3, "nodes": 18}, {"q": 4, "nodes": 32, "ports": 10}],
    "torus_3d": [{"dims": [2, 2, 1]}, {"dims": [4, 2, 3], "nodes": 24}, {"dims": [1, 1, 1]}],
    "custom": [{}],
}
"""family -> changes to `cluster` that make small ones"""

CASES = [(kind, number) for kind, several in SMALL.items() for number in range(len(several))]


@pytest.fixture
def small(tmp_path):
    """Return a function that builds a small cluster of the table, with some keys replaced."""

    def build(kind, number=0, **changes):
        extra = {"file": str(ring(tmp_path))} if kind == "custom" else {}
        return cluster(kind, **{**SMALL[kind][number], **extra, **changes})

    return build


def routed(kind):
    return [
        routing
        for routing in ROUTINGS
        if routing != "rail_local" or FABRICS[kind].routing == "rail_local"
    ]


# Laws over all families


def test_every_family_has_small_clusters_here():
    assert list(SMALL) == list(FABRICS)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_every_link_goes_both_ways_alike_and_every_gpu_is_reached(small, kind, number):
    config = small(kind, number)
    graph = as_graph(config)
    assert all(graph.edges[end, start] == edge for start, end, edge in graph.edges(data=True))
    assert all(
        edge["bandwidth"] > 0 and edge["latency"] >= 0 for _, _, edge in graph.edges(data=True)
    )
    assert {edge["kind"] for _, _, edge in graph.edges(data=True)} <= {
        "nvlink",
        "pcie",
        "nic",
        "fabric",
    }
    assert sum(vertex[0] == "gpu" for vertex in graph) == config.gpus
    assert nx.is_strongly_connected(graph)


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_networks_that_differ_in_bandwidths_alone_share_their_ways_at_most(small, kind, number):
    for routing in routed(kind):
        first, slower = (
            network(small(kind, number, routing=routing, nic=rate)) for rate in (50, 20)
        )
        wired(first)
        pairs = all_pairs(range(len(first.gpu_up)))
        own, shared = ways(slower, *pairs), ways(wired(slower), *pairs)
        for mine, theirs in ((own.pair, shared.pair), (own.link, shared.link)):
            assert mine.tolist() == theirs.tolist()
        assert own.share.tolist() == shared.share.tolist()


def test_a_sweep_over_a_link_shares_its_wiring_and_one_over_a_latency_does_not(small):
    rates = [network(small("fat_tree_2", nic=rate)) for rate in (50, 20)]
    assert wired(rates[1]) is wired(rates[0])
    farther = network(small("fat_tree_2", latency="9 us"))
    assert wired(farther) is farther
    # Over hashed single cables, and where traffic divides by bandwidth, nothing is shared.
    for changes in ({"kind": "fat_tree_2", "routing": "ecmp"}, {"kind": "torus_3d", "number": 1}):
        nets = [network(small(**changes, nic=rate)) for rate in (50, 20)]
        assert [wired(net) for net in nets] == nets


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_no_switch_has_more_cables_than_ports(small, kind, number):
    config = small(kind, number)
    switches = FABRICS[kind].build(config)
    ports = config.fabric.spine_ports or config.fabric.switch_ports
    for switch in switches.graph:
        used = sum(edge["cables"] for _, _, edge in switches.graph.edges(switch, data=True))
        assert used + switches.home.count(switch) <= ports


@pytest.mark.parametrize(
    ("kind", "number", "routing"), [(*case, r) for case in CASES for r in routed(case[0])]
)
def test_every_route_is_contiguous_and_its_latency_the_sum(small, kind, number, routing):
    # Between the last NVSwitch or NIC and the next lies PCIe, which is no link: only there a name
    # may change.
    config = small(kind, number, routing=routing)
    net = network(config)
    per_node = config.node.gpus
    targets = range(0, config.gpus, max(1, config.gpus // 48))
    for src, dst in itertools.product(range(min(net.gpus_per_node, 4)), targets):
        links, latency = net.route(src, dst)
        assert latency == pytest.approx(float(net.latency[list(links)].sum()))
        assert len(set(links)) == len(links)
        at = f"gpu{src // per_node}.{src % per_node}"
        for link in links:
            start, end = net.name[link].split("#")[0].split("->")
            # PCIe leads from a GPU to its NIC and back.
            assert start == at or {start[:3], at[:3]} == {"gpu", "nic"}
            at = end
        share = per_node // config.node.nics
        place = (dst // per_node, dst % per_node)
        assert at in (f"gpu{place[0]}.{place[1]}", f"nic{place[0]}.{place[1] // share}")


@pytest.mark.parametrize(
    ("kind", "number", "routing"), [(*case, r) for case in CASES for r in routed(case[0])]
)
def test_the_shares_of_a_spread_are_conserved(small, kind, number, routing):
    config = small(kind, number, routing=routing)
    net = network(config)
    for dst in range(1, config.gpus, max(1, config.gpus // 12)):
        shares, latency = net.spread(0, dst)
        links, route_latency = net.route(0, dst)
        assert latency == route_latency
        assert set(links) <= set(shares)
        assert sum(shares.values()) == pytest.approx(len(links))  # all ways are equally long


@pytest.mark.parametrize(("kind", "number"), CASES)
@pytest.mark.slow
def test_every_diameter_is_that_of_the_graph(small, kind, number):
    # Oracle: breadth-first search of networkx between the switches that hold NICs, in each part of
    # the fabric.
    config = small(kind, number)
    switches = FABRICS[kind].build(config)
    hops = dict(nx.all_pairs_shortest_path_length(switches.graph))
    homes = set(switches.home)
    expected = max((hops[a][b] for a in homes for b in homes if b in hops[a]), default=0)
    assert describe(config)["diameter_switch_hops"] == expected


@pytest.mark.parametrize(
    ("kind", "number"),
    [case for case in CASES if case[0] not in ("single_node", "custom", "nvl72")],
)
@pytest.mark.slow
def test_the_closed_form_of_the_bisection_is_the_smallest_maximum_flow_between_halves(
    small, kind, number
):
    # Every split of the nodes into halves, where there are few; a thousand random ones and those
    # that a family's derivation names (whole pods, groups, planes of a torus: runs of nodes) where
    # there are many.
    config = small(kind, number)
    figures = describe(config)
    net = network(config)
    half = config.nodes // 2
    if math.comb(config.nodes, half) <= 1000:
        splits = [frozenset(split) for split in itertools.combinations(range(config.nodes), half)]
    else:
        order = np.random.default_rng(0)
        splits = [frozenset(order.permutation(config.nodes)[:half].tolist()) for _ in range(100)]
        splits += [
            frozenset((start + k) % config.nodes for k in range(half))
            for start in range(config.nodes)
        ]
    least = min(halves(net, split) for split in splits)
    if figures["bisection_note"] == "closed form" and config.nodes % 2 == 0:
        assert figures["bisection_bandwidth"] == pytest.approx(least)
    else:
        assert figures["bisection_note"] != "closed form" or config.nodes % 2


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped("topologies"))
def test_every_shipped_topology_is_valid_and_reaches_its_last_gpu(name):
    config = validate(read(find(name, "topologies")), TopologyConfig)
    assert config.node.gpus in {4, 8, 64, 72}  # a board, a part of an NVL72, a whole one
    assert network(config).route(0, config.gpus - 1)[1] > 0


# Published counts


@pytest.mark.parametrize(
    ("kind", "nodes", "endpoints", "switches", "links"),
    [
        # arXiv 2505.09343, table 3; all of 64-port switches, 8 NICs on a node.
        ("fat_tree_2", 256, 2048, 96, 2048),
        ("rail_optimised", 256, 2048, 96, 2048),
        ("multi_plane", 2048, 16384, 768, 16384),
        ("fat_tree_3", 8192, 65536, 5120, 131072),
    ],
)
@pytest.mark.slow
def test_the_counts_are_those_of_deepseeks_table(kind, nodes, endpoints, switches, links):
    built = FABRICS[kind].build(cluster(kind, nodes=nodes, gpus=8, ports=64))
    assert (len(built.home), len(built.graph), built.cables) == (endpoints, switches, links)


def test_slim_fly_and_dragonfly_count_as_in_deepseeks_table():
    # The same table. There is no field of 28 elements and no dragonfly of 511 groups with one cable
    # for each pair: the paper's rows are formulas.
    assert slim_fly.slim_fly_counts(28, 21) == (32928, 1568, 32928)
    assert dragonfly.dragonfly_counts(32, 16, 16, 511) == (261632, 16352, 384272)


@pytest.mark.parametrize("q", [3, 4, 5, 7, 8, 9, 11, 13])
@pytest.mark.slow
def test_a_slim_fly_is_regular_of_diameter_two_and_has_the_eigenvalue_gap_q(q):
    # Besta and Hoefler, SC 2014; the gap k - lambda_2 = q is what the bisection's closed form rests
    # on.
    p = -(-slim_fly.network_degree(q) // 2)
    built = FABRICS["slim_fly"].build(
        cluster("slim_fly", q=q, nodes=2 * q * q * p, gpus=1, ports=64)
    )
    assert (len(built.home), len(built.graph), built.cables) == slim_fly.slim_fly_counts(q, p)
    assert {degree for _, degree in built.graph.degree} == {slim_fly.network_degree(q)}
    assert nx.diameter(built.graph) == 2
    eigenvalues = np.sort(np.linalg.eigvalsh(nx.to_numpy_array(built.graph, weight=None)))
    assert eigenvalues[-1] - eigenvalues[-2] == pytest.approx(q)


def test_the_bisection_of_a_slim_fly_is_that_of_half_its_columns():
    # q = 4: half the columns of either kind on each side cut q^3 / 2 = 32 cables; 3 NICs on each of
    # 32 routers.
    config = cluster("slim_fly", q=4, nodes=96, gpus=1, ports=10)
    net = network(config)
    columns = frozenset(n for n in range(96) if n // 3 // 4 % 4 < 2)
    assert describe(config)["bisection_note"] == "closed form"
    assert describe(config)["bisection_bandwidth"] == halves(net, columns) == 32 * 50e9


@pytest.mark.parametrize("q", [2, 6, 12, 15])
def test_a_slim_fly_of_no_prime_power_is_refused(q):
    with pytest.raises(LayoutError, match=r"fabric.q: \d+ is (not a prime power|not 4 w)"):
        network(cluster("slim_fly", q=q, nodes=4))


@pytest.mark.parametrize(
    ("a", "h", "p", "groups"),
    [(4, 2, 2, 9), (4, 2, 2, 5), (4, 1, 1, 4), (6, 3, 3, 10), (2, 1, 1, 2)],
)
def test_a_dragonfly_counts_as_its_formula_and_joins_all_groups(a, h, p, groups):
    built = FABRICS["dragonfly"].build(
        cluster(
            "dragonfly",
            nodes=a * p * groups,
            gpus=1,
            ports=32,
            group_routers=a,
            global_ports=h,
            router_nics=p,
        )
    )
    assert (len(built.home), len(built.graph), built.cables) == dragonfly.dragonfly_counts(
        a, h, p, groups
    )
    joined = {
        frozenset((one[1], other[1])) for one, other in built.graph.edges if one[1] != other[1]
    }
    assert len(joined) == math.comb(groups, 2)
    assert nx.diameter(built.graph) <= 3


@pytest.mark.slow
def test_llamas_pods_have_full_bisection_and_leave_with_a_seventh():
    # arXiv 2407.21783, section 3.3.1: racks of 16 GPUs, pods of 3,072, 1:7 above. A pod's NICs:
    # 3,072 x 50 GB/s.
    net = network(validate(read(find("h100-16384", "topologies")), TopologyConfig))
    leaf, pod = 16 * 50e9, 3072 * 50e9 / 7
    assert set(net.capacity[net.leaf_up].tolist()) == {leaf}
    up = [
        link
        for link, name in enumerate(net.name)
        if name.startswith("mids") and name.endswith("->cores")
    ]
    assert net.capacity[up] == pytest.approx([pod] * 6)
    path = [net.name[link] for link in net.route(0, 16383)[0]]
    assert path == [
        "nic0.0->leaf0.0",
        "leaf0.0->mids0",
        "mids0->cores",
        "cores->mids5",
        "mids5->leaf5.63",
        "leaf5.63->nic2047.7",
    ]


# Single families


def test_planes_meet_over_nvlink_only():
    net = network(cluster("multi_plane", nodes=8, gpus=4, ports=4))
    for routing in ROUTINGS:
        net = network(cluster("multi_plane", nodes=8, gpus=4, ports=4, routing=routing))
        names = [net.name[link].split("#")[0] for link in net.route(0, 29)[0]]
        assert names[:2] == ["gpu0.0->nvswitch0", "nvswitch0->gpu0.1"]
        assert names[2] == "nic0.1->leaf1.0"
        assert names[-1] == "leaf1.3->nic7.1"
    assert (
        nx.number_connected_components(FABRICS["multi_plane"].build(cluster("multi_plane")).graph)
        == 2
    )


def test_rails_of_a_multi_rail_tree_meet_at_the_spines_and_those_of_a_rail_optimised_one_in_the_node():
    across, inside = (
        network(cluster(kind)).route(0, 3) for kind in ("multi_rail", "rail_optimised")
    )
    assert [network(cluster("multi_rail")).name[link] for link in across[0]] == [
        "nic0.0->leaf0.0",
        "leaf0.0->spines",
        "spines->leaf1.0",
        "leaf1.0->nic1.1",
    ]
    assert len(inside[0]) == 4
    assert across[1] == pytest.approx(3.7e-6)
    assert inside[1] == pytest.approx(3.33e-6 + 2.8e-6)


def test_a_rack_of_72_meets_at_its_nvswitch_and_racks_on_rails():
    one, two = cluster("nvl72", nodes=1, gpus=72), cluster("nvl72", nodes=2, gpus=72, ports=64)
    assert describe(one)["switches"] == 0
    assert len(network(one).route(0, 71)[0]) == 2
    # 144 NICs on 4 rails of 36: two leaves of 32 each.
    assert describe(two)["switches_by_layer"] == {"leaf": 8, "spine": 4}
    for gpus in (6, 76):
        with pytest.raises(LayoutError, match="are not trays of an NVL72 rack"):
            network(cluster("nvl72", gpus=gpus, nics=2))


def test_a_part_of_a_rack_keeps_its_nvswitch_and_its_rails():
    # 64 of 72 GPUs in each of 4 racks: 4 rails of 64 NICs, two leaves of 32 each, half as many spines.
    part = cluster("nvl72", nodes=4, gpus=64, ports=64)
    assert describe(part)["switches_by_layer"] == {"leaf": 8, "spine": 4}
    net = network(part)
    assert net.gpus_per_node == 64
    assert [net.kind[link] for link in net.route(0, 63)[0]] == ["nvlink", "nvlink"]
    # GPU 5 is on rail 1, as GPU 64 + 9 is: they meet without NVLink.
    assert set(net.kind[link] for link in net.route(5, 64 + 5)[0]) == {"nic"}
    # A tray of 4 alone has no fabric.
    assert describe(cluster("nvl72", nodes=1, gpus=4, nics=4))["switches"] == 0


def test_across_pods_a_three_layer_tree_takes_four_cables():
    # Within a pod leaf - agg - leaf, 0.9 us beyond 2.8 us; across, two more cables of 0.45 us.
    net = network(cluster("fat_tree_3", nodes=8, ports=4))
    assert net.route(0, 2)[1] == pytest.approx(3.7e-6)
    assert net.route(0, 15)[1] == pytest.approx(4.6e-6)


def test_a_torus_is_as_wide_as_half_its_rings_together():
    assert (
        describe(cluster("torus_3d", dims=[4, 4, 4], nodes=64, gpus=1, ports=8))[
            "diameter_switch_hops"
        ]
        == 6
    )


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            "torus_3d",
            {},
            "mine.yaml: fabric.dims: is missing, which torus_3d needs. Add 'dims:' there.",
        ),
        (
            "fat_tree_2",
            {"planes": 2},
            (
                "mine.yaml: fabric.planes: 'planes' is a key of multi_plane, not of fat_tree_2. "
                "Leave it out: --set fabric.planes=null removes it. Keys of fat_tree_2: none of its own."
            ),
        ),
        (
            "torus_3d",
            {"dims": [2, 2]},
            (
                "mine.yaml: fabric.dims: [2, 2] are not three numbers of switches. Write for example [4, 4, 4]."
            ),
        ),
        (
            "torus_3d",
            {"dims": [2, 2, 2], "ports": 6},
            (
                "fabric.switch_ports: 6 ports do not take the 8 cables of a switch: 2 NICs and 6 cables to neighbours. "
                "Write switch_ports: 8 at least."
            ),
        ),
        (
            "fat_tree_3",
            {"ports": 4, "nodes": 9},
            (
                "nodes: 9 nodes of 2 NICs do not fit: a three-layer fat tree of 4 ports holds 16 NICs. "
                "Write nodes: 8 at most, or a larger fabric."
            ),
        ),
        (
            "multi_plane",
            {"planes": 3, "gpus": 4},
            (
                "fabric.planes: 3 planes do not share the 4 NICs of a node evenly. Choose from: 1, 2, 4."
            ),
        ),
        (
            "clos_3",
            {"pod_gpus": 6, "leaf_gpus": 4, "oversubscription": [1, 7]},
            (
                "fabric.pod_gpus: 6 GPUs do not make whole leaves of 4 GPUs and whole nodes of 2. Write a multiple of 4."
            ),
        ),
        (
            "clos_3",
            {"pod_gpus": 8, "oversubscription": [7]},
            (
                "mine.yaml: fabric.oversubscription: [7.0] is not one ratio of at least 1 for the leaf and one for the "
                "pod. Write for example [1, 7]."
            ),
        ),
        (
            "dragonfly",
            {"group_routers": 2, "groups": 4},
            (
                "fabric.groups: 4 groups are more than a h + 1 = 3, so that some pair has no cable. "
                "Raise fabric.group_routers or fabric.global_ports, or take fewer nodes."
            ),
        ),
        (
            "fat_tree_2",
            {"seed": 3},
            (
                "mine.yaml: fabric.seed: 3 is a seed that nothing hashes with. Write routing: ecmp, or leave it out: --set fabric.seed=null removes it."
            ),
        ),
        (
            "fat_tree_2",
            {"routing": "random"},
            (
                "mine.yaml: fabric.routing: 'random' is not a known routing. "
                "Choose from: adaptive, ecmp, shortest, rail_local."
            ),
        ),
    ],
)
def test_a_wrong_fabric_is_told_key_value_rule_and_remedy(kind, changes, message):
    with pytest.raises(InputError) as caught:
        network(cluster(kind, **changes))
    assert str(caught.value) == message

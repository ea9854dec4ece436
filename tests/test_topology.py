"""The cluster graph against published counts, routes and latencies as literals, and what a wrong file is told."""

import copy
import math
import pickle
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest

from simulator.errors import InputError, LayoutError
from simulator.inputs import Document, find, read, validate
from simulator.topology import (
    FABRICS,
    Network,
    TopologyConfig,
    as_graph,
    describe,
    network,
)

SMALL = {
    "name": "small",
    "gpu": "h800",
    "nodes": 3,
    "node": {
        "gpus": 4,
        "nvlink": "400 GB/s bidirectional",
        "nics": 4,
        "nic": "50 GB/s per direction",
    },
    "fabric": {
        "kind": "rail_optimised",
        "switch_ports": 4,
        "latency": "3.7 us",
        "leaf_latency": "2.8 us",
    },
    "price": "2 USD per GPU-hour",
}


def config(**changes: object) -> TopologyConfig:
    """Return a small cluster with some keys replaced: `nodes=4`, `node__nics=2`."""
    tree = copy.deepcopy(SMALL)
    for path, value in changes.items():
        group, _, key = path.rpartition("__")
        (tree[group] if group else tree)[key] = value
    return validate(Document("mine.yaml", tree, {}), TopologyConfig)


def two_leaves(**changes: object) -> TopologyConfig:
    # 2 rails x ceil(3 / 2) leaves of 4 ports: nodes 0 and 1 share a leaf, node 2 is behind the
    # spines.
    return config(node__gpus=2, node__nics=2, **changes)


def shipped(name: str) -> TopologyConfig:
    return validate(read(find(name, "topologies")), TopologyConfig)


def names(net: Network, src: int, dst: int) -> list[str]:
    return [net.name[link] for link in net.route(src, dst)[0]]


def refusal(**changes: object) -> str:
    with pytest.raises(InputError) as caught:
        network(config(**changes))
    return str(caught.value)


# What exists


def test_deepseeks_2048_endpoints_take_96_switches_and_2048_cables():
    # arXiv 2505.09343, table 3, FT2: 8 rails x 256/32 = 64 leaves; 64 x 32 uplinks / 64 ports = 32
    # spines. Bisection: 1024 NICs send at 50 GB/s.
    counts = describe(shipped("h800-2048"))
    assert {
        key: counts[key]
        for key in ("name", "gpus", "switches", "links", "bisection_bandwidth", "cost_usd")
    } == {
        "name": "h800-2048",
        "gpus": 2048,
        "switches": 96,
        "links": 2048,
        "bisection_bandwidth": 51.2e12,
        "cost_usd": None,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "ports", "leaves", "spines", "cables"),
    [
        # NVIDIA DGX SuperPOD B200 reference architecture, table of component counts: 32 nodes per
        # scalable unit.
        (64, 64, 16, 8, 512),
        (128, 64, 32, 16, 1024),
        (256, 64, 64, 32, 2048),
        # The same for B300 XDR, table 3: 72 nodes per unit. 32 leaves have 18 spines: 16 do not
        # divide 72.
        (72, 144, 8, 4, 576),
        (144, 144, 16, 8, 1152),
        (288, 144, 32, 18, 2304),
        (576, 144, 64, 36, 4608),
        (1296, 144, 144, 72, 10368),
    ],
)
def test_switches_and_cables_are_those_of_nvidias_superpods(nodes, ports, leaves, spines, cables):
    counts = describe(config(nodes=nodes, node__gpus=8, node__nics=8, fabric__switch_ports=ports))
    assert (counts["switches"], counts["links"]) == (leaves + spines, cables)


@pytest.mark.parametrize("nodes", [1, 5, 33, 40, 97, 256])
def test_no_switch_has_more_cables_than_ports_and_every_leaf_has_the_same_to_each_spine(nodes):
    graph = as_graph(config(nodes=nodes, node__gpus=8, node__nics=8, fabric__switch_ports=64))
    for switch in [vertex for vertex in graph if vertex[0] in ("leaf", "spine")]:
        edges = [edge for _, _, edge in graph.out_edges(switch, data=True)]
        assert sum(edge.get("cables", 1) for edge in edges) <= 64
        assert len({edge["cables"] for edge in edges if edge["kind"] == "fabric"}) <= 1


def test_the_bundle_to_the_spines_carries_the_whole_leaf_both_ways():
    # 4 leaves of 2 uplinks of 50 GB/s; 2 spines, one cable to each.
    net = network(two_leaves())
    bundles = [link for link, kind in enumerate(net.kind) if kind == "fabric"]
    assert len(bundles) == 8
    assert net.capacity[bundles].tolist() == [100e9] * 8
    assert net.latency[bundles] == pytest.approx([0.45e-6] * 8)


def test_a_lone_leaf_needs_no_spine():
    one_leaf = config(nodes=2, node__nics=1)
    assert describe(one_leaf)["switches"] == 1
    assert describe(one_leaf)["links"] == 0
    assert network(one_leaf).leaf_up.tolist() == [-1]


def test_links_have_one_directions_bandwidth_and_pcie_is_none_of_them():
    # 12 GPUs and 12 NICs, each with a link either way; 4 rails of one leaf (8 ports), each with a
    # bundle either way.
    net = network(config(fabric__switch_ports=8))
    assert [(kind, net.kind.count(kind)) for kind in ("nvlink", "nic", "fabric")] == [
        ("nvlink", 24),
        ("nic", 24),
        ("fabric", 8),
    ]
    assert net.capacity[net.gpu_up].tolist() == net.capacity[net.gpu_down].tolist() == [200e9] * 12
    assert net.capacity[net.nic_up].tolist() == net.capacity[net.nic_down].tolist() == [50e9] * 12
    assert np.isfinite(net.capacity).all()


# Routes


def test_within_a_node_the_route_is_nvlink():
    net = network(two_leaves())
    assert names(net, 2, 3) == ["gpu1.0->nvswitch1", "nvswitch1->gpu1.1"]
    assert net.route(2, 3)[1] == pytest.approx(3.33e-6)


def test_within_a_leaf_the_route_is_two_nic_links():
    net = network(two_leaves())
    assert names(net, 1, 3) == ["nic0.1->leaf1.0", "leaf1.0->nic1.1"]
    assert net.route(1, 3)[1] == pytest.approx(2.8e-6)


def test_across_leaves_of_a_rail_the_route_crosses_the_spines():
    net = network(two_leaves())
    assert names(net, 1, 5) == [
        "nic0.1->leaf1.0",
        "leaf1.0->spines",
        "spines->leaf1.1",
        "leaf1.1->nic2.1",
    ]
    assert net.route(1, 5)[1] == pytest.approx(3.7e-6)


def test_between_rails_the_route_first_goes_over_nvlink_to_the_destinations_rail():
    # NVLink 3.33 us, then one leaf 2.8 us.
    net = network(two_leaves())
    assert names(net, 0, 3) == [
        "gpu0.0->nvswitch0",
        "nvswitch0->gpu0.1",
        "nic0.1->leaf1.0",
        "leaf1.0->nic1.1",
    ]
    assert net.route(0, 3)[1] == pytest.approx(6.13e-6)


def test_the_way_to_oneself_is_empty():
    assert network(two_leaves()).route(3, 3) == ((), 0.0)


def test_neighbouring_gpus_share_a_nic():
    # 4 GPUs, 2 NICs: GPUs 0 and 1 on NIC 0, GPUs 2 and 3 on NIC 1. GPU 0 needs no NVLink to reach
    # GPU 1 of node 1.
    net = network(config(node__nics=2))
    assert [net.name[link] for link in net.nic_up[:4]] == ["nic0.0->leaf0.0"] * 2 + [
        "nic0.1->leaf1.0"
    ] * 2
    assert [net.name[link] for link in net.nic_down[4:8]] == ["leaf0.0->nic1.0"] * 2 + [
        "leaf1.0->nic1.1"
    ] * 2
    assert names(net, 0, 5) == ["nic0.0->leaf0.0", "leaf0.0->nic1.0"]
    assert names(net, 0, 7) == [
        "gpu0.0->nvswitch0",
        "nvswitch0->gpu0.3",
        "nic0.1->leaf1.0",
        "leaf1.0->nic1.1",
    ]


def test_every_route_has_the_latency_of_the_shortest_path_in_the_graph():
    cluster = two_leaves()
    net, graph = network(cluster), as_graph(cluster)
    nvlink = graph.edge_subgraph(
        [(a, b) for a, b, edge in graph.edges(data=True) if edge["kind"] == "nvlink"]
    )
    gpus = [("gpu", n, i) for n in range(3) for i in range(2)]
    for src, dst in [(src, dst) for src in range(6) for dst in range(6) if src != dst]:
        # Oracle: over NVLink inside a node; else on the leaves of the destination's rail, never by
        # NVLink over there.
        closed = [("nvswitch", dst // 2)] + [v for v in graph if v[0] == "leaf" and v[1] != dst % 2]
        cut = nvlink if src // 2 == dst // 2 else nx.restricted_view(graph, closed, [])
        shortest = nx.shortest_path_length(cut, gpus[src], gpus[dst], weight="latency")
        assert net.route(src, dst)[1] == pytest.approx(shortest)


def test_a_single_node_has_nvlink_only():
    # 4 GPUs x 2 directions; two GPUs send to the other two at 200 GB/s each.
    alone = config(fabric__kind="single_node", nodes=1)
    net = network(alone)
    assert net.kind == ("nvlink",) * 8
    assert net.nic_up.tolist() == net.nic_down.tolist() == net.leaf.tolist() == [-1] * 4
    assert names(net, 0, 3) == ["gpu0.0->nvswitch0", "nvswitch0->gpu0.3"]
    assert (describe(alone)["switches"], describe(alone)["links"]) == (0, 0)
    assert describe(alone)["bisection_bandwidth"] == 400e9


def test_a_route_to_a_rank_that_is_not_there_says_how_far_ranks_go():
    with pytest.raises(LayoutError) as caught:
        network(two_leaves()).route(0, 6)
    assert str(caught.value) == "6 is not a GPU of this cluster. Ranks go to 5."


# Files


def test_the_shipped_pair_differs_in_nvlink_and_price_only():
    h800, h100 = shipped("h800-2048"), shipped("h100-2048")
    assert (h800.node.nvlink, h100.node.nvlink) == (200e9, 450e9)
    assert (h800.price, h100.price) == (2.0, 2.33)
    assert h800.gpus == h100.gpus == 2048
    assert h800.fabric == h100.fabric
    assert h800.node.model_copy(update={"nvlink": 450e9}) == h100.node


def test_latency_within_a_leaf_is_that_across_leaves_unless_said():
    tree = copy.deepcopy(SMALL)
    del tree["fabric"]["leaf_latency"]
    assert TopologyConfig(**tree).fabric.leaf_latency == 3.7e-6


def test_nvlink_latency_is_deepseeks_unless_said():
    assert config().node.nvlink_latency == pytest.approx(3.33e-6)
    assert config(node__nvlink_latency="1 us").node.nvlink_latency == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fabric__kind": "torus"},
            f"mine.yaml: fabric.kind: 'torus' is not a known kind of fabric. Choose from: {', '.join(FABRICS)}.",
        ),
        (
            {"node__nics": 3},
            "mine.yaml: node.nics: 3 NICs cannot be shared evenly by 4 GPUs. Choose from: 1, 2, 4.",
        ),
        (
            {"fabric__switch_ports": 7},
            "mine.yaml: fabric.switch_ports: 7 ports cannot be halved into down and up. Write 6 or 8.",
        ),
        (
            {"fabric__leaf_latency": "4 us"},
            (
                "mine.yaml: fabric.leaf_latency: '4 us' within a leaf exceeds the latency across leaves, 3.7 us. "
                "Write at most fabric.latency, or leave leaf_latency out."
            ),
        ),
        (
            {"node__nvlink": 400},
            (
                "mine.yaml: node.nvlink: '400' has no unit. "
                "Write '400 GB/s bidirectional' (as datasheets do) or '200 GB/s per direction'."
            ),
        ),
        (
            {"fabric__kind": "single_node"},
            (
                "nodes: 3 nodes do not fit fabric.kind single_node, which connects none. "
                "Write nodes: 1, or fabric.kind: rail_optimised."
            ),
        ),
        (
            # 4 rails x ceil(3 / 2) leaves; 8 leaves x 2 uplinks / 4 ports = 4 spines. With 6 ports
            # 4 leaves suffice.
            {"fabric__switch_ports": 4},
            (
                "fabric.switch_ports: 4 ports do not hold 3 nodes in two layers: 8 leaves need 4 spines, and a leaf "
                "has 2 uplinks, at least one of which must go to each spine. Write switch_ports: 6, or nodes: 2 at "
                "most."
            ),
        ),
    ],
)
def test_a_wrong_file_is_told_value_rule_and_remedy(changes, message):
    assert refusal(**changes) == message


@pytest.mark.slow
def test_the_remedies_of_a_fabric_that_is_too_small_work():
    assert (
        describe(config(fabric__switch_ports=6))["switches"] == 4 + 3
    )  # 2 spines do by ports, 3 divide 3 uplinks
    assert describe(config(nodes=2))["switches"] == 4 + 2


@pytest.mark.parametrize("key", ["nodes", "node__gpus", "node__nics", "node__nvlink", "node__nic"])
def test_nothing_may_be_zero(key):
    text = "0 GB/s per direction" if key in ("node__nvlink", "node__nic") else 0
    assert "greater than 0" in refusal(**{key: text})


@pytest.mark.parametrize("key", ["nodes", "node__gpus", "node__nics", "fabric__switch_ports"])
@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("4", "Write 4 without quotes."),
        (True, "Write a number without quotes, for example 8."),
        (4.0, "Write 4."),
        (4.5, "Write a number without decimals."),
        ("four", "Write a number without quotes, for example 8."),
    ],
)
def test_whole_numbers_are_written_as_such(key, value, remedy):
    shown = repr(value) if isinstance(value, str) else value
    assert (
        refusal(**{key: value})
        == f"mine.yaml: {key.replace('__', '.')}: {shown} is not an integer. {remedy}"
    )


# Cost


@pytest.mark.slow
def test_networkx_is_imported_only_when_a_graph_is_built():
    code = "import sys, simulator.topology; sys.exit('networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        network(two_leaves()).capacity[0] = math.inf


def test_names_of_links_are_a_sequence_that_travels_to_other_processes():
    net = network(two_leaves(faults=[{"gpu": 3, "nvlink": "10 GB/s per direction"}]))
    every = tuple(net.name)
    assert len(every) == len(net.name) == len(net.capacity)
    assert every[:2] == net.name[:2] == ("gpu0.0->nvswitch0", "nvswitch0->gpu0.0")
    assert net.name[-1] == every[-1]
    assert pickle.loads(pickle.dumps(net)).name == every
    inside = [link for link, kind in enumerate(net.kind) if kind == "nvlink"]
    assert inside == list(range(2 * len(net.gpu_up)))

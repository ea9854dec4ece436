"""The bisection of fabrics without a closed form: cuts tried, and how near the least of them comes to the worst."""

import itertools
import json
import random

import networkx as nx
import pytest
from fabrics import cluster

from simulator.topology import describe, network
from simulator.topology.bisection import halves, halvings


def custom(folder, graph, places, nics=1, ports=64):
    """Return a cluster on a graph of switches: node n on switch places[n]; every cable 50 GB/s."""
    source = nx.Graph()
    link = {"bandwidth": "50 GB/s per direction", "latency": "1 us"}
    source.add_nodes_from([f"s{switch}" for switch in graph], kind="switch")
    source.add_edges_from([(f"s{one}", f"s{other}", link) for one, other in graph.edges])
    for n, place in enumerate(places):
        for j in range(nics):
            source.add_node(f"n{n}.{j}", kind="nic", node=n, nic=j)
            source.add_edge(f"n{n}.{j}", f"s{place}", **link)
    file = folder / "fabric.json"
    file.write_text(json.dumps(nx.node_link_data(source, edges="links")))
    return cluster("custom", nodes=len(places), gpus=nics, ports=ports, file=str(file))


def worst(net, nodes):
    """Return the least flow over every halving of the nodes: the oracle."""
    return min(
        halves(net, frozenset(first)) for first in itertools.combinations(range(nodes), nodes // 2)
    )


def test_a_ring_whose_nodes_are_not_in_order_is_still_cut_in_two_places(tmp_path):
    # 12 switches in a ring, 4 NICs each: any run of half the nodes has two cables out, 100 GB/s
    # each way. In the order of the nodes the first half is scattered over the ring.
    places = [0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11]
    config = custom(tmp_path, nx.cycle_graph(12), places, nics=4)
    assert halves(network(config)) > 100e9
    figures = describe(config)
    assert figures["bisection_bandwidth"] == pytest.approx(100e9)
    assert "estimate from above" in figures["bisection_note"]


def test_two_islands_joined_by_one_cable_are_cut_there(tmp_path):
    graph = nx.barbell_graph(5, 0)
    places = random.Random(3).sample(range(10), 10)
    assert describe(custom(tmp_path, graph, places, nics=2))[
        "bisection_bandwidth"
    ] == pytest.approx(50e9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_it_is_never_below_the_worst_cut_and_seldom_above(tmp_path, seed):
    graph = nx.connected_watts_strogatz_graph(10, 4, 0.4, seed=seed)
    config = custom(tmp_path, graph, random.Random(seed).sample(range(10), 10), nics=4)
    least, found = worst(network(config), 10), describe(config)["bisection_bandwidth"]
    assert least <= found * (1 + 1e-9)
    assert found <= 1.25 * least + 1
    assert found <= halves(network(config))  # nor worse than the one cut through the middle


def test_a_fault_is_felt_whichever_half_it_is_in():
    # Two leaves per rail; between the first leaf and the spines half of the cables are down.
    faults = [{"link": f"leaf0.0 - spine{s}", "down": True} for s in range(2)]
    healthy, ill = (
        describe(cluster("rail_optimised", nodes=8, gpus=2, faults=some)) for some in ([], faults)
    )
    assert healthy["bisection_bandwidth"] == 8 * 50e9
    assert ill["bisection_bandwidth"] < healthy["bisection_bandwidth"]


@pytest.mark.parametrize("nodes", [3, 4, 7])
def test_halves_are_halves(nodes):
    for first in halvings(network(cluster("rail_optimised", nodes=nodes))):
        assert len(first) == nodes // 2


@pytest.mark.slow
def test_a_large_damaged_cluster_is_described_in_seconds():
    config = cluster(
        "rail_optimised", nodes=256, gpus=8, ports=64, faults=[{"nic": [3, 0], "down": True}]
    )
    figures = describe(config)
    # The half of node 3 sends 1,023 x 50 GB/s.
    assert figures["bisection_bandwidth"] == pytest.approx(1023 * 50e9)

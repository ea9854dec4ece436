"""Fabrics read from a file."""

import json

import networkx as nx
import pytest
from fabrics import cluster, ring

from simulator.errors import InputError
from simulator.inputs import read, validate
from simulator.topology import FABRICS, TopologyConfig, describe, network


def test_a_custom_file_is_seen_from_the_topology_file(tmp_path):
    ring(tmp_path)
    tree = cluster("fat_tree_2").model_dump(include={"name", "gpu", "nodes"})
    lines = [f"{key}: {value}" for key, value in tree.items()] + [
        "node: {gpus: 2, nvlink: 900 GB/s bidirectional, nics: 2, nic: 50 GB/s per direction}",
        "fabric: {kind: custom, switch_ports: 4, latency: 3.7 us, file: ring.json}",
        "price: 2 USD per GPU-hour",
    ]
    (tmp_path / "mine.yaml").write_text("\n".join(lines))
    config = validate(read(tmp_path / "mine.yaml"), TopologyConfig)
    figures = describe(config)
    # A ring of four: two cables of 50 GB/s each way between its halves.
    assert (figures["switches"], figures["links"], figures["diameter_switch_hops"]) == (4, 4, 2)
    assert figures["bisection_bandwidth"] == pytest.approx(100e9)
    assert "estimate" in figures["bisection_note"]
    net = network(config)
    assert [net.name[link] for link in net.route(0, 2)[0]] == ["nic0.0->s0", "s0->s1", "s1->nic1.0"]


def test_graphml_gives_the_same_network_as_json(tmp_path):
    file = ring(tmp_path)
    graph = nx.node_link_graph(json.loads(file.read_text()), edges="links")
    nx.write_graphml(graph, tmp_path / "ring.graphml")
    nets = [
        network(cluster("custom", file=str(tmp_path / name)))
        for name in ("ring.json", "ring.graphml")
    ]
    assert nets[0].name == nets[1].name
    assert nets[0].capacity.tolist() == nets[1].capacity.tolist()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda graph: graph.nodes["s0"].pop("kind"), "kind of vertex. Write kind: switch or nic"),
        (lambda graph: graph.remove_node("n3.1"), "lacks NIC 1 of node 3, of 4 nodes of 2 NICs"),
        (
            lambda graph: graph.add_edge(
                "n0.0", "s1", bandwidth="1 GB/s per direction", latency="1 us"
            ),
            "has 2 edges",
        ),
        (
            lambda graph: graph.edges["s0", "s1"].update(bandwidth="50 GB/s"),
            "s0 - s1 does not say which direction",
        ),
        (lambda graph: graph.edges["s0", "s1"].pop("latency"), "of the edge s0 - s1"),
        (
            lambda graph: graph.remove_edges_from([("s0", "s1"), ("s0", "s3")]),
            "cut off node 0 from the rest",
        ),
        (
            lambda graph: graph.add_edge(
                "s1", "s1", bandwidth="50 GB/s per direction", latency="1 us"
            ),
            "'s1' is joined to itself. Take that edge out: it leads nowhere.",
        ),
        (
            lambda graph: graph.nodes["n1.0"].update(node=True),
            "n1.0.node: True is not a node of this cluster",
        ),
    ],
)
def test_a_wrong_custom_graph_is_told_what_is_wrong(tmp_path, spoil, message):
    file = ring(tmp_path)
    graph = nx.node_link_graph(json.loads(file.read_text()), edges="links")
    spoil(graph)
    file.write_text(json.dumps(nx.node_link_data(graph, edges="links")))
    with pytest.raises(InputError) as caught:
        network(cluster("custom", file=str(file)))
    assert message in str(caught.value)


def test_a_custom_file_that_is_not_there_is_named():
    with pytest.raises(
        InputError, match=r"nowhere.json: fabric.file: 'nowhere.json' does not exist"
    ):
        network(cluster("custom", file="nowhere.json"))


@pytest.mark.parametrize("cables", ["two", None, 2.5, "2", True])
def test_cables_of_a_custom_edge_are_a_whole_number(cables, tmp_path):
    file = ring(tmp_path)
    tree = json.loads(file.read_text())
    tree["links"][0]["cables"] = cables
    file.write_text(json.dumps(tree))
    with pytest.raises(InputError, match="are not an integer"):
        FABRICS["custom"].build(cluster("custom", nodes=4, gpus=2, file=str(file)))

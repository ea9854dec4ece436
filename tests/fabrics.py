"""Small clusters of every family, and a custom fabric on disk, for the tests of topologies."""

import json

import networkx as nx

from simulator.inputs import Document, validate
from simulator.topology import TopologyConfig


def ring(folder, nodes=4, bandwidth="50 GB/s per direction"):
    """Write a custom fabric: a ring of switches, one node of two NICs on each. Return its file."""
    graph = nx.Graph()
    for n in range(nodes):
        graph.add_node(f"s{n}", kind="switch")
        graph.add_edge(f"s{n}", f"s{(n + 1) % nodes}", bandwidth=bandwidth, latency="0.45 us")
        for j in range(2):
            graph.add_node(f"n{n}.{j}", kind="nic", node=n, nic=j)
            graph.add_edge(
                f"n{n}.{j}", f"s{n}", bandwidth="50 GB/s per direction", latency="1.4 us"
            )
    file = folder / "ring.json"
    file.write_text(json.dumps(nx.node_link_data(graph, edges="links")))
    return file


def cluster(kind, nodes=4, gpus=2, ports=8, nics=0, nic=50, **fabric):
    """Return a cluster of a family. nic: its rate [GB/s]. Keys of the file that are not of the fabric: faults, prices."""
    tree = {
        "name": "small",
        "gpu": "h100",
        "nodes": nodes,
        "node": {
            "gpus": gpus,
            "nvlink": "900 GB/s bidirectional",
            "nics": nics or gpus,
            "nic": f"{nic} GB/s per direction",
        },
        "fabric": {
            "kind": kind,
            "switch_ports": ports,
            "latency": "3.7 us",
            "leaf_latency": "2.8 us",
            **fabric,
        },
        "price": "2 USD per GPU-hour",
    }
    for key in ("faults", "prices"):
        if key in fabric:
            tree[key] = tree["fabric"].pop(key)
    return validate(Document("mine.yaml", tree, {}), TopologyConfig)

"""A fabric read from a file: GraphML, or the node-link JSON that networkx writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import InputError
from simulator.topology.cluster import Cluster
from simulator.topology.switches import NicCable, Switches, Vertex, empty
from simulator.units import bandwidth, seconds

if TYPE_CHECKING:
    import networkx as nx

_KINDS = ("switch", "nic")


def custom(cluster: Cluster) -> Switches:
    """Return the fabric of a file.

    Every vertex has a `kind`: switch, or nic with `node` and `nic` (its numbers, from 0) and one
    edge, to its switch. Every edge has a `bandwidth` and a `latency`, text with a unit, and may
    have `cables`, 1 unless said; bandwidth is that of one cable. Servers (GPUs, NVLink) stand in
    the topology file. Errors: InputError naming file and vertex.
    """
    file = cluster.fabric.file
    try:
        return _switches(_read(Path(file)), cluster)
    except InputError as error:
        raise error.at(file=file) from error


def _read(path: Path) -> nx.Graph:
    import networkx as nx

    if not path.is_file():
        raise InputError(
            "does not exist",
            value=str(path),
            key="fabric.file",
            remedy="Give the path of a graph, seen from the topology file.",
        )
    if path.suffix not in (".graphml", ".json"):
        raise InputError("is neither .graphml nor .json", value=path.name, key="fabric.file")
    try:
        if path.suffix == ".graphml":
            graph = nx.read_graphml(path)
        else:
            tree = json.loads(path.read_text(encoding="utf-8"))
            graph = nx.node_link_graph(tree, edges="links" if "links" in tree else "edges")
    except Exception as error:  # the readers raise whatever they stumble on
        raise InputError(f"is not a graph that networkx reads: {error!r}") from error
    if graph.is_multigraph():
        raise InputError("has parallel edges", remedy="Write one edge with cables: N.")
    if not graph.is_directed():
        return graph
    for one, other, edge in graph.edges(data=True):
        if graph.get_edge_data(other, one) != edge:
            raise InputError(
                "has no equal edge back",
                value=f"{one} - {other}",
                remedy="Links go both ways alike.",
            )
    return graph.to_undirected()


def _switches(source: nx.Graph, cluster: Cluster) -> Switches:
    """Return the switches of a graph, and the cables of the NICs on them. Errors: InputError."""
    nics = _nics(source, cluster)
    graph = empty()
    graph.add_nodes_from(
        (str(vertex),) for vertex, kind in source.nodes(data="kind") if kind == "switch"
    )
    for one, other, data in source.edges(data=True):
        if one == other:
            raise InputError(
                "is joined to itself",
                value=str(one),
                remedy="Take that edge out: it leads nowhere.",
            )
        edge = _edge(data, f"{one} - {other}")
        if source.nodes[one]["kind"] == source.nodes[other]["kind"] == "switch":
            graph.add_edge((str(one),), (str(other),), **edge)
    homes = [_home(source, nics[number]) for number in range(cluster.nics)]
    cables = tuple(NicCable(edge["bandwidth"], edge["latency"]) for _, edge in homes)
    return Switches(graph, tuple(switch for switch, _ in homes), math.nan, nic=cables)


def _nics(source: nx.Graph, cluster: Cluster) -> dict[int, object]:
    """Return the vertex of every NIC of the cluster by its number. Errors: InputError."""
    nics: dict[int, object] = {}
    for vertex, data in source.nodes(data=True):
        if data.get("kind") not in _KINDS:
            raise InputError(
                "is not a kind of vertex",
                value=data.get("kind"),
                key=str(vertex),
                remedy=f"Write kind: {' or '.join(_KINDS)}.",
            )
        if data["kind"] == "nic":
            nics[_nic_number(data, vertex, cluster)] = vertex
    missing = sorted(set(range(cluster.nics)) - set(nics))
    if missing:
        node, nic = divmod(missing[0], cluster.node.nics)
        raise InputError(
            f"lacks NIC {nic} of node {node}, of {cluster.nodes} nodes of {cluster.node.nics} NICs",
            remedy="Add a vertex of kind nic for every NIC of every node.",
        )
    return nics


def _nic_number(data: dict[str, Any], vertex: object, cluster: Cluster) -> int:
    """Return the number of a NIC, node * nics + j. Errors: InputError."""
    for name, limit in (("node", cluster.nodes), ("nic", cluster.node.nics)):
        value = data.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
            raise InputError(
                f"is not a {name} of this cluster",
                value=value,
                key=f"{vertex}.{name}",
                remedy=f"Write a number from 0 to {limit - 1}.",
            )
    return int(data["node"] * cluster.node.nics + data["nic"])


def _edge(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the bandwidth, latency and number of the cables of an edge. Errors: InputError."""
    cables = data.get("cables", 1)
    if not isinstance(cables, int) or isinstance(cables, bool):
        raise InputError(
            f"cables of the edge {name} are not an integer",
            value=cables,
            remedy="Write cables: 2.",
        )
    try:
        edge = {
            "bandwidth": bandwidth(data.get("bandwidth", "")),
            "latency": seconds(data.get("latency", "")),
            "cables": cables,
        }
    except InputError as error:
        raise InputError(
            f"of the edge {name} {error.rule}", value=error.value, remedy=error.remedy
        ) from error
    if not edge["bandwidth"] or edge["cables"] < 1:
        raise InputError(
            "carries nothing", key=name, remedy="Write a bandwidth above 0 and cables: 1 at least."
        )
    return edge


def _home(source: nx.Graph, vertex: object) -> tuple[Vertex, dict[str, Any]]:
    """Return the switch of a NIC, and the edge between them. Errors: InputError."""
    ends = list(source.adj[vertex])
    if len(ends) != 1 or source.nodes[ends[0]]["kind"] != "switch":
        raise InputError(
            f"has {len(ends)} edges", key=str(vertex), remedy="A NIC has one edge, to a switch."
        )
    return (str(ends[0]),), _edge(source.edges[vertex, ends[0]], f"{vertex} - {ends[0]}")

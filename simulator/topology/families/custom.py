"""A fabric read from a file: GraphML, or the node-link JSON that networkx writes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from simulator.errors import InputError
from simulator.inputs import file_fault
from simulator.topology.cabling import Cabling, Trunk, Vertex
from simulator.topology.cluster import Cluster
from simulator.topology.switches import NicCable, Switches
from simulator.units import bandwidth, seconds

if TYPE_CHECKING:
    import networkx as nx

_KINDS = ("switch", "nic")


class Port(NamedTuple):
    """Where a NIC is on the fabric."""

    switch: Vertex
    """The switch to which it leads."""
    cable: NicCable
    """The cable between them."""


def custom(cluster: Cluster) -> Switches:
    """Return the fabric of a file.

    Every vertex has a `kind`: switch, or nic with `node` and `nic` (its numbers, from 0) and one
    edge, to its switch. Every edge has a `bandwidth` and a `latency`, text with a unit, and may
    have `cables`, by default 1; bandwidth is that of one cable. Servers (GPUs, NVLink) stand in
    the topology file. Errors: InputError naming file and vertex.
    """
    file = cluster.fabric.file
    try:
        return _switches(_read(Path(file)), cluster)
    except InputError as error:
        raise error.at(file=file) from error


def _read(path: Path) -> nx.Graph:
    import networkx as nx

    fault = file_fault(path)
    if fault:
        raise InputError(
            fault,
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
            # Older versions of networkx write the edges as "links".
            edges = "links" if "links" in tree else "edges"
            graph = nx.node_link_graph(tree, edges=edges)
    except Exception as error:  # the readers raise whatever they stumble on
        raise InputError(f"is not a graph that networkx reads: {error!r}") from error
    # Two edges of one pair would be one in the fabric, where they are counted as cables.
    if graph.is_multigraph():
        raise InputError("has parallel edges", remedy="Write one edge with cables: N.")
    return _undirected(graph) if graph.is_directed() else graph


def _undirected(graph: nx.DiGraph) -> nx.Graph:
    """Return a graph whose edges all have an equal one back. Errors: InputError."""
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
    nics = _nics(source, cluster)  # checks the kind of every vertex too
    cabling = Cabling()
    kinds = dict(source.nodes(data="kind"))
    for vertex, kind in kinds.items():
        if kind == "switch":
            cabling.add([_switch(vertex)])
    for one, other, data in source.edges(data=True):
        if one == other:
            raise InputError(
                "is joined to itself",
                value=str(one),
                remedy="Take that edge out: it leads nowhere.",
            )
        # Read also where it leads to a NIC, so that a mistake is reported.
        edge = _edge(data, f"{one} - {other}")
        if kinds[one] == kinds[other] == "switch":
            cabling.join(_switch(one), _switch(other), edge)
    # By number, whatever the order in the file.
    ports = [_port(source, nics[number]) for number in range(cluster.nics)]
    return Switches(
        cabling=cabling,
        home=tuple(port.switch for port in ports),
        bisection=math.nan,  # no closed form: half of the nodes may be any half of the graph
        nic=tuple(port.cable for port in ports),
    )


def _switch(vertex: object) -> Vertex:
    """Return the name that a switch of the file has in the fabric."""
    return (str(vertex),)


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
    _check_complete(nics, cluster)
    return nics


def _check_complete(nics: dict[int, object], cluster: Cluster) -> None:
    """Refuse a file without some of the cluster's NICs. Errors: InputError."""
    for number in range(cluster.nics):
        if number not in nics:
            node, nic = divmod(number, cluster.node.nics)
            raise InputError(
                f"lacks NIC {nic} of node {node}, of {cluster.nodes} nodes of "
                f"{cluster.node.nics} NICs",
                remedy="Add a vertex of kind nic for every NIC of every node.",
            )


def _nic_number(data: dict[str, Any], vertex: object, cluster: Cluster) -> int:
    """Return the number of a NIC, node * nics + j. Errors: InputError."""
    limits = {"node": cluster.nodes, "nic": cluster.node.nics}
    for name, limit in limits.items():
        value = data.get(name)
        if not _is_integer(value) or not 0 <= value < limit:
            raise InputError(
                f"is not a {name} of this cluster",
                value=value,
                key=f"{vertex}.{name}",
                remedy=f"Write a number from 0 to {limit - 1}.",
            )
    return int(data["node"] * cluster.node.nics + data["nic"])


def _is_integer(value: Any) -> TypeGuard[int]:
    """Tell whether a value is an integer; Python takes true and false for integers too."""
    return isinstance(value, int) and not isinstance(value, bool)


def _edge(data: dict[str, Any], name: str) -> Trunk:
    """Return the bandwidth, latency and number of the cables of an edge. Errors: InputError."""
    cables = data.get("cables", 1)
    if not _is_integer(cables):
        raise InputError(
            f"cables of the edge {name} are not an integer",
            value=cables,
            remedy="Write cables: 2.",
        )
    try:
        width = bandwidth(data.get("bandwidth", ""))
        latency = seconds(data.get("latency", ""))
    except InputError as error:
        # The units know the value that is wrong, but not where it stands.
        raise InputError(
            f"of the edge {name} {error.rule}", value=error.value, remedy=error.remedy
        ) from error
    if not width or cables < 1:
        raise InputError(
            "carries nothing", key=name, remedy="Write a bandwidth above 0 and cables: 1 at least."
        )
    return Trunk(cables, width, latency)


def _port(source: nx.Graph, vertex: object) -> Port:
    """Return where a NIC is on the fabric. Errors: InputError."""
    neighbours = list(source.adj[vertex])
    kinds = [source.nodes[neighbour]["kind"] for neighbour in neighbours]
    if kinds != ["switch"]:
        raise InputError(
            f"has {len(neighbours)} edges",
            key=str(vertex),
            remedy="A NIC has one edge, to a switch.",
        )
    switch = neighbours[0]
    data = source.edges[vertex, switch]
    edge = _edge(data, f"{vertex} - {switch}")
    cable = NicCable(edge.bandwidth, edge.latency)
    return Port(_switch(switch), cable)

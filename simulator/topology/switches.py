"""The graph of a fabric's switches, without servers: what families build and share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from simulator.errors import LayoutError
from simulator.topology.cabling import Cabling, Trunk, Vertex

if TYPE_CHECKING:
    import networkx as nx

    from simulator.topology.cluster import Cluster


class NicCable(NamedTuple):
    """The cable of one NIC."""

    bandwidth: float
    """Bandwidth [B/s in one direction]."""
    latency: float
    """Time from one end to the other [s]."""


@dataclass(frozen=True, slots=True)
class Switches:
    """The switches of a fabric and the NICs' places on them."""

    cabling: Cabling
    """The switches, and the cables between them."""
    home: tuple[Vertex, ...]
    """Switch of every NIC [node * nics + j]; empty where NICs lead nowhere."""
    bisection: float
    """What any half of the nodes can send to the other half at least [B/s in one direction]."""
    note: str = "closed form"
    """What the bisection is: closed form, bound or estimate."""
    bundle: dict[Vertex, Vertex] = field(default_factory=dict)
    """Switch -> the set that ideal spreading uses as one switch, so that a tree remains."""
    nic: tuple[NicCable, ...] = ()
    """Cable of every NIC [nic], where it is not the cluster's."""

    @property
    def cables(self) -> int:
        """Return the number of cables between switches."""
        return sum(edge.trunk.cables for edge in self.cabling.edges())

    @property
    def graph(self) -> nx.Graph:
        """Return a graph of networkx; an edge has `cables`, and `bandwidth` and `latency` of each."""
        return self.cabling.graph()


def connect(
    cabling: Cabling, one: Vertex, other: Vertex, cluster: Cluster, cables: int = 1
) -> None:
    """Add cables at the NIC's line rate between two switches, to those that are there."""
    if cabling.joined(one, other):
        cables += cabling.between(one, other).cables
    cabling.join(one, other, Trunk(cables, cluster.node.nic, cluster.fabric.hop))


def full_bisection(cluster: Cluster) -> float:
    """Return what half of all NICs send at line rate [B/s]."""
    return cluster.nics // 2 * cluster.node.nic


def fill(cluster: Cluster, switches: list[Vertex], each: int) -> tuple[Vertex, ...]:
    """Return the switch of every NIC: `each` NICs, in order of the nodes, on every switch."""
    return tuple(switches[number // each] for number in range(cluster.nics))


def check_ports(cluster: Cluster, used: int, what: str) -> None:
    """Refuse a switch with more cables than ports. Errors: LayoutError."""
    ports = cluster.fabric.switch_ports
    if used > ports:
        enough = used + used % 2  # ports are even
        raise LayoutError(
            f"ports do not take the {used} cables of a switch: {what}",
            value=ports,
            key="fabric.switch_ports",
            remedy=f"Write switch_ports: {enough} at least.",
        )


def check_room(cluster: Cluster, nics: int, what: str) -> None:
    """Refuse more NICs than a fabric has places for. Errors: LayoutError."""
    if cluster.nics > nics:
        per_node = cluster.node.nics
        fitting = nics // per_node
        raise LayoutError(
            f"nodes of {per_node} NICs do not fit: {what} holds {nics} NICs",
            value=cluster.nodes,
            key="nodes",
            remedy=f"Write nodes: {fitting} at most, or a larger fabric.",
        )


def text(vertex: Vertex) -> str:
    """Return a vertex as it is written in files and messages: `leaf0.3`."""
    kind, *indices = vertex
    numbers = ".".join(str(index) for index in indices)
    return f"{kind}{numbers}"

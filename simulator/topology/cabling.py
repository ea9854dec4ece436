"""Switches and the cables between them: as much of a graph as a fabric needs.

Every run builds one, and importing networkx takes longer than building it; drawings and maximum
flows turn it into a graph of networkx (`graph`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    import networkx as nx

Vertex: TypeAlias = tuple[Any, ...]
"""A switch: its kind and its indices, `("leaf", 0, 3)`"""


class Trunk(NamedTuple):
    """The cables between two switches, which are alike."""

    cables: int
    """Number of them."""
    bandwidth: float
    """Bandwidth of each [B/s in one direction]."""
    latency: float
    """Time from one end to the other [s]."""


class Edge(NamedTuple):
    """Two switches that are joined."""

    one: Vertex
    """The switch that was added first."""
    other: Vertex
    """The other one."""
    trunk: Trunk
    """What joins them."""


class Cabling:
    """An undirected graph of switches. Built by a family or by faults, and read only from then on."""

    def __init__(self) -> None:
        self._ahead: dict[Vertex, dict[Vertex, Trunk]] = {}

    def __iter__(self) -> Iterator[Vertex]:
        """Iterate over the switches, in the order in which they were added."""
        return iter(self._ahead)

    def __len__(self) -> int:
        """Return the number of switches."""
        return len(self._ahead)

    def __contains__(self, vertex: object) -> bool:
        """Tell whether a switch is there."""
        return vertex in self._ahead

    def add(self, vertices: Iterable[Vertex]) -> None:
        """Add switches, those that are there stay as they are."""
        for vertex in vertices:
            self._ahead.setdefault(vertex, {})

    def join(self, one: Vertex, other: Vertex, trunk: Trunk) -> None:
        """Put cables between two switches, in place of those that are there."""
        self.add((one, other))
        self._ahead[one][other] = trunk
        self._ahead[other][one] = trunk

    def joined(self, one: Vertex, other: Vertex) -> bool:
        """Tell whether there are cables between two switches."""
        return other in self._ahead.get(one, {})

    def between(self, one: Vertex, other: Vertex) -> Trunk:
        """Return the cables between two switches."""
        return self._ahead[one][other]

    def edges(self) -> Iterator[Edge]:
        """Yield the pairs that are joined, each once: in the order of their first switches."""
        seen = set()
        for one, ahead in self._ahead.items():
            for other, trunk in ahead.items():
                if other not in seen:
                    yield Edge(one, other, trunk)
            seen.add(one)

    def part(self, one: Vertex, other: Vertex) -> None:
        """Take all cables between two switches away."""
        del self._ahead[one][other]
        del self._ahead[other][one]

    def remove(self, vertices: Iterable[Vertex]) -> None:
        """Take switches and their cables away."""
        for vertex in vertices:
            for other in self._ahead.pop(vertex, {}):
                del self._ahead[other][vertex]

    def copy(self) -> Cabling:
        """Return a copy that may be changed."""
        result = Cabling()
        result._ahead = {vertex: ahead.copy() for vertex, ahead in self._ahead.items()}
        return result

    def components(self) -> Iterator[set[Vertex]]:
        """Yield the switches that are connected with each other, in the order of their first ones."""
        seen: set[Vertex] = set()
        for vertex in self._ahead:
            if vertex in seen:
                continue
            found = {vertex}
            waiting = [vertex]
            while waiting:
                fresh = self._ahead[waiting.pop()].keys() - found
                found |= fresh
                waiting += fresh
            seen |= found
            yield found

    def graph(self) -> nx.Graph:
        """Return a graph of networkx; an edge has `cables`, and `bandwidth` and `latency` of each."""
        import networkx as nx

        result = nx.Graph()
        result.add_nodes_from(self)
        result.add_edges_from((one, other, trunk._asdict()) for one, other, trunk in self.edges())
        return result

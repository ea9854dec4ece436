"""Ways between switches, as links: ideal spreading, hashed ECMP, or one fixed shortest path.

adaptive, rail_local: ideal spreading. Where switches bundle into a tree (fat trees, Clos), all
cables between a leaf and the switches above it are one link each way: they carry the same load, and
the bundle fills when each of them does. Elsewhere (torus, dragonfly, slim fly, custom) the cables
between two switches are one link and traffic divides evenly over all shortest paths; `way` names
one of them, `spread` all. ecmp: every cable is a link; at each switch a hash of (seed, source,
destination) picks one that leads closer. shortest: every cable is a link; destination modulo
choices picks it, as InfiniBand's static tables do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from simulator.topology.switches import Vertex, text

if TYPE_CHECKING:
    from simulator.topology.switches import Switches

Line: TypeAlias = tuple[str, float, float]
"""name, capacity [B/s] and latency [s] of a link"""
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Paths:
    """The links between switches and the ways over them.

    number: switch -> its place in `ahead`. ahead: [switch] {neighbour: links to it}. weight: link
    -> capacity [B/s]. part: switch -> connected part of the fabric. first: id of the first link
    here.
    """

    routing: str
    seed: int
    number: dict[Vertex, int]
    ahead: tuple[dict[int, tuple[int, ...]], ...]
    lines: tuple[Line, ...]
    part: dict[Vertex, int]
    first: int
    _distance: dict[int, list[int]] = field(default_factory=dict)
    _choices: dict[tuple[int, int], tuple[tuple[int, int], ...]] = field(default_factory=dict)
    _only: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def way(self, here: int, there: int, src: int, dst: int) -> tuple[int, ...]:
        """Return the links from one switch to another for the traffic of two GPUs."""
        known = self._only.get((here, there))
        if known is not None:
            return known
        links: list[int] = []
        at, choices = here, 1
        while at != there:
            options = self._options(at, there)
            choices *= len(options)
            link, at = options[self._pick(src, dst, len(links)) % len(options)]
            links.append(link)
        if choices == 1:
            self._only[here, there] = tuple(links)
        return tuple(links)

    def spread(self, here: int, there: int) -> dict[int, float]:
        """Return link -> share of the traffic between two switches, divided over all shortest paths by capacity."""
        shares: dict[int, float] = {}
        front = {here: 1.0}
        while front and there not in front:
            reached: dict[int, float] = {}
            for at, share in front.items():
                options = self._options(at, there)
                width = sum(self.lines[link - self.first][1] for link, _ in options)
                for link, ahead in options:
                    part = share * self.lines[link - self.first][1] / width
                    shares[link] = shares.get(link, 0.0) + part
                    reached[ahead] = reached.get(ahead, 0.0) + part
            front = reached
        return shares

    def _options(self, at: int, there: int) -> tuple[tuple[int, int], ...]:
        """Return (link, next switch) for every link that leads closer, in a fixed order."""
        key = (at, there)
        if key not in self._choices:
            far = self._distances(there)
            self._choices[key] = tuple(
                (link, ahead)
                for ahead, links in self.ahead[at].items()
                if far[ahead] == far[at] - 1
                for link in links
            )
        return self._choices[key]

    def _pick(self, src: int, dst: int, hop: int) -> int:
        if self.routing == "ecmp":
            return _mix(_mix(_mix(self.seed ^ src) ^ dst) ^ hop)
        return dst if self.routing == "shortest" else src + dst

    def _distances(self, there: int) -> list[int]:
        """Return the cables from every switch to one, -1 where there is no way."""
        if there not in self._distance:
            self._distance[there] = distances(self.ahead, there)
        return self._distance[there]


def distances(ahead: tuple[dict[int, tuple[int, ...]], ...], start: int) -> list[int]:
    """Return the hops from one switch to each, -1 where there is no way."""
    far = [-1] * len(ahead)
    far[start] = 0
    queue = deque([start])
    while queue:
        at = queue.popleft()
        for other in ahead[at]:
            if far[other] < 0:
                far[other] = far[at] + 1
                queue.append(other)
    return far


def paths(switches: Switches, routing: str, seed: int, first: int) -> Paths:
    """Return the links between switches, numbered from `first`, and the ways over them."""
    import networkx as nx

    bundle = {} if routing in ("ecmp", "shortest") else switches.bundle
    kept = dict.fromkeys(bundle.get(vertex, vertex) for vertex in switches.graph)
    number = {vertex: index for index, vertex in enumerate(kept)}
    lines: list[Line] = []
    ahead: tuple[dict[int, tuple[int, ...]], ...] = tuple({} for _ in kept)
    for (one, other), wires in _wires(
        switches, bundle, single=routing in ("ecmp", "shortest")
    ).items():
        for start, end in ((one, other), (other, one)):
            ahead[number[start]][number[end]] = tuple(
                range(first + len(lines), first + len(lines) + len(wires))
            )
            label = f"{text(start)}->{text(end)}"
            for k, (capacity, latency) in enumerate(wires):
                lines.append((label if len(wires) == 1 else f"{label}#{k}", capacity, latency))
    parts = nx.connected_components(switches.graph)
    part = {vertex: index for index, vertices in enumerate(parts) for vertex in vertices}
    return Paths(routing, seed, number, ahead, tuple(lines), part, first)


def _wires(
    switches: Switches, bundle: dict[Vertex, Vertex], *, single: bool
) -> dict[tuple[Vertex, Vertex], list[tuple[float, float]]]:
    """Return (capacity [B/s], latency [s]) of the links between two switches or bundles: of each cable, or of all."""
    wires: dict[tuple[Vertex, Vertex], list[tuple[float, float]]] = {}
    for start, end, edge in switches.graph.edges(data=True):
        pair = (bundle.get(start, start), bundle.get(end, end))
        pair = pair[::-1] if pair[::-1] in wires else pair
        each, latency = edge["bandwidth"], edge["latency"]
        if single:
            wires[pair] = [(each, latency)] * edge["cables"]
        else:
            so_far = wires[pair][0][0] if pair in wires else 0.0
            wires[pair] = [(so_far + each * edge["cables"], latency)]
    return wires


def _mix(value: int) -> int:
    """Return a number whose bits all depend on all bits of another: splitmix64 (Steele et al., OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)

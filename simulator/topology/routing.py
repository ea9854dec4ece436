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

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from simulator.topology.cabling import Vertex
from simulator.topology.switches import text

if TYPE_CHECKING:
    from simulator.topology.switches import Switches

SINGLE_CABLES = ("ecmp", "shortest")
"""Routings under which every cable is a link of its own."""
_MASK = (1 << 64) - 1


class Link(NamedTuple):
    """A link in one direction."""

    name: str
    """Its ends, `leaf0.1->spine3`."""
    capacity: float
    """Bandwidth [B/s]."""
    latency: float
    """Time from one end to the other [s]."""


class Option(NamedTuple):
    """A link that leads closer to a destination."""

    link: int
    """Id of the link."""
    ahead: int
    """Index of the switch to which it leads."""


class Cables(NamedTuple):
    """What a link between two switches, or bundles of them, consists of, in one direction."""

    capacity: float
    """Bandwidth of the link [B/s]."""
    latency: float
    """Time from one end to the other [s]."""


Links: TypeAlias = tuple[int, ...]
"""Ids of links."""
Ahead: TypeAlias = tuple[dict[int, Links], ...]
"""[switch] {neighbour: ids of the links to it}"""
Ends: TypeAlias = tuple[int, int]
"""(switch, destination)"""
Between: TypeAlias = dict[tuple[Vertex, Vertex], list[Cables]]
"""Two switches or bundles -> the links from one to the other."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The links between switches and the ways over them."""

    routing: str
    """How traffic is spread, one of ROUTINGS."""
    seed: int
    """Seed of ecmp's hash."""
    number: dict[Vertex, int]
    """Switch, or bundle of switches -> its index in `ahead`."""
    ahead: Ahead
    """[switch] {neighbour: ids of the links to it}."""
    links: tuple[Link, ...]
    """The links, numbered from `first` on."""
    part: dict[Vertex, int]
    """Switch -> connected part of the fabric."""
    first: int
    """Id of the first link here."""
    _distance: dict[int, list[int]] = field(default_factory=dict)
    """Destination -> cables from every switch; filled on demand."""
    _choices: dict[Ends, tuple[Option, ...]] = field(default_factory=dict)
    """(switch, destination) -> links that lead closer; filled on demand."""
    _only: dict[Ends, Links] = field(default_factory=dict)
    """(switch, destination) -> the links on the way, where there is just one."""

    def way(self, here: int, there: int, src: int, dst: int) -> Links:
        """Return the links from one switch to another for the traffic of two GPUs."""
        known = self._only.get((here, there))
        if known is not None:
            return known
        links: list[int] = []
        at = here
        ways = 1  # how many the GPUs could have taken
        while at != there:
            options = self._options(at, there)
            ways *= len(options)
            pick = self._pick(src, dst, len(links))
            chosen = options[pick % len(options)]
            links.append(chosen.link)
            at = chosen.ahead
        # Where there is just one, it is every pair's: in trees of bundles that saves most walks.
        if ways == 1:
            self._only[here, there] = tuple(links)
        return tuple(links)

    def spread(self, here: int, there: int) -> dict[int, float]:
        """Return link -> share of the traffic between two switches.

        It is divided over all shortest paths by capacity.
        """
        # Hop by hop: all shortest paths are equally long, so that the traffic arrives at once.
        shares: dict[int, float] = defaultdict(float)
        front = {here: 1.0}  # switches that the traffic has reached -> share of it
        while front and there not in front:
            reached: dict[int, float] = defaultdict(float)
            for at, share in front.items():
                options = self._options(at, there)
                width = sum(self._capacity(option.link) for option in options)
                for link, ahead in options:
                    part = share * self._capacity(link) / width
                    shares[link] += part
                    reached[ahead] += part
            front = reached
        return dict(shares)

    def _capacity(self, link: int) -> float:
        return self.links[link - self.first].capacity

    def _options(self, at: int, there: int) -> tuple[Option, ...]:
        """Return every link that leads closer, in a fixed order."""
        key = (at, there)
        if key not in self._choices:
            options: list[Option] = []
            for ahead in self._closer(at, there):
                options += [Option(link, ahead) for link in self.ahead[at][ahead]]
            self._choices[key] = tuple(options)
        return self._choices[key]

    def _closer(self, at: int, there: int) -> list[int]:
        """Return the neighbours of a switch that are closer to another."""
        neighbours = self.ahead[at]
        if there in neighbours:
            return [there]
        # All ways to a leaf of a tree lead over the one switch above it, which thousands share.
        above = list(self.ahead[there])
        if len(above) == 1 and len(self.ahead[above[0]]) > 1:
            there = above[0]
        if there in neighbours:
            return [there]
        far = self._distances(there)
        return [ahead for ahead in neighbours if far[ahead] == far[at] - 1]

    def _pick(self, src: int, dst: int, hop: int) -> int:
        """Return the number that picks one of several links for two GPUs at a hop."""
        if self.routing == "ecmp":
            flow = _mix(_mix(self.seed ^ src) ^ dst)
            return _mix(flow ^ hop)  # every switch hashes anew
        if self.routing == "shortest":
            return dst
        return src + dst

    def _distances(self, there: int) -> list[int]:
        """Return the cables from every switch to one, -1 where there is no way."""
        if there not in self._distance:
            self._distance[there] = distances(self.ahead, there)
        return self._distance[there]


def distances(ahead: Ahead, start: int) -> list[int]:
    """Return the hops from one switch to each, -1 where there is no way."""
    # Breadth first: a switch is reached first by a shortest way.
    far = [-1] * len(ahead)  # [switch]
    far[start] = 0
    queue = deque([start])
    while queue:
        at = queue.popleft()
        for neighbour in ahead[at]:
            if far[neighbour] < 0:
                far[neighbour] = far[at] + 1
                queue.append(neighbour)
    return far


def paths(switches: Switches, routing: str, seed: int, first: int) -> Paths:
    """Return the links between switches, numbered from `first`, and the ways over them."""
    single = routing in SINGLE_CABLES
    bundle = {} if single else switches.bundle
    # A bundle is numbered where its first switch stands.
    vertices = dict.fromkeys(bundle.get(vertex, vertex) for vertex in switches.cabling)
    number = {vertex: index for index, vertex in enumerate(vertices)}
    links: list[Link] = []
    ahead: Ahead = tuple({} for _ in vertices)
    # For each pair first all links there, then as many back: `first` and these orders give the ids.
    between = _cables(switches, bundle, single=single)
    for (one, other), lines in between.items():
        for start, end in ((one, other), (other, one)):
            lowest = first + len(links)
            ids = range(lowest, lowest + len(lines))
            neighbours = ahead[number[start]]
            neighbours[number[end]] = tuple(ids)
            links += _named(start, end, lines)
    # By switches, not by bundles: NICs ask for the part of their own switch.
    part: dict[Vertex, int] = {}
    for index, component in enumerate(switches.cabling.components()):
        part |= dict.fromkeys(component, index)
    return Paths(
        routing=routing,
        seed=seed,
        number=number,
        ahead=ahead,
        links=tuple(links),
        part=part,
        first=first,
    )


def _named(start: Vertex, end: Vertex, lines: list[Cables]) -> list[Link]:
    """Return the links from one switch to another; several are told apart by a number."""
    label = f"{text(start)}->{text(end)}"
    if len(lines) == 1:
        return [Link(label, *lines[0])]
    links = []
    for index, line in enumerate(lines):
        name = f"{label}#{index}"
        links.append(Link(name, *line))
    return links


def _cables(switches: Switches, bundle: dict[Vertex, Vertex], *, single: bool) -> Between:
    """Return the links between each two switches or bundles: one for each cable, or one for all."""
    between: Between = {}
    for start, end, trunk in switches.cabling.edges():
        # Several edges may join two bundles, and name them in either order.
        one = bundle.get(start, start)
        other = bundle.get(end, end)
        pair = (one, other)
        if (other, one) in between:
            pair = (other, one)
        count, width, latency = trunk
        if single:
            between[pair] = [Cables(width, latency)] * count
        else:
            width *= count
            if pair in between:
                width += between[pair][0].capacity
            between[pair] = [Cables(width, latency)]
    return between


def _mix(value: int) -> int:
    """Return a number whose bits all depend on all bits of another.

    splitmix64: Steele et al., OOPSLA 2014.
    """
    # Not Python's hash, which may differ between versions: ecmp's paths are part of results.
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = value ^ (value >> 30)
    value = (value * 0xBF58476D1CE4E5B9) & _MASK
    value = value ^ (value >> 27)
    value = (value * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)

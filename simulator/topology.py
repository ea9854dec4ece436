"""The cluster: its configuration, its graph (one builder per family), and its links as arrays with routes over them.

`TopologyConfig` -> graph (networkx, what exists) -> `Network` (arrays, what the simulation runs on).

Nodes of the graph: ("gpu", node, i), ("nvswitch", node), ("nic", node, j), ("leaf", rail, l), ("spine", s).
Edges go both ways and carry `bandwidth` [B/s], `latency` [s] and `kind`: nvlink, pcie, nic or fabric; fabric edges
also carry `cables`, the number of parallel cables. A builder states the bisection of its family, in closed form, as
the graph's attribute `bisection_bandwidth` [B/s in one direction]. A family is one function and one row in `FABRICS`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from simulator.errors import InputError, LayoutError
from simulator.units import Bandwidth, Price, Seconds, format_seconds

if TYPE_CHECKING:
    import networkx as nx

Vertex: TypeAlias = tuple[Any, ...]
Edge: TypeAlias = tuple[Vertex, Vertex]
Ids: TypeAlias = NDArray[np.int64]

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_SPINES: Vertex = ("spines",)


class Node(BaseModel):
    """What one server holds."""

    model_config = _FROZEN

    gpus: int = Field(gt=0, description="GPUs per node")
    nvlink: Bandwidth = Field(gt=0, description="NVLink of one GPU [B/s in one direction]")
    nics: int = Field(gt=0, description="NICs per node; neighbouring GPUs share one where there are fewer than GPUs")
    nic: Bandwidth = Field(gt=0, description="line rate of one NIC [B/s in one direction]")
    nvlink_latency: Seconds = Field(
        default="3.33 us",
        validate_default=True,
        description="GPU to GPU over NVLink [s]; default: 64 B on H800, DeepSeek, arXiv 2505.09343 table 5",
    )

    @field_validator("nics")
    @classmethod
    def _nics_are_shared_evenly(cls, nics: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", nics)
        if gpus % nics:
            divisors = ", ".join(str(n) for n in range(1, gpus + 1) if gpus % n == 0)
            raise InputError(
                f"NICs cannot be shared evenly by {gpus} GPUs", value=nics, remedy=f"Write one of {divisors}."
            )
        return nics


class Fabric(BaseModel):
    """What connects the NICs."""

    model_config = _FROZEN

    kind: str = Field(description="family, a row of FABRICS")
    switch_ports: int = Field(ge=2, description="ports of one switch, each at the NIC's line rate; even")
    latency: Seconds = Field(description="NIC to NIC across leaves, 64 B [s]")
    leaf_latency: Seconds = Field(
        default_factory=lambda data: data.get("latency", 0.0),
        description="NIC to NIC within one leaf, 64 B [s]; default: latency",
    )

    @field_validator("kind")
    @classmethod
    def _kind_is_known(cls, kind: str) -> str:
        if kind not in FABRICS:
            raise InputError("is no kind of fabric known here", value=kind, remedy=f"Known: {', '.join(FABRICS)}.")
        return kind

    @field_validator("switch_ports")
    @classmethod
    def _ports_are_even(cls, ports: int) -> int:
        if ports % 2:
            raise InputError(
                "ports cannot be halved into down and up", value=ports, remedy=f"Write {ports - 1} or {ports + 1}."
            )
        return ports

    @field_validator("leaf_latency")
    @classmethod
    def _leaf_is_nearer(cls, leaf_latency: float, info: ValidationInfo) -> float:
        if leaf_latency > info.data.get("latency", math.inf):
            raise InputError(
                f"within a leaf exceeds the latency across leaves, {format_seconds(info.data['latency'])}",
                value=format_seconds(leaf_latency),
                remedy="Write at most fabric.latency, or leave leaf_latency out.",
            )
        return leaf_latency


class TopologyConfig(BaseModel):
    """A cluster of equal nodes, as a topology file describes it."""

    model_config = _FROZEN

    name: str = Field(description="name for reports")
    gpu: str = Field(description="hardware profile of every GPU")
    nodes: int = Field(gt=0, description="servers")
    node: Node = Field(description="one server")
    fabric: Fabric = Field(description="the network between servers")
    price: Price = Field(description="rent [USD per GPU-hour]")

    @property
    def gpus(self) -> int:
        """Return the number of GPUs of the cluster."""
        return self.nodes * self.node.gpus


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The links of a cluster and the routes over them.

    capacity: [link] B/s. latency: [link] s. kind: [link] nvlink, nic or fabric. name: [link], `gpu3.7->nvswitch3`.
    The rank of a GPU is g = node * gpus_per_node + i. gpu_up, gpu_down: [g] NVLink link to and from the NVSwitch.
    nic_up, nic_down: [g] link from and to the NIC of that GPU, -1 where there is none; equal for GPUs that share it.
    rail: [g] index of that NIC in its node, -1. leaf: [g] leaf that it hangs on, -1. leaf_up, leaf_down: [leaf] bundle
    to and from the spines, -1 where there are none.
    """

    capacity: NDArray[np.float64]
    latency: NDArray[np.float64]
    kind: tuple[str, ...]
    name: tuple[str, ...]
    gpus_per_node: int
    gpu_up: Ids
    gpu_down: Ids
    nic_up: Ids
    nic_down: Ids
    rail: Ids
    leaf: Ids
    leaf_up: Ids
    leaf_down: Ids

    def node_of(self, g: int) -> int:
        """Return the node of a GPU."""
        return g // self.gpus_per_node

    def route(self, src: int, dst: int) -> tuple[tuple[int, ...], float]:
        """Return the links from one GPU to another, in order, and the latency of the way [s].

        Between rails the way leads over NVLink to the GPU of the destination's rail in the own node, and leaves
        through its NIC (PXN, NCCL 2.12). A GPU reaches itself over no link. Errors: LayoutError on an unknown rank.
        """
        for g in (src, dst):
            if not 0 <= g < len(self.gpu_up):
                raise LayoutError("is no GPU of this cluster", value=g, remedy=f"Ranks go to {len(self.gpu_up) - 1}.")
        links = self._within_node(src, dst) if self.node_of(src) == self.node_of(dst) else self._across(src, dst)
        return links, sum(float(self.latency[link]) for link in links)

    def _within_node(self, src: int, dst: int) -> tuple[int, ...]:
        return () if src == dst else (int(self.gpu_up[src]), int(self.gpu_down[dst]))

    def _across(self, src: int, dst: int) -> tuple[int, ...]:
        carrier = src
        if self.rail[src] != self.rail[dst]:
            carrier = self.node_of(src) * self.gpus_per_node + dst % self.gpus_per_node
        here, there = self.leaf[carrier], self.leaf[dst]
        trunk = () if here == there else (int(self.leaf_up[here]), int(self.leaf_down[there]))
        return (*self._within_node(src, carrier), int(self.nic_up[carrier]), *trunk, int(self.nic_down[dst]))


@lru_cache(maxsize=4)  # alternatives of a run share their cluster
def network(config: TopologyConfig) -> Network:
    """Build the graph of a cluster and return its links as arrays.

    Errors: LayoutError if the fabric cannot hold these nodes.
    """
    return _extract(FABRICS[config.fabric.kind](config), config)


def describe(config: TopologyConfig) -> dict[str, str | int | float]:
    """Return name, gpus, switches (NVSwitches apart), links and bisection_bandwidth [B/s in one direction].

    links: cables between switches, as DeepSeek counts (arXiv 2505.09343, table 3).
    Errors: LayoutError if the fabric cannot hold these nodes.
    """
    graph = FABRICS[config.fabric.kind](config)
    cables = sum(edge["cables"] for _, _, edge in graph.edges(data=True) if edge["kind"] == "fabric")
    return {
        "name": config.name,
        "gpus": config.gpus,
        "switches": sum(vertex[0] in ("leaf", "spine") for vertex in graph),
        "links": cables // 2,
        "bisection_bandwidth": graph.graph["bisection_bandwidth"],
    }


def _rail_optimised(config: TopologyConfig) -> nx.DiGraph:
    """Return two layers of switches, NIC j of every node on the leaves of rail j, without oversubscription."""
    graph = _servers(config)
    half, fabric = config.fabric.switch_ports // 2, config.fabric
    leaves = [("leaf", rail, leaf) for rail in range(config.node.nics) for leaf in range(-(-config.nodes // half))]
    for n, j in itertools.product(range(config.nodes), range(config.node.nics)):
        for i in range(*_sharers(config, j)):
            # PCIe is not modelled yet: between a GPU and its NIC nothing is slower than the NIC.
            _connect(graph, ("gpu", n, i), ("nic", n, j), bandwidth=math.inf, latency=0.0, kind="pcie")
        leaf = ("leaf", j, n // half)
        _connect(graph, ("nic", n, j), leaf, bandwidth=config.node.nic, latency=fabric.leaf_latency / 2, kind="nic")
    spines = _spines(config, len(leaves))
    for leaf, s in itertools.product(leaves, range(spines)):
        cables = half // spines
        hop = (fabric.latency - fabric.leaf_latency) / 2
        width = cables * config.node.nic
        _connect(graph, leaf, ("spine", s), bandwidth=width, latency=hop, kind="fabric", cables=cables)
    # Full bisection: any half of the NICs can send to the other half at line rate.
    graph.graph["bisection_bandwidth"] = config.nodes * config.node.nics // 2 * config.node.nic
    return graph


def _spines(config: TopologyConfig, leaves: int) -> int:
    """Return the fewest spines that take every uplink, the same number of cables from each leaf to each spine.

    The fewest by ports is leaves / 2, rounded up; NVIDIA rounds on to a divisor of a leaf's uplinks, 18 spines and
    not 16 for 32 leaves of 144 ports (DGX SuperPOD B300 XDR reference architecture, table 3). Zero for a lone leaf.
    Errors: LayoutError if a leaf has fewer uplinks than there are spines, so that two layers do not suffice.
    """
    ports, nics, nodes = config.fabric.switch_ports, config.node.nics, config.nodes
    half, fewest = ports // 2, -(-leaves // 2)
    if leaves == 1:
        return 0
    if fewest > half:
        enough = next(p for p in itertools.count(ports, 2) if nics * -(-nodes // (p // 2)) <= p)
        fitting = ports // nics * half
        raise LayoutError(
            f"ports do not hold {nodes} nodes in two layers: {leaves} leaves need {fewest} spines, "
            f"and a leaf has {half} uplinks, at least one of which must go to each spine",
            value=ports,
            key="fabric.switch_ports",
            remedy=f"Write switch_ports: {enough}" + (f", or nodes: {fitting} at most." if fitting else "."),
        )
    return next(spines for spines in range(fewest, half + 1) if half % spines == 0)


def _single_node(config: TopologyConfig) -> nx.DiGraph:
    """Return one server whose GPUs meet at its NVSwitch; NICs lead nowhere and are left out."""
    if config.nodes != 1:
        raise LayoutError(
            "nodes do not fit fabric.kind single_node, which connects none",
            value=config.nodes,
            key="nodes",
            remedy="Write nodes: 1, or fabric.kind: rail_optimised.",
        )
    graph = _servers(config)
    graph.graph["bisection_bandwidth"] = config.node.gpus // 2 * config.node.nvlink
    return graph


FABRICS: dict[str, Callable[[TopologyConfig], nx.DiGraph]] = {
    "rail_optimised": _rail_optimised,
    "single_node": _single_node,
}


def _servers(config: TopologyConfig) -> nx.DiGraph:
    """Return a graph of all GPUs and NVSwitches, the part that every family shares."""
    import networkx as nx

    graph = nx.DiGraph()
    half = config.node.nvlink_latency / 2
    for n, i in itertools.product(range(config.nodes), range(config.node.gpus)):
        nvlink = config.node.nvlink
        _connect(graph, ("gpu", n, i), ("nvswitch", n), bandwidth=nvlink, latency=half, kind="nvlink")
    return graph


def _sharers(config: TopologyConfig, nic: int) -> tuple[int, int]:
    """Return the first GPU of a node that uses a NIC, and the first after it that does not."""
    share = config.node.gpus // config.node.nics
    return nic * share, (nic + 1) * share


def _connect(graph: nx.DiGraph, one: Vertex, other: Vertex, **attributes: object) -> None:
    graph.add_edge(one, other, **attributes)
    graph.add_edge(other, one, **attributes)


def _extract(graph: nx.DiGraph, config: TopologyConfig) -> Network:
    """Return the links of finite capacity, numbered, and those of every GPU."""
    links = _links(graph)
    number = {edge: index for index, edge in enumerate(links)}
    gpus = [("gpu", n, i) for n in range(config.nodes) for i in range(config.node.gpus)]
    nics = [_neighbour(graph, gpu, "nic") for gpu in gpus]
    leaves = [_neighbour(graph, nic, "leaf") for nic in nics]
    order = {leaf: index for index, leaf in enumerate(dict.fromkeys(leaf for leaf in leaves if leaf))}
    return Network(
        capacity=_frozen([bandwidth for bandwidth, _, _ in links.values()], np.float64),
        latency=_frozen([latency for _, latency, _ in links.values()], np.float64),
        kind=tuple(kind for _, _, kind in links.values()),
        name=tuple(f"{_name(start)}->{_name(end)}" for start, end in links),
        gpus_per_node=config.node.gpus,
        gpu_up=_frozen([number[gpu, ("nvswitch", gpu[1])] for gpu in gpus], np.int64),
        gpu_down=_frozen([number[("nvswitch", gpu[1]), gpu] for gpu in gpus], np.int64),
        nic_up=_frozen([number.get(edge, -1) for edge in zip(nics, leaves, strict=True)], np.int64),
        nic_down=_frozen([number.get(edge, -1) for edge in zip(leaves, nics, strict=True)], np.int64),
        rail=_frozen([nic[2] if nic else -1 for nic in nics], np.int64),
        leaf=_frozen([order.get(leaf, -1) for leaf in leaves], np.int64),
        leaf_up=_frozen([number.get((leaf, _SPINES), -1) for leaf in order], np.int64),
        leaf_down=_frozen([number.get((_SPINES, leaf), -1) for leaf in order], np.int64),
    )


def _links(graph: nx.DiGraph) -> dict[Edge, tuple[float, float, str]]:
    """Return (bandwidth [B/s], latency [s], kind) of every link of finite capacity, in a fixed order.

    The cables between a leaf and all its spines are one link each way: adaptive routing spreads ideally, so all
    cables of a leaf carry the same load, and the bundle fills when each of them does. Hashed ECMP comes later.
    """
    links: dict[Edge, tuple[float, float, str]] = {}
    for start, end, edge in graph.edges(data=True):
        if edge["bandwidth"] < math.inf:
            bundle = (_SPINES if start[0] == "spine" else start, _SPINES if end[0] == "spine" else end)
            so_far = links[bundle][0] if bundle in links else 0.0
            links[bundle] = (so_far + edge["bandwidth"], edge["latency"], edge["kind"])
    return links


def _neighbour(graph: nx.DiGraph, vertex: Vertex, kind: str) -> Vertex:
    """Return the neighbour of that kind, () if there is none."""
    return next((other for other in graph.adj.get(vertex, ()) if other[0] == kind), ())


def _name(vertex: Vertex) -> str:
    kind, *place = vertex
    return f"{kind}{'.'.join(str(part) for part in place)}"


def _frozen(values: list[Any], kind: type) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=kind)
    array.flags.writeable = False
    return array

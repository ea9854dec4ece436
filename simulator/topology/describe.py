"""A cluster in figures: counts, bisection, diameter, cost."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np

from simulator.progress import doing
from simulator.topology.assembly import build, network
from simulator.topology.bisection import bisection
from simulator.topology.cabling import Vertex
from simulator.topology.config import TopologyConfig
from simulator.topology.network import Network
from simulator.topology.routing import Paths, distances
from simulator.topology.switches import Switches

_SOURCES = 256
"""GPUs of the largest cluster in which the longest way is searched from all of them."""


@doing("describing the cluster")
def describe(config: TopologyConfig) -> dict[str, Any]:
    """Return what `simulate topology` says of a cluster.

    Errors: LayoutError if the fabric cannot hold these nodes.

    switches: without NVSwitches. links: cables between switches, as DeepSeek counts (arXiv
    2505.09343, table 3). bisection_bandwidth: [B/s in one direction]. diameter_switch_hops: cables
    between the two switches with NICs that are furthest apart. diameter_gpu_links: links of the
    longest route of two GPUs, NVLink, PCIe and NICs included; diameter_latency_s: of the slowest.
    cost_usd: null without `prices`.
    """
    switches, damage = build(config)
    net = network(config, partial=True)
    layers = Counter(_layer(vertex) for vertex in switches.cabling)
    width, note = bisection(config, switches, net)
    hops, latency = _longest_route(config, net)
    nics = sum(link >= 0 for link in net.nic_links)
    with_nics = set(net.switch) - {-1}
    return {
        "name": config.name,
        "kind": config.fabric.kind,
        "routing": config.routing,
        "nodes": config.nodes,
        "gpus": config.gpus,
        "gpus_down": len(damage.gpu_down),
        "nics": nics,
        "pcie_switches": int((net.slot >= 0).sum()),
        "switches": sum(layers.values()),
        "switches_by_layer": dict(layers),
        "links": switches.cables,
        "bisection_bandwidth": width,
        "bisection_note": note,
        "bisection_per_gpu": width / (config.gpus / 2),
        "diameter_switch_hops": _switch_hops(net.paths, sorted(with_nics)),
        "diameter_gpu_links": hops,
        "diameter_latency_s": latency,
        "cost_usd": _cost(config, switches, nics),
    }


def _layer(vertex: Vertex) -> str:
    """Return the layer of a switch; those of a custom fabric have a name and no layer."""
    has_layer = len(vertex) > 1
    return str(vertex[0]) if has_layer else "switch"


def _cost(config: TopologyConfig, switches: Switches, nics: int) -> float | None:
    """Return what the network costs [USD], None without prices."""
    prices = config.prices
    if prices is None:
        return None
    cables = switches.cables + nics  # every NIC has one
    return prices.switch * len(switches.cabling) + prices.cable * cables + prices.nic * nics


@doing("counting hops")
def _switch_hops(paths: Paths, with_nics: list[int]) -> int:
    """Return the most cables between two switches with NICs.

    From every one in small fabrics; in large ones from the ends of a few longest ways, which is
    exact in trees and wherever all switches are alike.
    """
    if len(with_nics) <= _SOURCES:
        eccentricity = [max(_hops(paths, start, with_nics)) for start in with_nics]
        return max(eccentricity, default=0)
    # Sweeps: the switch furthest from anywhere is an end of a longest way in a tree, so that the
    # next sweep, from there, finds its length.
    longest = 0
    start = with_nics[0]
    for _ in range(4):
        hops = _hops(paths, start, with_nics)
        furthest = max(hops)
        longest = max(longest, furthest)
        start = with_nics[hops.index(furthest)]
    return longest


def _hops(paths: Paths, start: int, ends: list[int]) -> list[int]:
    """Return the cables from one switch to each of some."""
    far = distances(paths.ahead, start)
    return [far[end] for end in ends]


@doing("finding the longest route")
def _longest_route(config: TopologyConfig, net: Network) -> tuple[int, float]:
    """Return the links and the latency [s] of the longest routes.

    From all GPUs or, in large clusters, those of the first node.
    """
    healthy = np.flatnonzero(net.gpu_up >= 0).tolist()
    sources = healthy
    if config.gpus > _SOURCES:
        sources = healthy[: config.node.gpus]
    # The longest and the slowest way need not be the same.
    most, slowest = 0, 0.0
    for src, dst in itertools.product(sources, healthy):
        links, latency = net.route(src, dst)
        most = max(most, len(links))
        slowest = max(slowest, latency)
    return most, slowest

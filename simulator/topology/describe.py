"""A cluster in figures: counts, bisection, diameter, cost."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from simulator.topology.assembly import build, network
from simulator.topology.bisection import bisection
from simulator.topology.config import TopologyConfig
from simulator.topology.network import Network
from simulator.topology.routing import Paths, distances
from simulator.topology.switches import Switches

_SOURCES = 256
"""Starts of the search for the longest way: all of them in small clusters, the first node's in large ones."""


def describe(config: TopologyConfig) -> dict[str, Any]:
    """Return what `simulate topology` says of a cluster.

    Errors: LayoutError if the fabric cannot hold these nodes.

    switches: NVSwitches apart. links: cables between switches, as DeepSeek counts (arXiv
    2505.09343, table 3). bisection_bandwidth: [B/s in one direction]. diameter_switch_hops: cables
    between the two switches with NICs that are furthest apart. diameter_gpu_links: links of the
    longest route of two GPUs, NVLink, PCIe and NICs included; diameter_latency_s: of the slowest.
    cost_usd: null without `prices`.
    """
    switches, damage = build(config)
    net = network(config, partial=True)
    layers = Counter(vertex[0] if len(vertex) > 1 else "switch" for vertex in switches.graph)
    width, note = bisection(config, switches, net)
    hops, latency = _longest_route(config, net)
    nics = sum(width >= 0 for width in net.nic_links)
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
        "diameter_switch_hops": _switch_hops(
            net.paths, sorted({place for place in net.switch if place >= 0})
        ),
        "diameter_gpu_links": hops,
        "diameter_latency_s": latency,
        "cost_usd": _cost(config, switches, nics),
    }


def _cost(config: TopologyConfig, switches: Switches, nics: int) -> float | None:
    if config.prices is None:
        return None
    prices = config.prices
    return (
        prices.switch * len(switches.graph)
        + prices.cable * (switches.cables + nics)
        + prices.nic * nics
    )


def _switch_hops(paths: Paths, places: list[int]) -> int:
    """Return the most cables between two switches with NICs.

    From every one in small fabrics; in large ones from the ends of a few longest ways, which is
    exact in trees and wherever all switches are alike.
    """
    if len(places) <= _SOURCES:
        return max((hops for start in places for hops in _to(paths, start, places)), default=0)
    longest, start = 0, places[0]
    for _ in range(4):
        far = _to(paths, start, places)
        longest, start = max(longest, *far), places[far.index(max(far))]
    return longest


def _to(paths: Paths, start: int, places: list[int]) -> list[int]:
    far = distances(paths.ahead, start)
    return [far[place] for place in places]


def _longest_route(config: TopologyConfig, net: Network) -> tuple[int, float]:
    """Return the links and the latency [s] of the longest routes, from all GPUs or, in large clusters, the first's."""
    healthy = [g for g in range(config.gpus) if net.gpu_up[g] >= 0]
    sources = healthy if config.gpus <= _SOURCES else healthy[: config.node.gpus]
    routes = [net.route(src, dst) for src, dst in itertools.product(sources, healthy)]
    return max(len(links) for links, _ in routes), max(latency for _, latency in routes)

"""The cluster: its configuration, the graph of its fabric, its links as arrays, its routes.

`TopologyConfig` -> `Switches` (what a family builds) -> `Network` (arrays, what the
simulation runs on).

`cluster`, `config`: what a topology file says. `families`: one function and one row of FABRICS
each, on a `cabling`, a graph of switches. `faults`: what is down or slow. `jitter`: what is slower
by chance, `spread`: how slow that makes a group. `routing`: ways between switches. `assembly`:
servers put on the fabric. `network`: the result. `wiring`: results that differ in bandwidths alone.
`graph`: all of it for networkx. `bisection`: what two halves can send each other.
"""

from __future__ import annotations

from simulator.topology.assembly import network
from simulator.topology.cluster import Fabric, Node, Prices
from simulator.topology.config import TopologyConfig
from simulator.topology.describe import describe
from simulator.topology.families import FABRICS
from simulator.topology.faults import Fault
from simulator.topology.graph import as_graph
from simulator.topology.jitter import Jitter
from simulator.topology.labels import KINDS
from simulator.topology.link_kind import LinkKind
from simulator.topology.network import Network
from simulator.topology.routing import SINGLE_CABLES
from simulator.topology.spread import (
    Crowd,
    deviation_of_largest,
    expected_largest,
    expected_slowest,
)
from simulator.topology.wiring import wired

__all__ = [
    "FABRICS",
    "KINDS",
    "SINGLE_CABLES",
    "Crowd",
    "Fabric",
    "Fault",
    "Jitter",
    "LinkKind",
    "Network",
    "Node",
    "Prices",
    "TopologyConfig",
    "as_graph",
    "describe",
    "deviation_of_largest",
    "expected_largest",
    "expected_slowest",
    "network",
    "wired",
]

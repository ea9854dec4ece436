"""Layers priced once: seconds by phase, FLOPs and bytes of each block under each load.

`loads` says what experts get, `hosts` what launching takes, `phases` cuts ops into segments and
times them, `pricer` does so for blocks, `pricing` for a scenario, `table` answers by block and stage,
`buckets` are the parameters that travel.
"""

from __future__ import annotations

from simulator.costs.blocks import (
    BlockCost,
    BlockMemory,
    Coverage,
    Held,
    LoadedKey,
    PhaseCost,
    Stages,
)
from simulator.costs.coverage import coverage
from simulator.costs.hosts import NO_LAUNCH, Hosts
from simulator.costs.loads import layer_visits, loads
from simulator.costs.pricing import block_seconds, price, price_loads, work
from simulator.costs.segments import Busy, Hop, Join, Launches, Segment
from simulator.costs.table import Costs, Part

__all__ = [
    "NO_LAUNCH",
    "BlockCost",
    "BlockMemory",
    "Busy",
    "Costs",
    "Coverage",
    "Held",
    "Hop",
    "Hosts",
    "Join",
    "Launches",
    "LoadedKey",
    "Part",
    "PhaseCost",
    "Segment",
    "Stages",
    "block_seconds",
    "coverage",
    "layer_visits",
    "loads",
    "price",
    "price_loads",
    "work",
]

"""Degrees, ranks and groups of a parallel layout, and the map from blocks to pipeline stages.

`config`: what a workload says. `ranks`: who is where, and the groups that talk. `resolve`: the
product rules. `stages`: blocks -> stages. `zero`: what ZeRO shards.
"""

from __future__ import annotations

from simulator.layout.config import LayoutConfig
from simulator.layout.ranks import GROUPS, Layout
from simulator.layout.resolve import resolve
from simulator.layout.stages import balance, cut, even, parse_stages, print_stages
from simulator.layout.zero import ZeroStage

__all__ = [
    "GROUPS",
    "Layout",
    "LayoutConfig",
    "ZeroStage",
    "balance",
    "cut",
    "even",
    "parse_stages",
    "print_stages",
    "resolve",
]

"""Topology + workload, cross-checked: the one value that says what is simulated.

`config`: what a workload file says. `value`: Scenario. `reader`: files -> Scenario. `check`: what
must agree.
"""

from __future__ import annotations

from simulator.scenario.check import host_pace
from simulator.scenario.config import LIST_KEYS, QUANTITIES, Assumption, Quantity, WorkloadConfig
from simulator.scenario.moot import Moot, moot_keys
from simulator.scenario.pipeline import Pipeline
from simulator.scenario.reader import (
    build,
    inline,
    load,
    override,
    owner,
    variants,
    vary,
    workload_of,
)
from simulator.scenario.value import Documents, Scenario

__all__ = [
    "LIST_KEYS",
    "QUANTITIES",
    "Assumption",
    "Documents",
    "Moot",
    "Pipeline",
    "Quantity",
    "Scenario",
    "WorkloadConfig",
    "build",
    "host_pace",
    "inline",
    "load",
    "moot_keys",
    "override",
    "owner",
    "variants",
    "vary",
    "workload_of",
]

"""What other scenarios say of this one: remedies, penalties of inequality, alternatives.

Each answer simulates or prices scenarios that differ in one thing. A summary needs none of them.
"""

from __future__ import annotations

from simulator.whatif.alternatives import Alternative, Span, spans
from simulator.whatif.hosts import HostInterval, host_interval
from simulator.whatif.penalties import Imbalance, Stragglers, imbalance, stragglers
from simulator.whatif.remedies import Remedy, remedies
from simulator.whatif.sensitivity import Sensitivity, sensitivity
from simulator.whatif.spread import Spread, SpreadCost, spread_cost
from simulator.whatif.studies import Study, simulate, study
from simulator.whatif.waits import Waits, waits

__all__ = [
    "Alternative",
    "HostInterval",
    "Imbalance",
    "Remedy",
    "Sensitivity",
    "Span",
    "Spread",
    "SpreadCost",
    "Stragglers",
    "Study",
    "Waits",
    "host_interval",
    "imbalance",
    "remedies",
    "sensitivity",
    "simulate",
    "spans",
    "spread_cost",
    "stragglers",
    "study",
    "waits",
]

"""What other scenarios say of this one: remedies, penalties of inequality, alternatives.

Each answer simulates or prices scenarios that differ in one thing. A summary needs none of them.
"""

from __future__ import annotations

from simulator.whatif.alternatives import Alternative, Span, spans
from simulator.whatif.hosts import HostInterval, host_interval
from simulator.whatif.penalties import Imbalance, Stragglers, imbalance, stragglers
from simulator.whatif.remedies import Remedy, remedies
from simulator.whatif.studies import Study, simulate, study

__all__ = [
    "Alternative",
    "HostInterval",
    "Imbalance",
    "Remedy",
    "Span",
    "Stragglers",
    "Study",
    "host_interval",
    "imbalance",
    "remedies",
    "simulate",
    "spans",
    "stragglers",
    "study",
]

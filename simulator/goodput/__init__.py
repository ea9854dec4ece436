"""Weeks, not steps: what of a run's wall time is training, and what failures, restarts and checkpoints take.

    Risks + work --replica--> Outcome, many seeded ones --goodput--> Goodput (P10, P50, P90)

`risks`: what may happen to a run. `replica`: one run, by SimPy. `closed_forms`: what the mean of many
must be for periodic checkpoints and exponential failures, and the best interval by Young and by Daly.
`many`: replicas and their quantiles.
"""

from __future__ import annotations

from simulator.goodput.closed_forms import daly_interval, expected_wall, young_interval
from simulator.goodput.many import Goodput, goodput
from simulator.goodput.replica import Outcome, replica
from simulator.goodput.risks import Cause, Checkpoints, Maintenance, Risks, Slow

__all__ = [
    "Cause",
    "Checkpoints",
    "Goodput",
    "Maintenance",
    "Outcome",
    "Risks",
    "Slow",
    "daly_interval",
    "expected_wall",
    "goodput",
    "replica",
    "young_interval",
]

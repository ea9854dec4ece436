"""Lower bounds on the step: no simulated step may be faster than any of them."""

from __future__ import annotations

from simulator.bounds.closed_forms import (
    Bound,
    bounds,
    busiest_link,
    calls,
    link_seconds,
    model_flops,
    traffic,
)
from simulator.bounds.critical_path import CODE, critical_path

__all__ = [
    "CODE",
    "Bound",
    "bounds",
    "busiest_link",
    "calls",
    "critical_path",
    "link_seconds",
    "model_flops",
    "traffic",
]

"""Token routing -> byte matrices: who chooses which expert, where it lives, what travels.

    config -> popularity [layer, expert] -> sampled choices [token, top_k] -> copies [src, dst]
           -> seconds of a kernel

`survey` goes from a configuration to what one token does in each MoE layer; a row of `WAYS`
turns that into copies on links, whose bytes follow from those of a token.
"""

from simulator.experts.config import ExpertsConfig
from simulator.experts.eplb import Plan, rebalance
from simulator.experts.kernels import Rates, Time, kernel_time
from simulator.experts.load import GpuLoad, Load, Loads, all_even, even_load, worst_load
from simulator.experts.micro_batch import typical
from simulator.experts.popularity import DISTRIBUTIONS, gini, max_violation, popularity
from simulator.experts.routing import (
    SAMPLED_TOKENS,
    Routing,
    choose,
    distinct,
    route,
    sample,
    weights,
)
from simulator.experts.survey import survey
from simulator.experts.traffic import WAYS, Copies, Visits, Way

__all__ = [
    "DISTRIBUTIONS",
    "SAMPLED_TOKENS",
    "WAYS",
    "Copies",
    "ExpertsConfig",
    "GpuLoad",
    "Load",
    "Loads",
    "Plan",
    "Rates",
    "Routing",
    "Time",
    "Visits",
    "Way",
    "all_even",
    "choose",
    "distinct",
    "even_load",
    "gini",
    "kernel_time",
    "max_violation",
    "popularity",
    "rebalance",
    "route",
    "sample",
    "survey",
    "typical",
    "weights",
    "worst_load",
]

"""Measured exchanges of tokens compared with what the simulator says of them.

Kernels that ran alone, with their SMs: the figures of results/dispatch.md. None is of a training
step.
"""

from simulator.residuals.exchanges.benchmark import (
    BF16,
    FP8,
    NVLINK,
    Run,
    Setting,
    cluster,
    routing_of,
    timed,
)
from simulator.residuals.exchanges.classes import ENOUGH, HYBRID, NCCL_FROM, Exchanges, exchanges
from simulator.residuals.exchanges.curves import Curve, curves

__all__ = [
    "BF16",
    "ENOUGH",
    "FP8",
    "HYBRID",
    "NCCL_FROM",
    "NVLINK",
    "Curve",
    "Exchanges",
    "Run",
    "Setting",
    "cluster",
    "curves",
    "exchanges",
    "routing_of",
    "timed",
]

"""GEMMs -> seconds: waves of output tiles over the SMs, or HBM."""

from __future__ import annotations

import math
from math import ceil

from simulator.hardware import GemmModel, GpuConfig
from simulator.ops import Op


def gemm_seconds(op: Op, gpu: GpuConfig, model: GemmModel, peak: float, sms: int) -> float:
    """Return the time of a GEMM inside a training process [s].

    peak: of its dtype on all SMs [FLOP/s]. sms: those that it may use.
    """
    rate = peak / gpu.sms * model.mainloop  # of one SM [FLOP/s]
    on_sms = _waves(op, model, rate, sms)
    on_memory = op.bytes / (gpu.memory.bandwidth * model.memory)
    # Tiles are loaded while others are multiplied, so the slower of the two counts; the ramp
    # fills the pipeline before either is at its rate.
    return (model.ramp + max(on_sms, on_memory)) * model.sustained


def _waves(op: Op, model: GemmModel, rate: float, sms: int) -> float:
    """Return the time of a GEMM's output tiles on the SMs, with the tile that is fastest [s].

    Each SM computes a tile at a time; the last wave takes as long as a full one. rate: of one SM
    with the largest tile [FLOP/s].
    """
    groups, m, n, k = op.shape
    best = math.inf
    for rows, columns, relative in model.tiles:
        per_problem = ceil(m / rows) * ceil(n / columns)
        waves = ceil(groups * per_problem / sms)
        flops = 2.0 * rows * columns * k  # of one tile
        mainloop = flops / (rate * relative)
        best = min(best, waves * (mainloop + model.tile))
    return best

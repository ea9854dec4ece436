"""GEMMs of many problems, the experts of a GPU, -> seconds: waves of their tiles, and HBM."""

from __future__ import annotations

import math
from math import ceil

from simulator.hardware import GpuConfig, GroupedModel
from simulator.ops import Op

STREAMS = 4
"""Streams on which Transformer Engine runs one GEMM per expert (common/util/multi_stream.cpp)."""


def grouped_seconds(
    op: Op, gpu: GpuConfig, model: GroupedModel, peak: float, sms: int, slower: float = 1.0
) -> float:
    """Return the time of a grouped GEMM [s].

    peak: of its dtype on all SMs [FLOP/s]. sms: those that it may use. slower: their clock.
    """
    mainloop = model.mainloop_of.get(gpu.name, model.mainloop)
    rate = peak / gpu.sms * mainloop  # of one SM [FLOP/s]
    on_sms = _waves(op, model, rate, sms) * slower
    on_memory = op.bytes / (gpu.memory.bandwidth * model.memory)
    # One kernel per problem: those of different streams fill and drain while others multiply.
    ramps = ceil(op.launches / STREAMS)
    return model.ramp * ramps + _together(on_sms, on_memory, model.exponent)


def _together(on_sms: float, on_memory: float, exponent: float) -> float:
    """Return the time of what runs on SMs and HBM at once [s]. exponent: see `GroupedModel`."""
    if exponent == 2:
        return math.hypot(on_sms, on_memory)
    powers = on_sms**exponent + on_memory**exponent
    both: float = powers ** (1 / exponent)
    return both


def _waves(op: Op, model: GroupedModel, rate: float, sms: int) -> float:
    """Return the time of all problems' tiles on the SMs, with the tile that is fastest [s].

    rate: of one SM with the largest tile [FLOP/s].
    """
    groups, m, n, k = op.shape
    best = math.inf
    for rows, columns, relative in model.tiles:
        # Rows that differ end anywhere in a tile: the last one is half full on average.
        of_rows = max(1.0, m / rows + 0.5) if op.uneven else ceil(m / rows)
        tiles = groups * of_rows * ceil(n / columns)
        flops = 2.0 * rows * columns * k  # of one tile
        mainloop = flops / (rate * relative)
        waves = ceil(tiles / sms)
        best = min(best, waves * (mainloop + model.tile))
    return best

"""GEMMs of many problems, the experts of a GPU, -> seconds: waves of their tiles, and HBM."""

from __future__ import annotations

import math
from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

from simulator.hardware import GpuConfig, GroupedModel
from simulator.ops import Op


class Share(NamedTuple):
    """What of a GPU a GEMM gets."""

    sms: int
    """SMs that it may use."""
    streams: int = 1
    """On which kernels run, where it is one kernel per problem."""
    slower: float = 1.0
    """Time of SMs relative to that at their clock in a benchmark loop."""


def grouped_seconds(
    op: Op, gpu: GpuConfig, model: GroupedModel, peak: float, share: Share
) -> float:
    """Return the time of a grouped GEMM [s].

    peak: of its dtype on all SMs [FLOP/s].
    """
    mainloop = model.mainloop_of.get(gpu.name, model.mainloop)
    rate = peak / gpu.sms * mainloop  # of one SM [FLOP/s]
    of_tiles = _kernels if op.launches > 1 else _waves
    on_sms = of_tiles(op, model, rate, share) * share.slower
    on_memory = op.bytes / (gpu.memory.bandwidth * model.memory)
    # One kernel per problem: those of different streams fill and drain while others multiply.
    ramps = ceil(op.launches / share.streams)
    return model.ramp * ramps + _together(on_sms, on_memory, model.exponent)


def _together(on_sms: float, on_memory: float, exponent: float) -> float:
    """Return the time of what runs on SMs and HBM at once [s]. exponent: see `GroupedModel`."""
    if exponent == 2:
        return math.hypot(on_sms, on_memory)
    powers = on_sms**exponent + on_memory**exponent
    both: float = powers ** (1 / exponent)
    return both


class _Tiles(NamedTuple):
    """One problem cut into tiles."""

    number: float
    """How many, a mean where rows differ."""
    seconds: float
    """Of one tile on an SM [s]."""


def _cut(op: Op, model: GroupedModel, rate: float) -> Iterator[_Tiles]:
    """Yield a problem cut into each kind of tiles. rate: of one SM with the largest [FLOP/s]."""
    _, m, n, k = op.shape
    for rows, columns, relative in model.tiles:
        # Rows that differ end anywhere in a tile: the last one is half full on average.
        of_rows = max(1.0, m / rows + 0.5) if op.uneven else ceil(m / rows)
        flops = 2.0 * rows * columns * k
        yield _Tiles(of_rows * ceil(n / columns), flops / (rate * relative) + model.tile)


def _waves(op: Op, model: GroupedModel, rate: float, share: Share) -> float:
    """Return the time of all problems' tiles on the SMs, with the tile that is fastest [s]."""
    groups = op.shape.groups
    cut = _cut(op, model, rate)
    return min(ceil(groups * tiles.number / share.sms) * tiles.seconds for tiles in cut)


def _kernels(op: Op, model: GroupedModel, rate: float, share: Share) -> float:
    """Return the time of one kernel per problem, as many at once as there are streams [s].

    Each call chooses its tile as if it had the GPU to itself. The next kernel of a stream waits for
    all tiles of the one before.
    """

    def alone(tiles: _Tiles) -> float:
        return ceil(tiles.number / share.sms) * tiles.seconds

    chosen = min(_cut(op, model, rate), key=alone)
    rounds, left = divmod(op.shape.groups, share.streams)
    waves = rounds * ceil(share.streams * chosen.number / share.sms)
    waves += ceil(left * chosen.number / share.sms)
    return waves * chosen.seconds

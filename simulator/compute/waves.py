"""The wave model of a GEMM: output tiles over the SMs, or HBM, whichever is slower."""

from __future__ import annotations

import math
from math import ceil
from typing import NamedTuple

from simulator.hardware import GemmModel, GpuConfig
from simulator.ops import Op


# A named tuple of numbers: it is hashed with every shape whose ratio is kept, see `grid`.
class Waves(NamedTuple):
    """A GEMM model on a GPU."""

    sms: int
    """All SMs of the GPU."""
    rate: float
    """Of one SM with the largest tile [FLOP/s]."""
    bandwidth: float
    """That it reaches from and to HBM [B/s]."""
    tile: float
    """Of the prologue and epilogue of a tile [s]."""
    ramp: float
    """To fill and drain the kernel [s]."""
    tail: float
    """Share of the idle time in the last wave that costs time."""
    tiles: tuple[tuple[int, int, float], ...]
    """Rows, columns and relative rate of the tiles to choose from."""

    def seconds(self, op: Op, sms: int, slower: float = 1.0) -> float:
        """Return the time of a GEMM [s]. sms: those that it may use. slower: its SMs' clock."""
        on_sms = self._on_sms(op, sms) * slower
        on_memory = op.bytes / self.bandwidth
        # Tiles are loaded while others are multiplied, so the slower of the two counts; the ramp
        # fills the pipeline before either is at its rate.
        return self.ramp + max(on_sms, on_memory)

    def _on_sms(self, op: Op, sms: int) -> float:
        """Return the time of the output tiles, with the tile that is fastest [s]."""
        groups, m, n, k = op.shape
        best = math.inf
        for rows, columns, relative in self.tiles:
            count = groups * ceil(m / rows) * ceil(n / columns)
            # Each SM computes a tile at a time: what is left for the last wave takes as long as a
            # full one, but for the part that a library splits among all SMs.
            full = count / sms
            waves = max(1.0, full + self.tail * (ceil(full) - full))
            flops = 2.0 * rows * columns * k  # of one tile
            mainloop = flops / (self.rate * relative)
            best = min(best, waves * (mainloop + self.tile))
        return best


def waves(gpu: GpuConfig, model: GemmModel, peak: float) -> Waves:
    """Return a GEMM model on a GPU. peak: of its dtype on all SMs [FLOP/s]."""
    return Waves(
        sms=gpu.sms,
        rate=peak / gpu.sms * model.mainloop_of.get(gpu.name, model.mainloop),
        bandwidth=gpu.memory.bandwidth * model.memory,
        tile=model.tile,
        ramp=model.ramp,
        tail=model.tail,
        tiles=model.tiles,
    )

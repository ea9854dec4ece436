"""GEMMs -> seconds: the wave model, corrected by what was measured around their shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from simulator.compute.curves import between
from simulator.compute.grid import grid, loop_seconds, ratio
from simulator.compute.power import measured_on
from simulator.compute.waves import waves
from simulator.hardware import GemmModel, GpuConfig, MeasuredGemms
from simulator.ops import Op
from simulator.precision import PEAK


class Clock(NamedTuple):
    """At which clock a kernel's SMs run."""

    sustained: bool = True
    """Whether the power limit has taken it down, as in a training step; not in a benchmark loop."""
    stretch: float = 1.0
    """See `power.stretch`."""

    def slower(self, in_burst: float) -> float:
        """Return the time of SMs over that in a benchmark loop.

        in_burst: the same of the measured GPU at its own limit, see `burst`.
        """
        if not self.sustained:
            return 1.0
        # No SM runs faster than without a limit.
        return in_burst if self.stretch == 1.0 else max(1.0, in_burst * self.stretch)


SUSTAINED = Clock()
"""Of a training process on a measured GPU at the limit that it comes with."""


def gemm_seconds(
    op: Op, gpu: GpuConfig, model: GemmModel, peak: float, sms: int, clock: Clock = SUSTAINED
) -> float:
    """Return the time of a GEMM [s].

    peak: of its dtype on all SMs [FLOP/s]. sms: those that it may use.
    """
    on_gpu = waves(gpu, model, peak)
    known = model.measured.get(gpu.relative or gpu.name)
    if known is None:
        in_loop = on_gpu.seconds(op, sms, clock.slower(1.0))
        return in_loop * model.sustained if clock.sustained else in_loop
    if op.shape.groups > 1:
        # The kernel of many problems is another one than that of the grid.
        length = on_gpu.seconds(op, sms)
        corrected = 1.0
    else:
        shape = (op.shape.m, op.shape.n, op.shape.k)
        # The clock at which the ratio was measured, which beyond the grid is that at its edge.
        length = loop_seconds(known.grid, known.dtype, shape) / known.speed
        corrected = _corrected(op, gpu, model, known)
    # A benchmark's loop of short kernels ends before the power limit takes the clock down, a
    # training step does not. HBM keeps its own clock.
    slower = clock.slower(burst(known.burst, length))
    return corrected * on_gpu.seconds(op, sms, slower)


def _corrected(op: Op, gpu: GpuConfig, model: GemmModel, known: MeasuredGemms) -> float:
    """Return measured over computed around a GEMM's shape."""
    source = measured_on(gpu)
    if source.sms != gpu.sms:
        return 1.0  # other shapes fill its waves, so that the ratio at this one says nothing
    on_source = waves(source, model, source.peak[PEAK[op.dtype]])
    shape = (op.shape.m, op.shape.n, op.shape.k)
    return ratio(known.grid, known.dtype, on_source, shape) / known.speed


def inside(op: Op, gpu: GpuConfig, model: GemmModel) -> bool:
    """Tell whether GEMMs around the op's shape were measured on the GPU."""
    known = model.measured.get(gpu.name)  # a relative's are an estimate
    if known is None or known.speed != 1.0:  # and so are another format's times, scaled
        return False
    return grid(known.grid, known.dtype).holds(op.shape)


def burst(curve: Mapping[float, float], seconds: float) -> float:
    """Return the rate in a benchmark loop of kernels of a length over the sustained one.

    Linear in the logarithm of the length between those of the curve, constant beyond. seconds: of
    the kernel in that loop.
    """
    if not curve:
        return 1.0
    return between(curve, seconds)

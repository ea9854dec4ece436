"""GEMMs -> seconds: the wave model, corrected by what was measured around their shape."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.compute.curves import between
from simulator.compute.grid import grid, loop_seconds, ratio
from simulator.compute.waves import waves
from simulator.hardware import GemmModel, GpuConfig
from simulator.ops import Op


def gemm_seconds(
    op: Op, gpu: GpuConfig, model: GemmModel, peak: float, sms: int, *, sustained: bool = True
) -> float:
    """Return the time of a GEMM [s].

    peak: of its dtype on all SMs [FLOP/s]. sms: those that it may use. sustained: inside a training
    process, else in a benchmark loop.
    """
    on_gpu = waves(gpu, model, peak)
    known = model.measured.get(gpu.name)
    if known is None:
        in_loop = on_gpu.seconds(op, sms)
        return in_loop * model.sustained if sustained else in_loop
    if op.shape.groups > 1:
        # The kernel of many problems is another one than that of the grid.
        length = on_gpu.seconds(op, sms)
        corrected = 1.0
    else:
        shape = (op.shape.m, op.shape.n, op.shape.k)
        # The clock at which the ratio was measured, which beyond the grid is that at its edge.
        length = loop_seconds(known.grid, known.dtype, shape) / known.speed
        corrected = ratio(known.grid, known.dtype, on_gpu, shape) / known.speed
    # A benchmark's loop of short kernels ends before the power limit takes the clock down, a
    # training step does not. HBM keeps its own clock.
    slower = burst(known.burst, length) if sustained else 1.0
    return corrected * on_gpu.seconds(op, sms, slower)


def inside(op: Op, gpu: GpuConfig, model: GemmModel) -> bool:
    """Tell whether GEMMs around the op's shape were measured on the GPU."""
    known = model.measured.get(gpu.name)
    if known is None or known.speed != 1.0:  # another format's times, scaled, are an estimate
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

"""Power limits -> clocks: how much longer SMs take than those of the GPU that was measured."""

from __future__ import annotations

from functools import lru_cache

from simulator import inputs
from simulator.hardware import GpuConfig, PowerLaw


@lru_cache(maxsize=8)  # data of the package: it is the same whoever asks first
def _sheet(name: str) -> GpuConfig:
    return inputs.validate(inputs.data("gpus", name), GpuConfig)


@lru_cache(maxsize=1)
def power_law() -> PowerLaw:
    """Return how the rate of SMs follows from the power limit."""
    return inputs.validate(inputs.data("power", "limit"), PowerLaw)


def measured_on(gpu: GpuConfig) -> GpuConfig:
    """Return the GPU whose measured kernels stand for this one's: itself, or its relative."""
    return _sheet(gpu.relative) if gpu.relative else gpu


def stretch(gpu: GpuConfig, limit: float) -> float:
    """Return the time of an SM under a power limit over the measured GPU's under its own.

    Both in times of their clock without a limit, which the peak names. 1 for the measured GPU at
    the limit that it comes with. limit: of one GPU [W], 0 as it comes.
    """
    if not gpu.relative and not limit:
        return 1.0
    return gpu.peak_of_sm / measured_on(gpu).peak_of_sm / clock(gpu, limit)


def clock(gpu: GpuConfig, limit: float) -> float:
    """Return the clock of an SM under a power limit over the measured GPU's under its own.

    limit: see `stretch`.
    """
    if not gpu.relative and not limit:
        return 1.0
    # What an SM may draw decides its clock, how many of them there are does not.
    return power_law().clock((limit or gpu.power) / gpu.sms, measured_on(gpu))

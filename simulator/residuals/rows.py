"""Classes of what was measured, each row with what the kernel table says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator import inputs
from simulator.compute import Processor
from simulator.hardware import GpuConfig, KernelConfig
from simulator.ops import Op
from simulator.ops.op import gemm, wgrad
from simulator.precision import Dtype

Floats = NDArray[np.float64]


class Timed(NamedTuple):
    """An op, and how long it took."""

    op: Op
    """What ran."""
    us: float
    """Time in a benchmark loop [us]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What was measured and what is computed, row by row."""

    name: str
    """What was measured."""
    measured: Floats
    """Times as they were published [row] s."""
    computed: Floats
    """Times by the kernel table [row] s."""

    @property
    def errors(self) -> Floats:
        """Return the signed relative errors [row]."""
        errors: Floats = self.computed / self.measured - 1.0
        return errors

    @property
    def bias(self) -> float:
        """Return the mean of the signed errors."""
        return float(self.errors.mean())

    @property
    def rms(self) -> float:
        """Return the root of the mean square of the errors."""
        return float(np.sqrt((self.errors**2).mean()))

    @property
    def worst(self) -> float:
        """Return the error furthest from zero."""
        return float(self.errors[np.abs(self.errors).argmax()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Residuals(Compared):
    """One class of op in a benchmark loop."""

    group: str
    """Kind of figure: GEMM, memory-bound, attention or link."""
    gpu: str
    """GPU on which it was measured."""
    fitted: bool
    """Whether the table's constants come from these rows; otherwise they are a check."""


def processor(
    gpu: str, reserved_sms: int = 0, attention: str = "", *, own_grouped: bool = True
) -> Processor:
    """Return a shipped GPU with its kernel table. For the rest see `Processor`."""
    sheet = inputs.validate(inputs.data("gpus", gpu), GpuConfig)
    kernels = inputs.validate(inputs.data("kernels", sheet.kernels), KernelConfig)
    return Processor(sheet, kernels, reserved_sms, attention, own_grouped=own_grouped)


def gemm_of(row: Mapping[str, Any], dtype: Dtype, groups: int = 1) -> Op:
    """Return the GEMM of a row with the columns m, n and k."""
    m, n, k = (int(row[size]) for size in "mnk")
    return gemm("", m, n, k, dtype, groups)


def wgrad_of(row: Mapping[str, Any], dtype: Dtype, groups: int = 1) -> Op:
    """Return the weight gradient of a row with the columns m, n and k."""
    m, n, k = (int(row[size]) for size in "mnk")
    return wgrad("", m, n, k, dtype, groups)


def rated(op: Op, tflops: float) -> Timed:
    """Return an op whose rate was published [TFLOP/s]."""
    return Timed(op, us=op.flops / tflops / 1e6)


def column(rows: Iterable[Mapping[str, Any]], name: str, unit: float = 1e-6) -> Floats:
    """Return a column of numbers [row]. unit: of the column, in SI; us by default."""
    return np.array([float(row[name]) * unit for row in rows])


def benchmark(part: Processor, ops: Iterable[Op]) -> Floats:
    """Return what the ops take in a benchmark loop, alone [op] s."""
    # In a training process the clock is lower than in a loop of a few short kernels.
    in_loop = replace(part, sustained=False)
    return np.array([in_loop.kernel(op, overlapped=False) for op in ops])


def against_table(
    group: str, name: str, part: Processor, fitted: bool, measured: Sequence[Timed]
) -> Residuals:
    """Return ops in a benchmark loop next to what the table says of them."""
    us = np.array([timed.us for timed in measured])  # [row]
    computed = benchmark(part, [timed.op for timed in measured])
    return Residuals(
        group=group,
        name=name,
        gpu=part.gpu.name,
        fitted=fitted,
        measured=us * 1e-6,
        computed=computed,
    )


def measured_table(name: str) -> dict[str, Any]:
    """Return one of the package's tables of published measurements."""
    table: dict[str, Any] = inputs.data("measured", name).data
    return table

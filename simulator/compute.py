"""An op -> seconds on a GPU, with efficiencies from its kernel table, never from the scenario."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from simulator.errors import InputError
from simulator.hardware import AttentionModel, GemmModel, GpuConfig, KernelConfig
from simulator.ops import Op
from simulator.precision import PEAK, Dtype


@dataclass(frozen=True, slots=True)
class Processor:
    """A GPU with its kernel table, and the SMs that communication kernels keep for themselves."""

    gpu: GpuConfig
    """The datasheet."""
    kernels: KernelConfig
    """Measured efficiencies of its kernels."""
    reserved_sms: int = 0
    """SMs that persistent GEMMs leave to communication all the time.

    Every GEMM of DeepSeek's profile has a grid of 112 of 132, also while no communication runs.
    Other kernels lose these SMs only while communication runs.
    """
    attention: str = ""
    """Implementation of fused attention, by its name in the kernel table; "": the default."""

    def seconds(self, ops: Iterable[Op], *, overlapped: bool) -> float:
        """Return the time of kernels run one after another [s], gaps included.

        overlapped: communication kernels run at the same time.
        """
        total = 0.0
        for op in ops:
            if _runs(op):
                total += self.kernel(op, overlapped=overlapped) + self.kernels.gap
        return total

    def kernel(self, op: Op, *, overlapped: bool) -> float:
        """Return the time of one kernel [s]."""
        if op.kind in ("gemm", "wgrad"):
            slower = self.kernels.overlap_slowdown.gemm if overlapped else 1.0
            return self._gemm(op) * slower
        if op.flops:
            return self._attention(op, overlapped=overlapped)
        return self._memory_bound(op, overlapped=overlapped)

    def _memory_bound(self, op: Op, *, overlapped: bool) -> float:
        bandwidth = self.gpu.memory.bandwidth * self._share(op.kind)
        seconds = op.bytes / bandwidth
        # The shares of HBM were measured while communication ran.
        return seconds if overlapped else seconds / self.kernels.overlap_slowdown.memory

    def peak(self, dtype: Dtype) -> float:
        """Return the dense peak of a dtype [FLOP/s]. Errors: InputError where the GPU has none."""
        try:
            return self.gpu.peak[PEAK[dtype]]
        except KeyError:
            raise InputError(f"is not supported by {self.gpu.name}", value=dtype) from None

    def _share(self, kind: str) -> float:
        try:
            return self.kernels.memory[kind]
        except KeyError:
            raise InputError(
                f"has no op class '{kind}'",
                key="memory",
                file=f"simulator/data/kernels/{self.kernels.name}.yaml",
            ) from None

    def _gemm(self, op: Op) -> float:
        table = self.kernels.wgrad if op.kind == "wgrad" else self.kernels.gemm
        model = table[op.dtype]
        on_sms = self._waves(op, model)
        on_memory = op.bytes / (self.gpu.memory.bandwidth * model.memory)
        # Tiles are loaded while others are multiplied, so the slower of the two counts; the ramp
        # fills the pipeline before either is at its rate.
        return (model.ramp + max(on_sms, on_memory)) * model.sustained

    def _waves(self, op: Op, model: GemmModel) -> float:
        """Return the time of a GEMM's output tiles on the SMs, with the tile that is fastest [s].

        Each SM computes a tile at a time; the last wave takes as long as a full one.
        """
        groups, m, n, k = op.shape
        sms = self.gpu.sms - self.reserved_sms
        rate = self.peak(op.dtype) / self.gpu.sms * model.mainloop  # of one SM [FLOP/s]
        best = math.inf
        for rows, columns, relative in model.tiles:
            per_problem = ceil(m / rows) * ceil(n / columns)
            waves = ceil(groups * per_problem / sms)
            flops = 2.0 * rows * columns * k  # of one tile
            mainloop = flops / (rate * relative)
            best = min(best, waves * (mainloop + model.tile))
        return best

    def _attention(self, op: Op, *, overlapped: bool) -> float:
        width = op.shape.k
        model = self._implementation(width)
        table = model.backward if op.kind == "attention_backward" else model.forward
        # The width that was measured nearest to the op's, of two the smaller: the first one.
        nearest = min(sorted(table), key=lambda measured: abs(measured - width))
        sms = self.gpu.sms
        if overlapped:
            sms -= self.reserved_sms
        measured_rate = _interpolate(table[nearest], op.seq_length)  # on all SMs [FLOP/s]
        rate = measured_rate * sms / self.gpu.sms
        return op.flops / rate

    def _implementation(self, width: int) -> AttentionModel:
        """Return the chosen implementation.

        Where that was not measured at this width, return one that was, if there is one.
        """
        table = self.kernels.attention
        name = self.attention or self.kernels.default_attention
        if name not in table:
            raise InputError(
                f"was not measured on {self.gpu.name}",
                key="attention",
                value=name,
                remedy=f"Choose from: {', '.join(table)}.",
            )
        chosen = table[name]
        if width in chosen.forward:
            return chosen
        measured = (model for model in table.values() if width in model.forward)
        return next(measured, chosen)


def _runs(op: Op) -> bool:
    """Tell whether an op is a kernel; some only mark bytes that another op's output keeps."""
    return bool(op.flops or op.bytes)


def _interpolate(curve: dict[int, float], at: int) -> float:
    """Return the curve at a point: linear in the logarithm, constant beyond its ends."""
    points = sorted(curve)
    index = bisect_left(points, at)
    if index == 0:
        return curve[points[0]]
    if index == len(points):
        return curve[points[-1]]
    low, high = points[index - 1], points[index]
    # Sequence lengths are measured at powers of two, each as far from the next as the one before.
    span = math.log(high / low)
    weight = math.log(at / low) / span
    return curve[low] * (1 - weight) + curve[high] * weight

"""A GPU with its kernel table: ops -> seconds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.compute.attention import attention_seconds, implementation
from simulator.compute.contention import Sensitivity, sensitivity
from simulator.compute.gemm import Clock, burst, gemm_seconds, inside
from simulator.compute.grouped import Share, grouped_seconds
from simulator.compute.power import clock, stretch
from simulator.errors import InputError
from simulator.hardware import AttentionModel, GemmModel, GpuConfig, KernelConfig
from simulator.ops import Op
from simulator.ops.op import Taken
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
    own_grouped: bool = True
    """Whether grouped GEMMs are those of DeepSeek's stack, which are described as its dense ones."""
    streams: int = 1
    """On which GEMMs of one kernel per expert run."""
    sustained: bool = True
    """Whether the power limit has taken the clock down, as in a training step.

    In a benchmark's loop of short kernels it has not.
    """
    power_limit: float = 0.0
    """Of the GPU [W]; 0: the one that it comes with."""

    def seconds(self, ops: Iterable[Op], *, overlapped: bool) -> float:
        """Return the time of kernels run one after another [s], gaps included.

        overlapped: communication kernels run at the same time.
        """
        total = 0.0
        for op in ops:
            if _runs(op):
                total += self.kernel(op, overlapped=overlapped) + self.gaps(op)
        return total

    def kernel(self, op: Op, *, overlapped: bool) -> float:
        """Return the time of one kernel [s]."""
        if op.kind in ("gemm", "wgrad"):
            slower = self.kernels.overlap_slowdown.gemm if overlapped else 1.0
            return self._gemm(op) * slower
        if op.flops:
            return self._attention(op, overlapped=overlapped)
        return self._memory_bound(op, overlapped=overlapped)

    def sensitivity(self, op: Op, alone: float) -> Sensitivity:
        """Return how much of what transfers take is missing to a kernel. alone: its time [s]."""
        model = self.kernels.contention
        if not op.flops:
            return sensitivity(model.memory_sms, 1.0)
        if op.taken.seconds or op.taken.sms:
            # Its time holds Userbuffers, whose coflow takes nothing; other transfers slow it too.
            op = op._replace(taken=Taken())
            alone = self._gemm(op)
        # The nearer to HBM's bandwidth a kernel runs, the more it needs what transfers take.
        asked = op.bytes / self.gpu.memory.bandwidth / alone
        hbm = max(model.compute_hbm, min(1.0, asked))
        return sensitivity(self._lost_waves(op, alone), hbm)

    def _lost_waves(self, op: Op, alone: float) -> float:
        """Return a kernel's sensitivity to SMs: by its waves on those that NCCL leaves."""
        held = self.kernels.communication["nccl_simple"].ctas
        left = self.gpu.sms - held
        if op.kind not in ("gemm", "wgrad"):
            fewer = self._attention_on(op, left)
        elif self.reserved_sms:
            return 0.0  # it leaves SMs to transfers all the time
        else:
            fewer = self._gemm_on(op, left)
        return max(0.0, (fewer / alone - 1.0) * left / held)

    def gaps(self, op: Op) -> float:
        """Return the time between an op's kernels, and to the one before [s]."""
        # GEMMs of several experts run on several streams: only the first waits.
        kernels = 1 if op.flops else op.launches
        return self.kernels.gap * kernels

    def _memory_bound(self, op: Op, *, overlapped: bool) -> float:
        bandwidth = self.gpu.memory.bandwidth * self._share(op.kind)
        start = self.kernels.start.get(op.kind, 0.0)
        seconds = op.bytes / bandwidth + start * op.launches
        # The shares of HBM were measured while communication ran.
        if not overlapped:
            seconds /= self.kernels.overlap_slowdown.memory
        return max(seconds, self.kernels.shortest * op.launches)

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

    def measured(self, op: Op) -> bool:
        """Tell whether GEMMs around a GEMM's shape were measured on this GPU."""
        return inside(op, self.gpu, self._model(op))

    def _gemm(self, op: Op) -> float:
        transfer = op.taken
        all_sms = self.gpu.sms - self.reserved_sms
        left = min(all_sms, self.gpu.sms - transfer.sms)
        alone = self._gemm_on(op, left if transfer.margin else all_sms)
        if not transfer.seconds:
            return alone
        # Next to the transfer, and what is left of it behind.
        slowdown = self.kernels.communication["userbuffers"].gemm_slowdown
        overlapped = self._gemm_on(op, left) * slowdown
        if overlapped <= transfer.seconds:
            return overlapped
        part = transfer.seconds / overlapped
        return transfer.seconds + (1.0 - part) * alone

    def _gemm_on(self, op: Op, sms: int) -> float:
        """Return the time of a GEMM on some SMs [s]."""
        peak = self.peak(op.dtype)
        if op.shape.groups > 1 and not self.own_grouped:
            return self._grouped(op, peak, sms)
        return gemm_seconds(op, self.gpu, self._model(op), peak, sms, self._clock)

    @property
    def _clock(self) -> Clock:
        return Clock(self.sustained, stretch(self.gpu, self.power_limit))

    def _model(self, op: Op) -> GemmModel:
        table = self.kernels.wgrad if op.kind == "wgrad" else self.kernels.gemm
        return table[op.dtype]

    def _grouped(self, op: Op, peak: float, sms: int) -> float:
        tables = self.kernels.grouped_wgrad if op.kind == "wgrad" else self.kernels.grouped
        model = tables[op.dtype]
        share = Share(sms, self.streams)
        in_loop = grouped_seconds(op, self.gpu, model, peak, share)
        if not self.sustained:
            return in_loop
        # Its clock gives way as that of a dense GEMM of its length.
        known = self._model(op).measured.get(self.gpu.relative or self.gpu.name)
        slower = self._clock.slower(burst(known.burst, in_loop) if known else 1.0)
        share = share._replace(slower=slower)
        return grouped_seconds(op, self.gpu, model, peak, share) * model.sustained

    def _attention(self, op: Op, *, overlapped: bool) -> float:
        sms = self.gpu.sms
        if overlapped:
            sms -= self.reserved_sms
        return self._attention_on(op, sms)

    def _attention_on(self, op: Op, sms: int) -> float:
        """Return the time of fused attention on some SMs [s]."""
        model = implementation(self.kernels, self.attention, op.shape.k, self.gpu.name)
        return attention_seconds(op, self.gpu, model, sms, self._attention_clock(model))

    def _attention_clock(self, model: AttentionModel) -> float:
        """Return the clock that attention's SMs run at over the one of a benchmark's short loop."""
        if not self.sustained:
            return 1.0
        known = self.gpu.relative or self.gpu.name
        in_process = model.sustained_of.get(known, model.sustained)
        return clock(self.gpu, self.power_limit) / in_process


def _runs(op: Op) -> bool:
    """Tell whether an op is a kernel; some only mark bytes that another op's output keeps."""
    return bool(op.flops or op.bytes)

"""The ops of a phase -> segments of kernels with the transfers between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from simulator.compute import INSENSITIVE, Processor, Sensitivity
from simulator.costs.blocks import PhaseCost
from simulator.costs.segments import Hop, Join, Launches, Segment
from simulator.ops import Op, Transfer

MOST_KERNELS = 1 << 16
"""Different kernels that are kept; with more of them they are priced anew."""
CLASSES = {
    "gemm": "gemm",
    "wgrad": "gemm",
    "attention": "attention",
    "attention_backward": "attention",
}
"""Op kind -> class of the breakdown; every other kind is memory-bound."""


Launcher: TypeAlias = Callable[[Op, bool], float]
"""Op, and whether it is the first of its phase -> what launching it takes the host [s]."""


def _at_once(op: Op, first: bool) -> float:
    """Launch an op in no time."""
    return 0.0


class Kernel(NamedTuple):
    """What one kernel takes."""

    seconds: float
    """Alone [s]."""
    gap: float
    """Behind it [s]."""
    sensitivity: Sensitivity
    """To transfers that run next to it."""
    measured: bool
    """Whether it is a GEMM whose shape lies between measured ones."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Prices kernels, each different one once: half of a MoE layer's do not depend on its load."""

    processor: Processor
    """The GPU."""
    known: dict[Op, Kernel] = field(default_factory=dict)
    """Kernels that have been priced."""

    def of(self, op: Op) -> Kernel:
        """Return what a kernel takes."""
        known = self.known.get(op)
        if known is None:
            if len(self.known) >= MOST_KERNELS:
                self.known.clear()
            known = self.known[op] = self._priced(op)
        return known

    def _priced(self, op: Op) -> Kernel:
        processor = self.processor
        seconds = processor.kernel(op, overlapped=False)
        return Kernel(
            seconds=seconds,
            gap=processor.gaps(op),
            sensitivity=processor.sensitivity(op, seconds),
            measured=CLASSES.get(op.kind) == "gemm" and processor.measured(op),
        )


def phase_cost(
    ops: Iterable[Op | Transfer],
    kernels: Kernels,
    *,
    launcher: Launcher = _at_once,
) -> PhaseCost:
    """Return what a phase costs, alone."""
    cutter = _Cutter(kernels, launcher)
    for op in ops:
        if isinstance(op, Transfer):
            cutter.transfer(op)
        else:
            cutter.kernel(op)
    cutter.close()
    return PhaseCost(tuple(cutter.items))


@dataclass(slots=True)
class _Cutter:
    """Cuts a phase into segments: one ends where a transfer begins, or where ops wait for one."""

    kernels: Kernels
    """What prices them."""
    launcher: Launcher
    """What says how long the host needs."""
    items: list[Segment | Hop | Join] = field(default_factory=list)
    """What is cut so far."""
    run: list[Op] = field(default_factory=list)
    """Ops of the segment that is open."""
    in_flight: list[int] = field(default_factory=list)
    """For each transfer on its way, how many more ops do not wait for it."""
    launched: bool = False
    """Whether an op of the phase has been launched."""

    def transfer(self, op: Transfer) -> None:
        self.close()
        # The ops that run concurrently with it form one segment. A negative count is `ops.LATE`.
        concurrent = min(op.concurrent, 1)
        self.items.append(Hop(op, concurrent))
        if op.concurrent > 0:
            self.in_flight.append(op.concurrent)

    def kernel(self, op: Op) -> None:
        if op.joins:
            self.close()
            self.items.append(Join())
        if 0 in self.in_flight:
            # This op waits for a transfer that earlier ones did not wait for.
            self.close()
            self.in_flight = [left for left in self.in_flight if left]
        self.run.append(op)
        self.in_flight = [left - 1 for left in self.in_flight]

    def close(self) -> None:
        if self.run:
            self.items.append(self._segment())
            self.run = []

    def _segment(self) -> Segment:
        """Return the segment that is open."""
        sums = _Sums()
        for op in self.run:
            # An op of neither only marks what is kept in memory: nothing is launched for it.
            if op.flops or op.bytes:
                sums.host.append(self.launcher(op, not self.launched))
                self.launched = True
                sums.time(op, self.kernels.of(op))
            sums.flops[op.dtype] += op.flops
            if op.recompute:
                sums.recomputed += op.flops
        return sums.segment()


def _nothing() -> defaultdict[str, float]:
    return defaultdict(float)


@dataclass(slots=True)
class _Sums:
    """A segment that is being added up; fields as in `Segment` and `Launches`."""

    seconds: defaultdict[str, float] = field(default_factory=_nothing)
    """By class of op [s]."""
    flops: defaultdict[str, float] = field(default_factory=_nothing)
    """By dtype."""
    recomputed: float = 0.0
    """FLOPs."""
    measured: float = 0.0
    """Time of GEMMs [s]."""
    host: list[float] = field(default_factory=list)
    """Of launches [s]."""
    kernels: list[float] = field(default_factory=list)
    """Each with its gap [s]."""
    sensitivity: Sensitivity = INSENSITIVE
    """Times seconds."""

    def time(self, op: Op, kernel: Kernel) -> None:
        """Add a kernel's time."""
        self.seconds[CLASSES.get(op.kind, "memory_bound")] += kernel.seconds
        self.seconds["kernel_gaps"] += kernel.gap
        self.kernels.append(kernel.seconds + kernel.gap)
        self.sensitivity = self.sensitivity.plus(kernel.sensitivity, kernel.seconds)
        if kernel.measured:
            self.measured += kernel.seconds

    def segment(self) -> Segment:
        """Return the sums."""
        return Segment(
            seconds=dict(self.seconds),
            flops=dict(self.flops),
            recomputed=self.recomputed,
            launches=Launches(tuple(self.host), tuple(self.kernels)),
            measured=self.measured,
            sensitivity=self.sensitivity.mean(sum(self.seconds.values())),
        )

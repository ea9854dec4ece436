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

CLASSES = {
    "gemm": "gemm",
    "wgrad": "gemm",
    "attention": "attention",
    "attention_backward": "attention",
}
"""Op kind -> class of the breakdown; every other kind is memory-bound."""


Launcher: TypeAlias = Callable[[Op, bool], float]
"""Op, and whether it is the first of its phase -> what launching it takes the host [s]."""


class Timed(NamedTuple):
    """What a processor says of a kernel."""

    kernel: float
    """Its time, alone [s]."""
    gap: float
    """Around it [s]."""
    sensitivity: Sensitivity
    """To transfers that run next to it."""
    measured: bool
    """Whether it is a GEMM between measured shapes."""


def _timed(op: Op, processor: Processor) -> Timed:
    kernel = processor.kernel(op, overlapped=False)
    gemm = CLASSES.get(op.kind) == "gemm"
    return Timed(
        kernel=kernel,
        gap=processor.gaps(op),
        sensitivity=processor.sensitivity(op, kernel),
        measured=gemm and processor.measured(op),
    )


def _at_once(op: Op, first: bool) -> float:
    """Launch an op in no time."""
    return 0.0


def phase_cost(
    ops: Iterable[Op | Transfer],
    processor: Processor,
    *,
    launcher: Launcher = _at_once,
    known: dict[Op, Timed] | None = None,
) -> PhaseCost:
    """Return what a phase costs, alone. known: kernels that were timed before, to which its own are added."""
    cutter = _Cutter(processor, launcher, {} if known is None else known)
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

    processor: Processor
    """What prices kernels."""
    launcher: Launcher
    """What says how long the host needs."""
    known: dict[Op, Timed]
    """Kernels that were timed before: those of several experts, and of blocks under other loads, are alike."""
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
                sums.time(op, self._timed(op))
            sums.flops[op.dtype] += op.flops
            if op.recompute:
                sums.recomputed += op.flops
        return sums.segment()

    def _timed(self, op: Op) -> Timed:
        timed = self.known.get(op)
        if timed is None:
            timed = self.known[op] = _timed(op, self.processor)
        return timed


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

    def time(self, op: Op, timed: Timed) -> None:
        """Add a kernel's time."""
        name = CLASSES.get(op.kind, "memory_bound")
        kernel = timed.kernel
        self.seconds[name] += kernel
        self.seconds["kernel_gaps"] += timed.gap
        self.kernels.append(kernel + timed.gap)
        self.sensitivity = self.sensitivity.plus(timed.sensitivity, kernel)
        if timed.measured:
            self.measured += kernel

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

"""The ops of a phase -> segments of kernels with the transfers between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from simulator.compute import Processor
from simulator.costs.blocks import Hop, Join, PhaseCost, Segment
from simulator.ops import Op, Transfer

CLASSES = {
    "gemm": "gemm",
    "wgrad": "gemm",
    "attention": "attention",
    "attention_backward": "attention",
}
"""Op kind -> class of the breakdown; every other kind is memory-bound."""


def phase_cost(
    ops: Iterable[Op | Transfer], processor: Processor, *, overlapped: bool
) -> PhaseCost:
    """Return what a phase costs. overlapped: communication kernels run at the same time."""
    cutter = _Cutter(processor, overlapped)
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
    overlapped: bool
    """Whether communication kernels run at the same time."""
    items: list[Segment | Hop | Join] = field(default_factory=list)
    """What is cut so far."""
    run: list[Op] = field(default_factory=list)
    """Ops of the segment that is open."""
    in_flight: list[int] = field(default_factory=list)
    """For each transfer on its way, how many more ops do not wait for it."""

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
            segment = _segment(self.run, self.processor, overlapped=self.overlapped)
            self.items.append(segment)
            self.run = []


def _segment(ops: Iterable[Op], processor: Processor, *, overlapped: bool) -> Segment:
    seconds: defaultdict[str, float] = defaultdict(float)
    flops: defaultdict[str, float] = defaultdict(float)
    recomputed = 0.0
    measured = 0.0
    for op in ops:
        # An op of neither only marks what is kept in memory: nothing is launched for it.
        if op.flops or op.bytes:
            name = CLASSES.get(op.kind, "memory_bound")
            kernel = processor.kernel(op, overlapped=overlapped)
            seconds[name] += kernel
            seconds["kernel_gaps"] += processor.gaps(op)
            if name == "gemm" and processor.measured(op):
                measured += kernel
        flops[op.dtype] += op.flops
        if op.recompute:
            recomputed += op.flops
    return Segment(dict(seconds), dict(flops), recomputed, measured)

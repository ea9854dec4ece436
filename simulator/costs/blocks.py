"""What one block costs, as values: kernels in segments, the transfers between them, bytes kept."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

from simulator.costs.columns import BlockColumns, Counted, Timing, counted, joined, sums, timing
from simulator.costs.segments import Hop, Join, Segment, Shape
from simulator.model import BlockKind
from simulator.ops import Pass, Phase

Blocks: TypeAlias = tuple[BlockKind, ...]
"""Kinds of blocks in forward order [block]."""
Stages: TypeAlias = tuple[Blocks, ...]
"""Kinds of the blocks on each stage, in forward order [stage][block]."""


@dataclass(frozen=True)
class PhaseCost:
    """One phase of one block."""

    items: tuple[Segment | Hop | Join, ...]
    """Segments of kernels, and what stands between them, in order."""

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Return the kernels."""
        kernels = [item for item in self.items if isinstance(item, Segment)]
        return tuple(kernels)

    @property
    def hops(self) -> tuple[Hop, ...]:
        """Return the transfers."""
        transfers = [item for item in self.items if isinstance(item, Hop)]
        return tuple(transfers)

    @property
    def total(self) -> float:
        """Return the time of the phase's kernels [s]."""
        return sum(segment.total for segment in self.segments)

    @property
    def measured(self) -> float:
        """Return the time of the phase's GEMMs whose shapes lie between measured ones [s]."""
        return sum(segment.measured for segment in self.segments)

    @property
    def seconds(self) -> dict[str, float]:
        """Return the time of the phase's kernels by class of op [s]."""
        by_class: defaultdict[str, float] = defaultdict(float)
        for segment in self.segments:
            for name, seconds in segment.seconds.items():
                by_class[name] += seconds
        return dict(by_class)

    @cached_property
    def timing(self) -> Timing:
        """Return what the phase's segments keep busy, as columns."""
        return timing([one.busy for one in self.segments])

    @cached_property
    def counted(self) -> tuple[Counted, ...]:
        """Return what the phase's segments add to the sums of a rank [segment]."""
        return counted(self.segments, self.segments)

    @property
    def shape(self) -> tuple[object, ...]:
        """Return what tells the phase's items from others, whatever they take."""
        return tuple(item.shape for item in self.items)

    @cached_property
    def runs(self) -> tuple[bool, ...]:
        """Tell which of the phase's segments take time, and have a row [segment]."""
        return tuple(bool(one.total) for one in self.segments)


Repeated: TypeAlias = Literal["", "full", "experts"]
"""Phases of a forward pass that the backward pass runs once more: none, all, or those of experts."""


class BlockMemory(NamedTuple):
    """The activations of one block, or one part of an MTP module, for one micro-batch."""

    saved: float
    """Kept until the backward pass [B]."""
    recompute: Repeated = ""
    """What the backward pass runs of the forward pass first, exchanges included."""
    forward: float = 0.0
    """There besides while the forward pass runs [B]."""
    again: float = 0.0
    """There again while the backward pass runs, which recomputes it [B]."""
    backward: float = 0.0
    """There besides while the backward pass runs: gradients of activations [B]."""
    weights: float = 0.0
    """What the weight gradients read: what a split backward pass holds until they have run [B]."""
    away: float = 0.0
    """Kept until the backward pass in the memory of the host [B]."""

    @property
    def transient(self) -> float:
        """Return what is there besides what is kept while the backward pass runs [B]."""
        return self.again + self.backward


class Coverage(NamedTuple):
    """GEMM time of one micro-batch."""

    gemm: float
    """Of all GEMMs [s]."""
    measured: float
    """Of those whose shapes lie between measured ones [s]."""

    @property
    def share(self) -> float:
        """Return the measured share, 0 where nothing is multiplied."""
        return self.measured / self.gemm if self.gemm else 0.0


# Memory stands next to the time of what it serves, because recompute trades one for the other.
@dataclass(frozen=True)
class BlockCost:
    """One block, or one part of an MTP module, for one micro-batch."""

    load: int
    """Which of the scenario's expert loads its exchanges carry; -1 if no token travels."""
    phases: dict[Phase, PhaseCost]
    """Phase -> cost, alone: what runs next to transfers the engine slows down."""
    memory: BlockMemory
    """What it keeps, and what is there while its passes run."""
    mean: BlockCost | None = None
    """What the block costs a GPU of mean load, where this is the cost of the busiest one."""

    @property
    def saved(self) -> float:
        """Return the bytes kept until the backward pass [B]."""
        return self.memory.saved

    @property
    def recompute(self) -> Repeated:
        """Return what its backward pass runs of the forward pass first, exchanges included."""
        return self.memory.recompute

    def repeats(self, phase: Phase) -> bool:
        """Tell whether its backward pass runs a phase of the forward pass first."""
        if self.recompute == "experts":
            return phase == Phase.MLP_F
        return self.recompute == "full" and phase.computes == Pass.FORWARD

    @property
    def exchanges_experts(self) -> bool:
        """Tell whether tokens travel to the block's experts and back."""
        # Experts that stay on their own GPU have rows to compute and no load to send.
        return self.load >= 0

    @cached_property
    def coverage(self) -> Coverage:
        """Return how much of the time of the block's GEMMs was measured."""
        gemm, measured = 0.0, 0.0
        for phase in Phase:
            cost = self.phases[phase]
            # What is recomputed as a whole runs once more.
            times = 2 if self.repeats(phase) else 1
            gemm += times * cost.seconds.get("gemm", 0.0)
            measured += times * cost.measured
        return Coverage(gemm, measured)

    def _shared(self, shape: Shape) -> Shape:
        """Return the shape of the block of mean load, where it is the same: one object compares at once."""
        if self.mean and self.mean.columns.shape == shape:
            return self.mean.columns.shape
        return shape

    @cached_property
    def columns(self) -> BlockColumns:
        """Return the block's segments as columns."""
        mean = self.mean or self
        first: dict[Phase, int] = {}
        segments: list[Counted] = []
        shape: list[object] = [self.exchanges_experts, self.recompute]
        for phase, cost in self.phases.items():
            alike = mean.phases[phase]
            first[phase] = len(segments)
            # Phases that do not depend on a load are those of the block of mean load.
            added = cost.counted if alike is cost else counted(cost.segments, alike.segments)
            segments += added
            names = [(tuple(one.seconds), tuple(one.flops)) for one in added]
            shape.append((phase, cost.runs, cost.shape, *names))
        timings = [cost.timing for cost in self.phases.values()]
        return BlockColumns(
            timing=joined(timings),
            counted=tuple(segments),
            sums=sums(segments),
            first=first,
            shape=self._shared(Shape(tuple(shape))),
        )


Parts: TypeAlias = tuple[BlockCost, ...]
"""One block, or the parts of an MTP module [part]."""


class LoadedKey(NamedTuple):
    """Which MoE block under which load."""

    kind: BlockKind
    """A kind that may hold routed experts."""
    load: int
    """Index into `Loads.distinct`."""
    member: int
    """Of the expert group where every GPU has a load of its own, else -1."""


class Held(NamedTuple):
    """Parameters that one GPU holds, before any sharding by ZeRO."""

    dense: float
    """Shared by all data parallel ranks."""
    routed: float
    """Of routed experts, shared by the ranks that hold the same experts."""


def together(blocks: list[BlockMemory], size: int) -> list[BlockMemory]:
    """Return memory where runs of so many layers are recomputed together, from the first one's input.

    That is Megatron-LM's --recompute-method uniform. size: 1 or less leaves each by itself.
    """
    joined: list[BlockMemory] = []
    run: list[BlockMemory] = []
    for block in blocks:
        if block.recompute != "full":
            joined += _run(run)
            run = []
            joined.append(block)
            continue
        run.append(block)
        if len(run) >= size:
            joined += _run(run)
            run = []
    return joined + _run(run)


def _run(blocks: list[BlockMemory]) -> list[BlockMemory]:
    """Return layers that are recomputed together as one."""
    if not blocks:
        return []
    first, *others = blocks
    # While the last one's backward pass runs, all of them are whole.
    again = first.again + sum(block.again + block.saved for block in others)
    joined = BlockMemory(
        saved=first.saved,
        recompute="full",
        forward=max(block.forward for block in blocks),
        again=again,
        backward=max(block.backward for block in blocks),
        weights=sum(block.weights for block in blocks),
        # Of what they keep, the inputs, only the first one's exists.
        away=first.away,
    )
    return [joined]

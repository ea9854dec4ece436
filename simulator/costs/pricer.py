"""Blocks of one run -> what they cost, each once: also for the next scenario whose blocks are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from simulator.compute import Processor
from simulator.costs.blocks import BlockCost, BlockMemory, Parts, PhaseCost
from simulator.costs.hosts import Hosts
from simulator.costs.kept import kept
from simulator.costs.phases import Kernels, phase_cost
from simulator.experts import Load
from simulator.model import BlockKind
from simulator.ops import (
    BlockOps,
    ForwardOps,
    Op,
    Phase,
    Transfer,
    Work,
    block_ops,
    forward_ops,
    loaded_forward,
    loaded_ops,
)

MOST_PRICERS = 8
"""Pricers that are kept: a sweep over links or schedules has one."""
MOST_BLOCKS = 4096
"""Blocks under a load that a pricer keeps; with more of them it begins anew."""


class Context(NamedTuple):
    """All that the costs of blocks follow from, but for the loads of their experts."""

    work: Work
    """What one micro-batch asks of a layer whose experts are equally popular."""
    processor: Processor
    """What prices kernels."""
    hosts: Hosts
    """What launches them."""
    travels: bool
    """Whether tokens leave their GPU for experts."""
    permutes: bool
    """Whether the dispatcher copies tokens before it sends them."""


class _Asked(NamedTuple):
    """A block under a load, as far as its costs depend on it."""

    kind: BlockKind
    """Which block."""
    number: int
    """Of the load, -1 where nothing travels."""
    rows: float
    """As `Work.expert_rows`."""
    received: float
    """As `Work.received`."""
    sent: float
    """As `Work.sent`."""


class _Ops(NamedTuple):
    """The ops of a block."""

    parts: tuple[BlockOps, ...]
    """With what they recompute [part]."""
    whole: tuple[ForwardOps, ...]
    """The forward pass with nothing recomputed [part]."""

    @classmethod
    def of(cls, kind: BlockKind, work: Work) -> _Ops:
        return cls(block_ops(kind, work), forward_ops(kind, _unrepeated(work)))

    def under_load(self, work: Work) -> _Ops:
        """Return the ops under another load."""
        whole = _unrepeated(work)
        parts = list(zip(self.parts, self.whole, strict=True))
        return _Ops(
            tuple(loaded_ops(ops, work) if ops.exchanges_experts else ops for ops, _ in parts),
            tuple(
                loaded_forward(forward, whole) if ops.exchanges_experts else forward
                for ops, forward in parts
            ),
        )

    def kept(self, kind: BlockKind, work: Work) -> tuple[BlockMemory, ...]:
        """Return what the parts keep."""
        return kept(kind, work, self.parts, [forward.all for forward in self.whole])


def _unrepeated(work: Work) -> Work:
    """Return work of which nothing is recomputed."""
    return replace(work, recompute=frozenset()) if work.recompute else work


@dataclass(frozen=True)
class Pricer:
    """Prices blocks in one context, and keeps what it has priced."""

    context: Context
    """What their costs follow from."""
    evens: dict[BlockKind, Parts] = field(default_factory=dict)
    """Kind -> its parts with equally popular experts."""
    ops: dict[BlockKind, _Ops] = field(default_factory=dict)
    """Kind -> the ops of these parts."""
    loads: dict[_Asked, Parts] = field(default_factory=dict)
    """Parts under a load."""

    @cached_property
    def kernels(self) -> Kernels:
        """Return what prices kernels."""
        return Kernels(self.context.processor)

    def even(self, kind: BlockKind) -> Parts:
        """Return a block's parts with equally popular experts."""
        if kind not in self.evens:
            self.evens[kind] = self._priced(kind)
        return self.evens[kind]

    def loaded(self, kind: BlockKind, number: int, load: Load, member: int) -> Parts:
        """Return a block's parts under a load. number: of the load. member: of its expert group, -1: any."""
        work = with_load(self.context.work, load, member, permutes=self.context.permutes)
        asked = _Asked(kind, number, work.expert_rows, work.received, work.sent)
        if asked not in self.loads:
            parts = self._under_load(kind, work, number)
            if len(self.loads) >= MOST_BLOCKS:
                self.loads.clear()
            self.loads[asked] = parts
        return self.loads[asked]

    def _priced(self, kind: BlockKind) -> Parts:
        """Return a block's parts with equally popular experts."""
        work = self.context.work
        ops = self.ops[kind] = _Ops.of(kind, work)
        load = 0 if self.context.travels else -1
        return tuple(
            BlockCost(
                load=load if part.exchanges_experts else -1,
                phases={phase: self._phase(part[phase], phase) for phase in Phase},
                memory=memory,
            )
            for part, memory in zip(ops.parts, ops.kept(kind, work), strict=True)
        )

    def _under_load(self, kind: BlockKind, work: Work, number: int) -> Parts:
        """Return a block's parts under a load. number: of the load.

        What does not run experts costs the same under every load.
        """
        even = self.even(kind)
        ops = self.ops[kind].under_load(work)
        parts = zip(ops.parts, ops.kept(kind, work), even, strict=True)
        return tuple(
            self._with_experts(part, memory, known, number) if part.exchanges_experts else known
            for part, memory, known in parts
        )

    def _with_experts(
        self, ops: BlockOps, memory: BlockMemory, even: BlockCost, number: int
    ) -> BlockCost:
        """Return what a part of a block costs under a load. even: the same without. number: of the load."""
        anew = {phase: self._phase(ops[phase], phase) for phase in Phase if phase.depends_on_load}
        return BlockCost(
            load=number if self.context.travels else -1,
            phases={**even.phases, **anew},
            memory=memory,
            mean=even,
        )

    def _phase(self, ops: Iterable[Op | Transfer], phase: Phase) -> PhaseCost:
        def launcher(op: Op, first: bool) -> float:
            return self.context.hosts.seconds(op, phase, first=first)

        return phase_cost(ops, self.kernels, launcher=launcher)


def with_load(work: Work, load: Load | None, member: int, *, permutes: bool) -> Work:
    """Return the work of a layer whose experts have a load on one GPU.

    member: of the expert group, -1: any. permutes: see `Context`.
    """
    rows, received = load.of(member) if load else (0.0, 0.0)
    sent = load.copies if load and permutes else 0.0
    own = work.own
    return replace(
        work,
        expert_rows=own * rows * work.etp,
        received=own * received,
        sent=own * sent,
    )


# By value, the last one used in front. Contexts have no hash, as tables of kernels have none, so that
# they are compared: that takes less than to price one phase.
_pricers: list[Pricer] = []


def pricer(context: Context) -> Pricer:
    """Return what prices blocks in a context, with what it has priced before."""
    for number, known in enumerate(_pricers):
        if known.context == context:
            _pricers.insert(0, _pricers.pop(number))
            return known
    found = Pricer(context)
    _pricers.insert(0, found)
    del _pricers[MOST_PRICERS:]
    return found

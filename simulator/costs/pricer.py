"""Blocks of one run -> what they cost, each once: also for the next scenario whose blocks are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import NamedTuple

from simulator.compute import Processor
from simulator.costs.blocks import BlockCost, BlockMemory, Parts, PhaseCost
from simulator.costs.hosts import Hosts
from simulator.costs.kept import kept
from simulator.costs.phases import phase_cost
from simulator.experts import Load
from simulator.model import BlockKind
from simulator.ops import BlockOps, Op, Phase, Transfer, Work, block_ops

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


@dataclass(frozen=True, slots=True)
class Pricer:
    """Prices blocks in one context, and keeps what it has priced."""

    context: Context
    """What their costs follow from."""
    evens: dict[BlockKind, Parts] = field(default_factory=dict)
    """Kind -> its parts with equally popular experts."""
    loads: dict[_Asked, Parts] = field(default_factory=dict)
    """The same under a load."""

    def even(self, kind: BlockKind) -> Parts:
        """Return a block's parts with equally popular experts."""
        if kind not in self.evens:
            self.evens[kind] = self._priced(kind, self.context.work, 0, ())
        return self.evens[kind]

    def loaded(self, kind: BlockKind, number: int, load: Load, member: int) -> Parts:
        """Return a block's parts under a load. number: of the load. member: of its expert group, -1: any."""
        work = with_load(self.context.work, load, member, permutes=self.context.permutes)
        asked = _Asked(kind, number, work.expert_rows, work.received, work.sent)
        if asked not in self.loads:
            parts = self._priced(kind, work, number, self.even(kind))
            if len(self.loads) >= MOST_BLOCKS:
                self.loads.clear()
            self.loads[asked] = parts
        return self.loads[asked]

    def _priced(self, kind: BlockKind, work: Work, number: int, even: Parts) -> Parts:
        """Return a block's parts. number: of their load. even: the same with equally popular experts, if known."""
        ops = block_ops(kind, work)
        memory = kept(kind, work, ops)
        load = number if self.context.travels else -1
        return tuple(
            self._block(part, load, held, known)
            for part, held, known in zip_longest(ops, memory, even)
        )

    def _block(
        self, ops: BlockOps, load: int, memory: BlockMemory, known: BlockCost | None
    ) -> BlockCost:
        """Return what one part of a block costs.

        load: number of its load, which counts where the part has experts. known: the same part with
        equally popular experts, whose other phases cost the same.
        """
        phases: dict[Phase, PhaseCost] = {}
        for phase in Phase:
            if known and not phase.depends_on_load:
                phases[phase] = known.phases[phase]
            else:
                phases[phase] = self._phase(ops[phase], phase)
        return BlockCost(
            load=load if ops.exchanges_experts else -1,
            phases=phases,
            memory=memory,
            mean=known,
        )

    def _phase(self, ops: Iterable[Op | Transfer], phase: Phase) -> PhaseCost:
        def launcher(op: Op, first: bool) -> float:
            return self.context.hosts.seconds(op, phase, first=first)

        return phase_cost(ops, self.context.processor, launcher=launcher)


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

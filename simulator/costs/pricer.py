"""Blocks of one run -> what they cost, each once: also for the next scenario whose blocks are the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from simulator.compute import Processor
from simulator.costs.blocks import BlockCost, Parts, PhaseCost
from simulator.costs.hosts import Hosts
from simulator.costs.kept import PartOps, kept, unrepeated
from simulator.costs.phases import Timed, phase_cost
from simulator.experts import Load
from simulator.model import BlockKind
from simulator.ops import (
    BlockOps,
    Op,
    Phase,
    Transfer,
    Work,
    block_ops,
    forward_ops,
    parts_of,
    under_load,
)

MOST_PRICERS = 8
"""Pricers that are kept: a sweep over links or schedules has one."""
MOST_BLOCKS = 4096
"""Blocks under a load that a pricer keeps; with more of them it begins anew."""
MOST_KERNELS = 4096
"""Kernels whose time a pricer keeps."""


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


class _Even(NamedTuple):
    """A part of a block with equally popular experts."""

    part: PartOps
    """What it runs."""
    cost: BlockCost
    """What that costs."""
    full: bool
    """Whether its block is recomputed as a whole."""


@dataclass(frozen=True, slots=True)
class Pricer:
    """Prices blocks in one context, and keeps what it has priced."""

    context: Context
    """What their costs follow from."""
    evens: dict[BlockKind, tuple[_Even, ...]] = field(default_factory=dict)
    """Kind -> its parts with equally popular experts, and what they run."""
    blocks: dict[BlockKind, Parts] = field(default_factory=dict)
    """Kind -> its parts with equally popular experts."""
    loads: dict[_Asked, Parts] = field(default_factory=dict)
    """Blocks under a load -> their parts."""
    timed: dict[Op, Timed] = field(default_factory=dict)
    """Kernels that were timed before."""

    def even(self, kind: BlockKind) -> Parts:
        """Return a block's parts with equally popular experts."""
        if kind not in self.blocks:
            self.blocks[kind] = tuple(even.cost for even in self._evens(kind))
        return self.blocks[kind]

    def loaded(self, kind: BlockKind, number: int, load: Load, member: int) -> Parts:
        """Return a block's parts under a load. number: of the load. member: of its expert group, -1: any."""
        work = with_load(self.context.work, load, member, permutes=self.context.permutes)
        asked = _Asked(kind, number, work.expert_rows, work.received, work.sent)
        parts = self.loads.get(asked)
        if parts is None:
            parts = tuple(self._under_load(even, work, number) for even in self._evens(kind))
            _make_room(self.loads, MOST_BLOCKS)
            self.loads[asked] = parts
        return parts

    def _evens(self, kind: BlockKind) -> tuple[_Even, ...]:
        if kind not in self.evens:
            work = self.context.work
            names = parts_of(kind, work)
            passes = forward_ops(kind, unrepeated(work))
            self.evens[kind] = tuple(
                self._even(PartOps(*part), full=self._full(kind))
                for part in zip(names, block_ops(kind, work), passes, strict=True)
            )
        return self.evens[kind]

    def _full(self, kind: BlockKind) -> bool:
        """Tell whether a block is recomputed as a whole."""
        return "full" in self.context.work.recompute and kind not in ("embedding", "head")

    def _even(self, part: PartOps, *, full: bool) -> _Even:
        """Return a part of a block with equally popular experts."""
        cost = BlockCost(
            load=self._load(part.ops, 0),
            phases={phase: self._phase(part.ops[phase], phase) for phase in Phase},
            memory=kept(part, self.context.work, full=full),
        )
        return _Even(part, cost, full)

    def _under_load(self, even: _Even, work: Work, number: int) -> BlockCost:
        """Return what a part of a block costs under a load: only what experts do is priced again."""
        part, known = even.part, even.cost
        if not part.ops.exchanges_experts:
            return replace(known, mean=known)
        loaded = PartOps(
            part.name,
            under_load(part.ops, work),
            part.whole.under_load(unrepeated(work)),
        )
        phases = dict(known.phases)
        for phase in Phase:
            if phase.depends_on_load:
                phases[phase] = self._phase(loaded.ops[phase], phase)
        return BlockCost(
            load=self._load(loaded.ops, number),
            phases=phases,
            memory=kept(loaded, work, full=even.full),
            mean=known,
        )

    def _load(self, ops: BlockOps, number: int) -> int:
        """Return the number of a part's load, which counts where its tokens travel to experts; else -1."""
        return number if ops.exchanges_experts and self.context.travels else -1

    def _phase(self, ops: Iterable[Op | Transfer], phase: Phase) -> PhaseCost:
        def launcher(op: Op, first: bool) -> float:
            return self.context.hosts.seconds(op, phase, first=first)

        _make_room(self.timed, MOST_KERNELS)
        return phase_cost(ops, self.context.processor, launcher=launcher, known=self.timed)


def _make_room(table: dict[Any, Any], most: int) -> None:
    """Begin a table anew where it is full, under the hands of another thread too: ask it with `get`."""
    if len(table) >= most:
        table.clear()


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
    pricers = list(_pricers)  # as they are now: another thread may change their order
    known = next((known for known in pricers if known.context == context), None)
    found = known or Pricer(context)
    others = [other for other in pricers if other is not found]
    _pricers[:] = [found, *others[: MOST_PRICERS - 1]]
    return found

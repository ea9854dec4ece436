"""Rows for what a rank shares with its data parallel peers: gradients, parameters, the optimizer.

ZeRO 0 sums gradients at the end of a step's backward passes; 1 scatters the sums, updates a shard
and gathers the parameters; 2 scatters after every backward pass; 3 gathers parameters before each
pass too (arXiv 1910.02054; PyTorch FSDP, arXiv 2304.11277). `block_traffic` says where that stands
among the rows of an action.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from simulator.compute import INSENSITIVE
from simulator.costs import Busy, Costs, buckets
from simulator.costs.offload import host_update
from simulator.layout import ZeroStage
from simulator.ops import Op
from simulator.ops.optimizer import cast_weights, update
from simulator.ops.sharding import copy_in, copy_out, divide
from simulator.ops.streams import Stream
from simulator.program.chunk_rows import Mark
from simulator.program.coflows import Coflows
from simulator.program.step_sums import StepSums
from simulator.program.templates import FarWait, Owed, Template
from simulator.program.transfers import CoflowKey
from simulator.scenario import Scenario

UPDATE = "update"
"""Kind of the actions that are not the schedule's."""


class OwedAt(NamedTuple):
    """Gradients that are summed at the end of the step, with the action that makes them."""

    slot: int
    """Slot of the action within the rank."""
    gradients: Owed
    """Block, and rows of that slot's template."""


class EndOfStep(NamedTuple):
    """What a rank does behind its last action."""

    template: Template
    """Reductions, the optimizer, gathers of parameters."""
    waits: list[FarWait]
    """What its rows wait for in other slots."""


@dataclass
class DataParallel:
    """Adds one rank's rows of the data and gradient streams to the templates of its actions.

    Local state of `lower`. Gathers and reductions do not wait for each other, as in FSDP2, which
    has a stream for each (PyTorch, FSDPCommContext): a gather that is due early would hold up the
    gradients of the blocks before it.
    """

    scenario: Scenario
    """What is simulated."""
    costs: Costs
    """What its blocks cost."""
    table: Coflows
    """Every transfer of the step."""
    sums: StepSums
    """What ranks sum in front of their update."""
    hosts: dict[int, tuple[int, ...]]
    """Stage -> pipeline indices that hold it."""
    rank: int
    """The rank whose rows these are."""
    speed: float
    """Of its kernels; 1 for a healthy GPU."""
    stages: tuple[int, ...]
    """Stages that it trains."""
    gathers: dict[Mark, list[int]] = field(default_factory=dict)
    """Block -> rows of the rank's first template that bring its parameters."""

    def __post_init__(self) -> None:
        self.zero = self.scenario.layout.zero
        self.config = self.scenario.workload.layout
        self.resharded = self.zero == ZeroStage.PARAMETERS and self.config.reshard_after_forward
        # Parameters that are whole during a step are gathered once, while its first forward passes
        # run.
        whole = self.zero == ZeroStage.PARAMETERS or self.config.overlap_param_gather
        self.early = whole and not self.resharded
        self.stack = self.scenario.stack.sharding
        self.sharded = self.zero >= ZeroStage.GRADIENTS

    def begin_step(self, stages: Iterable[int]) -> Template:
        """Gather the parameters that the step before updated.

        Where a stack copies them out, these few copies, one a step, are left out.
        stages: in the order in which the first passes need them.
        """
        template = Template(self.speed)
        if self.zero and self.early:
            template.kinds.append(UPDATE)
            for mark in self._blocks(stages):
                self.gathers[mark] = self.collect(template, "all_gather", mark, ())
        return template

    def _blocks(self, stages: Iterable[int]) -> list[Mark]:
        """Return all blocks of some stages in forward order."""
        return [
            Mark("F", stage, number)
            for stage in stages
            for number in range(len(self.costs.stages[stage]))
        ]

    def end_step(self, owed: Sequence[OwedAt], slot: int) -> EndOfStep:
        """Reduce what is left, update, gather. slot: its own within the rank.

        The optimizer waits for the reductions of all templates.
        """
        template = Template(self.speed, kinds=[UPDATE])
        waits: list[FarWait] = []
        for gradients in owed:
            before = template.length
            self.reduce(template, gradients.gradients.block, ())
            added = range(before, template.length)
            # None begins before the last weight gradient is there.
            for due in (gradients, owed[-1]):
                waits += _after(slot, added, due)
        template.optimizer = template.row(Stream.COMPUTE, "optimizer", self._optimizer())
        if ZeroStage.OPTIMIZER <= self.zero < ZeroStage.PARAMETERS and not self.early:
            for mark in self._blocks(sorted(self.stages)):
                self.collect(template, "all_gather", mark, [template.optimizer])
        return EndOfStep(template, waits)

    def _coflow(self, kind: str, bucket: buckets.Bucket) -> int:
        """Return the number of a bucket's collective, -1 where the rank has no peers."""
        bucket_number = self.table.buckets.get(bucket, -1)
        return self.table.calls(self.rank).get(CoflowKey(kind, bucket_number), -1)

    def copy_out(self, template: Template, mark: Mark, gathered: Sequence[int]) -> list[int]:
        """Add the copies of a block's gathered parameters; return the rows that have them whole.

        gathered: rows that gather them; none of a block that is whole.
        """
        if not gathered or not self.stack.copies_out:
            return list(gathered)
        return self._copies(template, "all_gather", mark, gathered)

    def reduce(self, template: Template, mark: Mark, made: Iterable[int]) -> None:
        """Sum a block's gradients over all its holders."""
        stream = Stream.GRADIENT
        if self.sharded and self.stack.copies_in:
            # Its buffers are freed once they are reduced: the next block's wait for that.
            limit = self.stack.reductions
            earlier = template.added_as("reduce-scatter")
            freed = earlier[-limit:][:1] if limit else []
            made = self._copies(template, "reduce_scatter", mark, (*made, *freed))
        if self.sharded and self.stack.one_stream:
            stream = Stream.DATA
        # A ring all-reduce is a scatter of sums and a gather of them (without ZeRO); under ZeRO the
        # sums stay scattered. Hybrid sharding adds shards over the groups that hold the same one.
        kinds = ["reduce_scatter", "all_reduce"]
        if not self.zero:
            kinds.append("all_gather")
        for kind in kinds:
            template.reduced += self.collect(template, kind, mark, made, stream)

    def collect(
        self,
        template: Template,
        kind: str,
        mark: Mark,
        after: Iterable[int],
        stream: Stream = Stream.DATA,
    ) -> list[int]:
        """Add a collective of a block's dense and routed parameters; return its rows."""
        hosts = self.costs.hosts
        busy = hosts.of_shards() if self.sharded else hosts.collective()
        # Parameters are gathered ahead of the action that reads them, and have no position.
        action = 0 if kind == "all_gather" and self.zero else -1
        rows = []
        for bucket in buckets.of_block(self.costs, mark.stage, mark.number):
            coflow = self._coflow(kind, bucket)
            if coflow >= 0:
                label = kind.replace("_", "-")
                row = template.row(stream, label, busy, coflow, action=action)
                template.wait(row, after)
                rows.append(row)
        return rows

    def _copies(self, template: Template, kind: str, mark: Mark, after: Iterable[int]) -> list[int]:
        """Add the copies beside a collective of a block; return their rows, none without peers."""
        rows: list[int] = []
        for bucket in buckets.of_block(self.costs, mark.stage, mark.number):
            if self._coflow(kind, bucket) >= 0:
                for op in self._kernels(kind, bucket.parameters):
                    rows.append(self._copy(template, op))
                    template.wait(rows[-1], after)
        return rows

    def _kernels(self, kind: str, parameters: float) -> tuple[Op, ...]:
        """Return the kernels beside a collective of parameters."""
        recipe = self.scenario.recipe
        if kind == "all_gather":
            return (copy_out(recipe, parameters),)
        copied = copy_in(recipe, parameters, casts_apart=self.stack.casts_apart)
        return (*copied, divide(recipe, parameters)) if self.stack.divides else copied

    def _copy(self, template: Template, op: Op) -> int:
        """Add a kernel that stands between the blocks of a chunk; return its row."""
        processor = self.costs.processor
        kernel = processor.kernel(op, overlapped=False)
        gap = processor.gaps(op)
        for name, seconds in (("memory_bound", kernel), ("kernel_gaps", gap)):
            template.copies[name] = template.copies.get(name, 0.0) + seconds / self.speed
        busy = self.costs.hosts.copy(kernel + gap, processor.sensitivity(op, kernel))
        return template.row(Stream.COMPUTE, op.name, busy)

    def _optimizer(self) -> Busy:
        """Return what AdamW, and what surrounds it, takes."""
        updated = sum(buckets.updated(self.costs, self.scenario.layout, self.hosts, self.stages))
        held = updated
        # Below ZeRO 2 a GPU holds all gradients of its stages, also those that others update.
        if self.zero < ZeroStage.GRADIENTS:
            held = sum(sum(self.costs.parameters(stage)) for stage in self.stages)
        recipe = self.scenario.recipe
        away = self.scenario.workload.training.offload.optimizer * updated
        gathered = 0.0
        if self.scenario.casts_shards:
            gathered = buckets.gathered(self.costs, self.scenario.layout, self.hosts, self.stages)
        kernels = self.scenario.stack.optimizer
        updates = update(recipe, kernels, updated - away, held, gathered=gathered)
        ops = (*updates, *self._casts())
        processor = self.costs.processor
        seconds = processor.seconds(ops, overlapped=False)
        if away:
            seconds += host_update(self.scenario, away)
        seconds += self.sums.seconds(self.stages)
        if not ops:  # all of the update runs on the host
            return self.costs.hosts.optimizer(seconds, INSENSITIVE)
        # All of it moves bytes: each of its kernels is as sensitive as the first one.
        return self.costs.hosts.optimizer(seconds, processor.sensitivity(ops[0], seconds))

    def _casts(self) -> tuple[Op, ...]:
        """Return the casts of weights for FP8 GEMMs, where the stack does them once per step."""
        if self.scenario.stack.code.casts_weights == "pass":
            return ()
        return cast_weights(self.scenario.recipe, self._linear_weights())

    def _linear_weights(self) -> float:
        """Return the parameters of the rank's layers; embedding and head stay in BF16."""
        weights = 0.0
        for stage in self.stages:
            layers = [
                kind for kind in self.costs.stages[stage] if kind not in ("embedding", "head")
            ]
            weights += sum(self.costs.held(layers))
        return weights


def _after(slot: int, rows: Iterable[int], due: OwedAt) -> list[FarWait]:
    """Return that some rows of a slot wait for gradients."""
    made = due.gradients.rows
    return [FarWait(slot, row, due.slot, on_row) for row in rows for on_row in made]

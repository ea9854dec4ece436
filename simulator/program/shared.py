"""What a rank shares with its data parallel peers over a step: rows for gradients, parameters, the optimizer.

ZeRO 0 sums gradients at the end of a step's backward passes; 1 scatters the sums, updates a shard and gathers the
parameters; 2 scatters after every backward pass; 3 gathers parameters before each pass too, one block ahead
(arXiv 1910.02054; PyTorch FSDP, arXiv 2304.11277).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from simulator.ops import Op
from simulator.program import buckets
from simulator.program.chunks import COMPUTE, DATA, GRADIENT, Chunk, Mark
from simulator.program.coflows import Coflows
from simulator.program.costs import Costs
from simulator.scenario import Scenario
from simulator.schedules import Action, Schedule

STATES, GRADIENTS, PARAMETERS = 1, 2, 3
"""What ZeRO shards from this stage on."""


class Builder(Protocol):
    """What collects the rows of a program."""

    scenario: Scenario
    schedule: Schedule
    costs: Costs
    table: Coflows
    rank: list[int]
    waits: list[tuple[int, int]]
    actions: list[tuple[int, int, str]]
    hosts: dict[int, tuple[int, ...]]

    def row(self, rank_class: int, stream: int, label: str, seconds: float, coflow: int = -1) -> int:
        """Add a row; return its number."""


@dataclass
class Shared:
    """Lays one rank's rows of the data and gradient streams between those of its actions. Local state of `lower`.

    Gathers and reductions do not wait for each other, as in FSDP2, which has a stream for each (PyTorch,
    FSDPCommContext): a gather that is due early would hold up the gradients of the blocks before it.
    """

    builder: Builder
    rank_class: int
    rank: int
    gathers: dict[Mark, list[int]] = field(default_factory=dict)
    reduced: list[int] = field(default_factory=list)
    final: dict[int, int] = field(default_factory=dict)  # stage -> position of its last backward pass
    owed: list[tuple[Mark, list[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        scenario = self.builder.scenario
        self.costs, self.layout, self.config = self.builder.costs, scenario.layout, scenario.workload.layout
        self.resharded = self.layout.zero == PARAMETERS and self.config.reshard_after_forward
        # Parameters that are whole during a step are gathered once, beside its first forward passes.
        self.early = not self.resharded and (self.layout.zero == PARAMETERS or self.config.overlap_param_gather)

    def begin_step(self, order: tuple[Action, ...]) -> None:
        """Gather the parameters that the step before updated, in the order in which the first passes need them."""
        halves = [(position, half) for position, action in enumerate(order) for half in action.halves()]
        self.final = {stage: position for position, (kind, _, stage) in halves if kind in ("B", "W")}
        if not self.layout.zero or not self.early:
            return
        self._open()
        for stage in dict.fromkeys(stage for _, (kind, _, stage) in halves if kind == "F"):
            for number in range(len(self.costs.stages[stage])):
                self.gathers["F", stage, number] = self._collect("all_gather", (stage, number), ())

    def before(self, rows: Chunk) -> dict[Mark, list[int]]:
        """Return the gathers that an action's blocks wait for; of resharded parameters new ones."""
        if not self.resharded:
            return {mark: self.gathers.pop(mark) for mark in rows.begins if mark in self.gathers}
        self._open()
        marks = list(rows.begins.items())
        base = len(self.builder.rank) + sum(self._count(mark) for mark, _ in marks)
        result = {}
        for number, (mark, _) in enumerate(marks):
            # One block ahead: while the block before computes, as soon as the one before that is done.
            begin = marks[number - 1][1] - 1 if number else -1
            result[mark] = self._collect("all_gather", mark[1:], [base + begin] if begin >= 0 else [])
        return result

    def after(self, position: int, built: tuple[int, Chunk], gathered: dict[Mark, list[int]]) -> None:
        """Make an action's blocks wait for their parameters, and reduce the gradients that it completes."""
        base, rows = built
        for mark, due in gathered.items():
            if rows.begins[mark] < len(rows.stream):
                self.builder.waits += [(base + rows.begins[mark], row) for row in due]
        for mark, ends in rows.ends.items():
            if self.layout.zero < GRADIENTS and self.final[mark[1]] != position:
                continue
            made = [base + row for row in ends]
            if self.config.overlap_grad_reduce:
                self._reduce(mark, made)
            else:
                self.owed.append((mark, made))

    def end_step(self) -> float:
        """Reduce what is left, update, gather; return the optimizer's seconds on a sound GPU."""
        self._open(len(self.builder.schedule.ranks[self.layout.pipeline_index(self.rank)]))
        for mark, made in self.owed:
            self._reduce(mark, [*made, *self.owed[-1][1]])  # none begins before the last weight gradient is there
        seconds = self._optimizer()
        update = self.builder.row(self.rank_class, COMPUTE, "optimizer", seconds)
        self.builder.waits += [(update, row) for row in self.reduced]
        if STATES <= self.layout.zero < PARAMETERS and not self.early:
            for stage in sorted(self.final):
                for number in range(len(self.costs.stages[stage])):
                    self._collect("all_gather", (stage, number), [update])
        return seconds

    def _open(self, position: int = -1) -> None:
        self.builder.actions.append((self.rank_class, position, "update"))

    def _count(self, mark: Mark) -> int:
        return sum(self._coflow("all_gather", bucket) >= 0 for bucket in buckets.of_block(self.costs, *mark[1:]))

    def _coflow(self, kind: str, bucket: buckets.Bucket) -> int:
        table = self.builder.table
        return table.index.get((kind, table.buckets.get(bucket, -1), self.rank), -1)

    def _reduce(self, mark: Mark, made: list[int]) -> None:
        """Sum a block's gradients: scatter them, add over hybrid groups, and without ZeRO gather the sums."""
        for kind in ("reduce_scatter", "all_reduce", *(() if self.layout.zero else ("all_gather",))):
            self.reduced += self._collect(kind, mark[1:], made, GRADIENT)

    def _collect(self, kind: str, block: tuple[int, int], after: Iterable[int], stream: int = DATA) -> list[int]:
        """Add a collective of a block's dense and routed parameters; return its rows."""
        rows = []
        for bucket in buckets.of_block(self.costs, *block):
            coflow = self._coflow(kind, bucket)
            if coflow >= 0:
                row = self.builder.row(self.rank_class, stream, kind.replace("_", "-"), 0.0, coflow)
                self.builder.waits += [(row, due) for due in after]
                rows.append(row)
        return rows

    def _optimizer(self) -> float:
        """Return the seconds of AdamW over what this rank updates: gradient, master, moments, parameter."""
        recipe = self.costs.work.recipe
        each = recipe.gradient + 2 * recipe.master + 2 * recipe.moments + recipe.parameter
        count = buckets.updated(self.costs, self.layout, self.builder.hosts, tuple(self.final))
        return self.costs.processor.seconds((Op("adamw", "optimizer", bytes=count * each),), beside=False)

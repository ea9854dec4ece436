"""What a rank shares with its data parallel peers over a step: rows for gradients, parameters, the optimizer.

ZeRO 0 sums gradients at the end of a step's backward passes; 1 scatters the sums, updates a shard
and gathers the parameters; 2 scatters after every backward pass; 3 gathers parameters before each
pass too, one block ahead (arXiv 1910.02054; PyTorch FSDP, arXiv 2304.11277).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from simulator.costs import Costs, buckets
from simulator.layout import ZeroStage
from simulator.ops import Op
from simulator.program.chunks import COMPUTE, DATA, GRADIENT, Chunk, Mark
from simulator.program.coflows import Coflows
from simulator.program.templates import Far, Piece
from simulator.scenario import Scenario

UPDATE = "update"
"""kind of the actions that are not the schedule's"""


@dataclass
class Shared:
    """Lays one rank's rows of the data and gradient streams before, in and behind the pieces of its actions.

    Local state of `lower`. Gathers and reductions do not wait for each other, as in FSDP2, which
    has a stream for each (PyTorch, FSDPCommContext): a gather that is due early would hold up the
    gradients of the blocks before it. final: stage -> position of its last backward pass. hosts:
    see `stage_hosts`. gathers: rows of the first piece that bring a block's parameters.
    """

    scenario: Scenario
    costs: Costs
    table: Coflows
    hosts: dict[int, tuple[int, ...]]
    rank: int
    speed: float
    final: dict[int, int]
    gathers: dict[Mark, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layout, self.config = self.scenario.layout, self.scenario.workload.layout
        self.resharded = (
            self.layout.zero == ZeroStage.PARAMETERS and self.config.reshard_after_forward
        )
        # Parameters that are whole during a step are gathered once, beside its first forward
        # passes.
        self.early = not self.resharded and (
            self.layout.zero == ZeroStage.PARAMETERS or self.config.overlap_param_gather
        )

    def begin_step(self, stages: Iterable[int]) -> Piece:
        """Gather the parameters that the step before updated, in the order in which the first passes need them."""
        piece = Piece(self.speed)
        if self.layout.zero and self.early:
            piece.kinds.append(UPDATE)
            for stage in stages:
                for number in range(len(self.costs.stages[stage])):
                    self.gathers["F", stage, number] = self._collect(
                        piece, "all_gather", (stage, number), ()
                    )
        return piece

    def before(self, piece: Piece, rows: Chunk) -> dict[Mark, list[int]]:
        """Gather what an action's blocks wait for, if parameters are resharded; return the rows."""
        if not self.resharded:
            return {}
        piece.kinds.append(UPDATE)
        marks = list(rows.begins.items())
        base = len(piece.stream) + sum(self._count(mark) for mark, _ in marks)
        result = {}
        for number, (mark, _) in enumerate(marks):
            # One block ahead: while the block before computes, as soon as the one before that is
            # done.
            begin = marks[number - 1][1] - 1 if number else -1
            result[mark] = self._collect(
                piece, "all_gather", mark[1:], [base + begin] if begin >= 0 else []
            )
        return result

    def after(
        self, piece: Piece, rows: Chunk, gathered: dict[Mark, list[int]], final: bool
    ) -> None:
        """Make an action's blocks wait for their parameters, and reduce the gradients that it completes.

        final: whether it is the last backward pass of its stage.
        """
        for mark, due in gathered.items():
            if rows.begins[mark] < len(rows.stream):
                piece.waits += [(piece.base + rows.begins[mark], row) for row in due]
        if self.layout.zero < ZeroStage.GRADIENTS and not final:
            return
        for mark, ends in rows.ends.items():
            made = [piece.base + row for row in ends]
            if self.config.overlap_grad_reduce:
                self._reduce(piece, mark, made)
            else:
                piece.owed.append((mark, made))

    def end_step(
        self, owed: Iterable[tuple[int, Mark, list[int]]]
    ) -> tuple[Piece, float, list[Far]]:
        """Reduce what is left, update, gather.

        owed: position of an action, what it made, by which of its rows. Returns the piece, whose
        row `base`, the optimizer, waits for the reductions of all pieces; the optimizer's seconds
        on a healthy GPU; and what waits for actions, with places counted from the rank's first piece,
        its last being -1.
        """
        piece, far, owing = Piece(self.speed, kinds=[UPDATE]), [], list(owed)
        for position, mark, made in owing:
            before = len(piece.stream)
            self._reduce(piece, mark, ())
            # None begins before the last weight gradient is there.
            for at, rows in ((position, made), (owing[-1][0], owing[-1][2])):
                far += [
                    (-1, row, at + 1, due)
                    for row in range(before, len(piece.stream))
                    for due in rows
                ]
        seconds = self._optimizer()
        update = piece.row(COMPUTE, "optimizer", seconds)
        piece.base = update
        if ZeroStage.OPTIMIZER <= self.layout.zero < ZeroStage.PARAMETERS and not self.early:
            for stage in sorted(self.final):
                for number in range(len(self.costs.stages[stage])):
                    self._collect(piece, "all_gather", (stage, number), [update])
        return piece, seconds, far

    def _count(self, mark: Mark) -> int:
        return sum(
            self._coflow("all_gather", bucket) >= 0
            for bucket in buckets.of_block(self.costs, *mark[1:])
        )

    def _coflow(self, kind: str, bucket: buckets.Bucket) -> int:
        table = self.table
        return table.index.get((kind, table.buckets.get(bucket, -1), self.rank), -1)

    def _reduce(self, piece: Piece, mark: Mark, made: Iterable[int]) -> None:
        """Sum a block's gradients: scatter them, add over hybrid groups, and without ZeRO gather the sums."""
        for kind in (
            "reduce_scatter",
            "all_reduce",
            *(() if self.layout.zero else ("all_gather",)),
        ):
            piece.reduced += self._collect(piece, kind, mark[1:], made, GRADIENT)

    def _collect(
        self,
        piece: Piece,
        kind: str,
        block: tuple[int, int],
        after: Iterable[int],
        stream: int = DATA,
    ) -> list[int]:
        """Add a collective of a block's dense and routed parameters; return its rows."""
        rows = []
        for bucket in buckets.of_block(self.costs, *block):
            coflow = self._coflow(kind, bucket)
            if coflow >= 0:
                row = piece.row(stream, kind.replace("_", "-"), 0.0, coflow)
                piece.waits += [(row, due) for due in after]
                rows.append(row)
        return rows

    def _optimizer(self) -> float:
        """Return the seconds of AdamW over what this rank updates: gradient, master, moments, parameter."""
        recipe = self.costs.work.recipe
        each = recipe.gradient + 2 * recipe.master + 2 * recipe.moments + recipe.parameter
        count = buckets.updated(self.costs, self.layout, self.hosts, tuple(self.final))
        return self.costs.processor.seconds(
            (Op("adamw", "optimizer", bytes=count * each),), overlapped=False
        )

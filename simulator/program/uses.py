"""The actions of a step with what their blocks cost, each once for all ranks that run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from simulator.costs import Costs
from simulator.program.chunk_columns import chunk_rows
from simulator.program.chunks import Pairing
from simulator.program.step_columns import NO_BLOCKS, StageBlocks, StepColumns
from simulator.program.templates import Use
from simulator.program.transfers import CoflowKey
from simulator.schedules import Kind


class Runs(NamedTuple):
    """Which blocks an action runs in which passes."""

    kind: Kind
    """F, B, I, W or the pair FB."""
    stage: int
    """Stage of the action, of a pair that of its forward half."""
    stage_b: int
    """Stage of a pair's backward half, -1 if the action is not a pair."""
    member: int
    """Of an expert group whose GPUs have loads of their own, else -1."""


@dataclass
class Uses:
    """The actions of a step. Local state of `lower`."""

    costs: Costs
    """What its blocks cost."""
    pairing: Pairing
    """How pairs run theirs."""
    columns: StepColumns = field(default_factory=StepColumns)
    """What the blocks of its stages keep busy."""
    stages: dict[tuple[int, int], StageBlocks] = field(default_factory=dict)
    """(Stage, member of an expert group) -> its blocks, as far as actions have been asked for."""
    known: dict[Runs, Use] = field(default_factory=dict)
    """Actions that have been asked for."""

    def of(self, runs: Runs) -> Use:
        """Return an action with what its blocks cost."""
        if runs not in self.known:
            self.known[runs] = self._new(runs)
        return self.known[runs]

    def _new(self, runs: Runs) -> Use:
        ahead = self._stage(runs.stage, runs.member)
        back = self._stage(runs.stage_b, runs.member) if runs.stage_b >= 0 else NO_BLOCKS
        rows = chunk_rows(runs.kind, ahead, back, self.pairing)
        parts = [*ahead.parts, *back.parts]
        keys = [
            CoflowKey(call.kind, parts[call.block].cost.load if call.block >= 0 else call.size)
            for call in rows.calls
        ]
        return Use(
            number=len(self.known),
            rows=rows,
            stages=(runs.stage, runs.stage_b),
            first=(0, ahead.first, back.first),
            keys=tuple(keys),
        )

    def _stage(self, stage: int, member: int) -> StageBlocks:
        """Return the blocks of a stage, whose columns stand among those of the step."""
        if (stage, member) not in self.stages:
            self.stages[stage, member] = self.columns.add(self.costs.parts(stage, member))
        return self.stages[stage, member]

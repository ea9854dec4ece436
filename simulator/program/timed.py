"""Chunk times for schedules whose order depends on them: sums of op seconds, no engine involved."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.collectives import COLLECTIVES, exchange
from simulator.costs import BlockCost, Costs, PhaseKey
from simulator.ops import Pass, Phase
from simulator.program.coflows import KERNELS
from simulator.scenario import Scenario
from simulator.schedules import Schedule, Times

EXCHANGES = {"F": ("dispatch", "combine"), "I": ("cached_dispatch", "combine"), "W": ()}
"""kind of action -> exchanges of a block with experts"""


def schedule_of(scenario: Scenario, costs: Costs) -> Schedule:
    """Return a scenario's schedule; one whose order follows from times is built for its costs."""
    if scenario.pipeline.fixed:
        return scenario.pipeline.fixed
    return scenario.pipeline.schedule(chunk_times(scenario, costs))


def chunk_times(scenario: Scenario, costs: Costs) -> Times:
    """Return the seconds of F, I and W on each stage, and of a send, where nothing else runs [s]."""
    alone = _Alone(scenario, costs)
    stages = range(scenario.pipeline.stages)
    table: dict[str, float | tuple[float, ...]] = {
        kind: tuple(
            sum(alone.seconds(block, kind) for block in costs.stage(stage)) for stage in stages
        )
        for kind in Pass
    }
    site = scenario.topology
    link = site.node.nic if site.nodes > 1 else site.node.nvlink
    return Times.of({**table, "comm": costs.activation_bytes() / link})


@dataclass(frozen=True, slots=True)
class _Alone:
    """What a block takes outside of an overlapped pair, on the ranks of the first pipeline index."""

    scenario: Scenario
    costs: Costs

    def seconds(self, block: BlockCost, kind: str) -> float:
        """Return kernels, the transfers that they wait for, and exchanges of one kind of action [s]."""
        first = self.seconds(block, "F") if block.recompute and kind == "I" else 0.0
        moved = (
            sum(self._exchange(block.load, name) for name in EXCHANGES[kind])
            if block.exchanges_experts
            else 0.0
        )
        return (
            first
            + moved
            + sum(self._phase(block, phase) for phase in Phase if phase.computes == kind)
        )

    def _phase(self, block: BlockCost, phase: Phase) -> float:
        cost = block.phases[PhaseKey(phase, False)]
        hops = [hop.transfer for hop in cost.hops if not hop.concurrent]
        waits = 0.0
        for transfer in hops:
            members = tuple(self.scenario.layout.ranks(0, transfer.group)[0].tolist())
            unit = COLLECTIVES["all_gather"](self.scenario.network, members).scaled(transfer.bytes)
            waits += unit.seconds(
                self.scenario.network, self.scenario.kernels.communication[KERNELS[transfer.group]]
            )
        return cost.total + waits

    def _exchange(self, load: int, kind: str) -> float:
        assert self.costs.loads is not None
        members = tuple(self.scenario.layout.ranks(0, "expert")[0].tolist())
        unit = exchange(self.scenario.network, members, self.costs.loads.distinct[load]).scaled(
            self.costs.token_bytes(kind)
        )
        kernel = self.scenario.kernels.communication[kind]
        return unit.seconds(self.scenario.network, kernel) + kernel.setup

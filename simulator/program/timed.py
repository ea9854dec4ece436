"""Chunk times for schedules whose order depends on them: sums of op seconds, no engine involved."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.collectives import CoflowKind, Communication
from simulator.collectives.kinds import EXCHANGES_OF
from simulator.costs import BlockCost, Costs
from simulator.ops import Pass, Phase
from simulator.scenario import Scenario
from simulator.schedules import Schedule, Times


def schedule_of(scenario: Scenario, costs: Costs) -> Schedule:
    """Return a scenario's schedule; one whose order follows from times is built for its costs."""
    if scenario.pipeline.fixed:
        return scenario.pipeline.fixed
    return scenario.pipeline.schedule(chunk_times(scenario, costs), _held_for_weights(costs))


def _held_for_weights(costs: Costs) -> float:
    """Return the share of a chunk that its weight gradients still read, on the stage of most.

    Zero Bubble's limits count it (arXiv 2401.10241, section 3.1: M_B and M_W).
    """
    shares = [0.0]
    for stage in range(len(costs.stages)):
        memories = costs.memories(stage)
        saved = sum(memory.saved for memory in memories)
        weights = sum(memory.weights for memory in memories)
        if saved:
            shares.append(min(1.0, weights / saved))
    return max(shares)


def chunk_times(scenario: Scenario, costs: Costs) -> Times:
    """Return what F, I and W on each stage, and a send, take where nothing else runs [s]."""
    alone = _Alone(scenario, costs, Communication.of(scenario))
    table: dict[str, float | tuple[float, ...]] = {}
    for kind in Pass:
        table[kind] = tuple(
            alone.stage_seconds(stage, kind) for stage in range(scenario.pipeline.stages)
        )
    # A send as if it had its link to itself: the order of actions must not depend on the traffic
    # that follows from it.
    site = scenario.topology
    link = site.node.nic if site.nodes > 1 else site.node.nvlink
    table["comm"] = costs.activation_bytes() / link
    return Times.of(table)


@dataclass(frozen=True, slots=True)
class _Alone:
    """What a block takes outside of overlapped pairs, on the first pipeline index."""

    scenario: Scenario
    """What is simulated."""
    costs: Costs
    """Its blocks."""
    communication: Communication
    """What its groups run."""

    def stage_seconds(self, stage: int, kind: Pass) -> float:
        """Return what one pass of a micro-batch takes on a stage [s]."""
        return sum(self.seconds(block, kind) for block in self.costs.stage(stage))

    def seconds(self, block: BlockCost, kind: Pass) -> float:
        """Return kernels, the transfers that they wait for, and exchanges of one pass [s]."""
        phases = [phase for phase in Phase if phase.computes == kind]
        passes = [kind]
        if block.recompute and kind == Pass.INPUT:
            # Dispatch and combine are run once more with all that is.
            phases += [phase for phase in Phase if block.repeats(phase)]
            passes.append(Pass.FORWARD)
        exchanges = 0.0
        if block.exchanges_experts:
            names = [name for one in passes for name in EXCHANGES_OF[one]]
            exchanges = sum(self._exchange(block.load, name) for name in names)
        return exchanges + sum(self._phase(block, phase) for phase in phases)

    def _phase(self, block: BlockCost, phase: Phase) -> float:
        cost = block.phases[phase]
        waits = 0.0
        for hop in cost.hops:
            # What runs next to kernels takes no time of its own.
            if not hop.concurrent:
                moved = hop.transfer
                waits += self._transfer(CoflowKind(moved.group), moved.bytes)
        return cost.total + waits

    def _transfer(self, kind: CoflowKind, size: float) -> float:
        members = self._group(kind)
        plan = self.communication.plan(kind, members, size)
        demand = plan.demand(members, size)
        return demand.seconds(self.scenario.network, plan.kernel) + plan.kernel.setup

    def _exchange(self, load: int, kind: CoflowKind) -> float:
        costs = self.costs
        assert costs.loads is not None
        exchange = self.communication.exchange(
            kind,
            self._group("expert"),
            costs.loads.distinct[load],
            costs.token_bytes(kind),
            costs.work.own,
        )
        alone = exchange.demand.seconds(self.scenario.network, exchange.kernel)
        return alone + exchange.kernel.setup

    def _group(self, kind: str) -> tuple[int, ...]:
        """Return the first group of a kind."""
        return tuple(self.scenario.layout.ranks(0, kind)[0].tolist())

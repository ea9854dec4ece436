"""Chunk times for schedules whose order depends on them: sums of op seconds, no engine involved."""

from __future__ import annotations

from dataclasses import dataclass

from simulator import schedules
from simulator.collectives import COLLECTIVES, exchange
from simulator.program.coflows import KERNELS
from simulator.program.costs import BlockCost, Costs, Hop
from simulator.scenario import Scenario
from simulator.schedules import SCHEDULES, Schedule, Times
from simulator.topology import Network, network

PHASES = {
    "F": ("attention_f", "mlp_f"),
    "I": ("mlp_b", "attention_b", "attention_t"),
    "W": ("mlp_w", "side_w", "attention_w"),
}
"""kind of action -> phases of a block"""
EXCHANGES = {"F": ("dispatch", "combine"), "I": ("cached_dispatch", "combine"), "W": ()}
"""kind of action -> exchanges of a block with experts"""


def timed_schedule(scenario: Scenario, priced: Costs) -> Schedule:
    """Return a scenario's schedule; one whose order depends on times is built again for the costs of its stages."""
    config, layout = scenario.workload.schedule, scenario.layout
    if not SCHEDULES[config.name].timed:
        return scenario.schedule
    schedule = schedules.build(
        config.name,
        layout.pp,
        scenario.micro_batches,
        virtual=layout.vpp,
        limit=config.limit,
        times=chunk_times(scenario, priced),
    )
    schedules.check(schedule)
    return schedule


def chunk_times(scenario: Scenario, priced: Costs) -> Times:
    """Return the seconds of F, I and W on each stage, and of a send, where nothing else runs [s]."""
    alone = _Alone(scenario, priced, network(scenario.topology))
    stages = range(scenario.schedule.stages)
    table: dict[str, float | tuple[float, ...]] = {
        kind: tuple(
            sum(alone.seconds(block, kind) for block in priced.stage(stage)) for stage in stages
        )
        for kind in PHASES
    }
    site = scenario.topology
    link = site.node.nic if site.nodes > 1 else site.node.nvlink
    return Times.of({**table, "comm": priced.activation_bytes() / link})


@dataclass(frozen=True, slots=True)
class _Alone:
    """What a block takes outside of an overlapped pair, on the ranks of the first pipeline index."""

    scenario: Scenario
    priced: Costs
    net: Network

    def seconds(self, block: BlockCost, kind: str) -> float:
        """Return kernels, the transfers that they wait for, and exchanges of one kind of action [s]."""
        first = self.seconds(block, "F") if block.again and kind == "I" else 0.0
        moved = (
            sum(self._exchange(block.load, name) for name in EXCHANGES[kind])
            if block.exchanges_experts
            else 0.0
        )
        return first + moved + sum(self._phase(block, phase) for phase in PHASES[kind])

    def _phase(self, block: BlockCost, phase: str) -> float:
        cost = block.phases[phase, False]
        hops = [item.transfer for item in cost.items if isinstance(item, Hop) and not item.beside]
        waits = 0.0
        for transfer in hops:
            members = tuple(self.scenario.layout.ranks(0, transfer.group)[0].tolist())
            unit = COLLECTIVES["all_gather"](self.net, members).scaled(transfer.bytes)
            waits += unit.seconds(
                self.net, self.scenario.kernels.communication[KERNELS[transfer.group]]
            )
        return cost.total + waits

    def _exchange(self, load: int, kind: str) -> float:
        assert self.priced.loads is not None
        members = tuple(self.scenario.layout.ranks(0, "expert")[0].tolist())
        unit = exchange(self.net, members, self.priced.loads.distinct[load]).scaled(
            self.priced.token_bytes(kind)
        )
        kernel = self.scenario.kernels.communication[kind]
        return unit.seconds(self.net, kernel) + kernel.setup

"""Every transfer of a step between the ranks of the whole cluster, as incidence of coflows with links and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from simulator.collectives import COLLECTIVES, Demand, exchange, send
from simulator.layout import Layout
from simulator.program.costs import Costs
from simulator.schedules import Kind, Schedule
from simulator.topology import Network

EXCHANGES = ("dispatch", "cached_dispatch", "combine")
KERNELS = {"reduce_scatter": "nccl", "all_gather": "nccl", "F": "nccl", "B": "nccl"}
"""kind of coflow -> kernel of the communication table, where they differ."""
TRAFFIC = {"F": "pipeline", "B": "pipeline", "reduce_scatter": "data", "all_gather": "data"}
"""kind of coflow -> kind of traffic in the report; exchanges are `expert`."""

Key = tuple[str, int, int]
"""(kind, what of it, rank): exchanges (kind, load, rank), sends (pass, stage, source), collectives (kind, stage and
part, rank). It is how a rank names the coflow that it takes part in."""


@dataclass(slots=True)
class Coflows:
    """Coflows as columns, with links and ranks as flat lists.

    label: kind and what of it; alike in all replicas. links/bytes: per coflow [B]. members: ranks; of a send, source
    then target. index: how a rank names a coflow -> its position.
    """

    label: list[tuple[str, int]] = field(default_factory=list)
    links: list[Sequence[int]] = field(default_factory=list)
    bytes: list[Sequence[float]] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    members: list[tuple[int, ...]] = field(default_factory=list)
    index: dict[Key, int] = field(default_factory=dict)

    def _add(self, label: tuple[str, int], demand: Demand, members: tuple[int, ...]) -> None:
        self._append(label, demand.links.tolist(), demand.bytes.tolist(), demand.latency, members)
        for rank in members:
            self.index[(*label, rank)] = len(self.label) - 1

    def _append(self, label: tuple[str, int], links: Sequence[int], sizes: Sequence[float], latency: float,
                members: tuple[int, ...]) -> None:
        self.label.append(label)
        self.links.append(links)
        self.bytes.append(sizes)
        self.latency.append(latency)
        self.members.append(members)

    def add_exchanges(self, network: Network, layout: Layout, costs: Costs, place: tuple[int, int]) -> None:
        """Add dispatch and combine of every expert group. place: (pipeline index, expert load)."""
        assert costs.loads is not None
        index, load = place
        for first in range(0, layout.dp, layout.ep):
            group = layout.expert_group(layout.rank(index, first))
            unit = exchange(network, group, costs.loads.distinct[load])
            for kind in EXCHANGES:
                self._add((kind, load), unit.scaled(costs.token_bytes(kind)), group)

    def add_sends(self, network: Network, layout: Layout, edge: tuple[str, int, int, int], size: float) -> None:
        """Add the sends of one pipeline edge (pass, stage, from index, to index) in every replica."""
        label, source, target = (edge[0], edge[1]), edge[2], edge[3]
        for replica in range(layout.dp):
            pair = (layout.rank(source, replica), layout.rank(target, replica))
            links, latency = send(network, *pair)
            self._append(label, links, [size] * len(links), latency, pair)
            self.index[(*label, pair[0])] = len(self.label) - 1

    def add_data_parallel(self, network: Network, groups: Iterator[tuple[int, tuple[int, ...], float]],
                          widths: dict[str, float]) -> None:
        """Add the gradient reduce-scatter and parameter all-gather of groups (what, members, parameters).

        widths: kind -> bytes per parameter [B].
        """
        for what, members, parameters in groups:
            if len(members) > 1 and parameters:
                for kind, width in widths.items():
                    self._add((kind, what), COLLECTIVES[kind](network, members).scaled(parameters * width), members)


def stage_hosts(schedule: Schedule) -> dict[int, tuple[int, ...]]:
    """Return the pipeline indices that hold each stage; a bidirectional pipeline holds each twice."""
    hosts: dict[int, set[int]] = {}
    for (rank, _), action in schedule.actions():
        for _, _, stage in action.halves():
            hosts.setdefault(stage, set()).add(rank)
    return {stage: tuple(sorted(ranks)) for stage, ranks in sorted(hosts.items())}


def updated_parameters(costs: Costs, layout: Layout, hosts: dict[int, tuple[int, ...]], stages: Iterable[int]) -> float:
    """Return the parameters whose optimizer states one rank holds: its shard of each stage under ZeRO, or all."""
    count = 0.0
    for stage in stages:
        dense, routed = costs.parameters(stage)
        replicas = layout.dp * len(hosts[stage])
        count += dense / replicas + routed * layout.ep / replicas if layout.zero else dense + routed
    return count


def replica_groups(schedule: Schedule, layout: Layout, costs: Costs) -> Iterator[tuple[int, tuple[int, ...], float]]:
    """Return the groups that hold the same parameters, as (2 stage + routed, ranks, parameters per GPU)."""
    for stage, hosts in stage_hosts(schedule).items():
        dense, routed = costs.parameters(stage)
        everyone = [layout.rank(host, replica) for host in hosts for replica in range(layout.dp)]
        yield 2 * stage, tuple(sorted(everyone)), dense
        for expert in range(layout.ep):
            yield 2 * stage + 1, tuple(rank for rank in everyone if rank % layout.ep == expert), routed


def pipeline_edges(schedule: Schedule) -> list[tuple[str, int, int, int]]:
    """Return the edges over which stages hand on: (F or B, stage that sends, from index, to index)."""
    places = schedule.place()
    edges: dict[tuple[str, int, int, int], None] = {}
    for (kind, micro_batch, stage), (rank, _) in places.items():
        if kind == "W":
            continue
        following = stage + 1 if kind == "F" else stage - 1
        names: tuple[Kind, ...] = ("F",) if kind == "F" else ("B", "I")
        for name in names:
            target = places.get((name, micro_batch, following))
            if target and target[0] != rank:
                edges["F" if kind == "F" else "B", stage, rank, target[0]] = None
    return sorted(edges)


def coflows(network: Network, layout: Layout, schedule: Schedule, costs: Costs) -> Coflows:
    """Return all coflows of a step."""
    table = Coflows()
    places = {
        (index, block.load)
        for stage, indices in stage_hosts(schedule).items()
        for block in costs.stage(stage)
        for index in indices
        if block.exchanges_experts
    }
    for place in sorted(places):
        table.add_exchanges(network, layout, costs, place)
    for edge in pipeline_edges(schedule):
        table.add_sends(network, layout, edge, costs.activation_bytes())
    recipe = costs.work.recipe
    widths = {"reduce_scatter": recipe.gradient, "all_gather": recipe.parameter if layout.zero else recipe.gradient}
    table.add_data_parallel(network, replica_groups(schedule, layout, costs), widths)
    return table

"""Every transfer of a step in the whole cluster: which links and ranks each coflow meets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.collectives import CoflowKind, Communication, Demand
from simulator.collectives.demand import latencies
from simulator.collectives.kinds import EXCHANGES
from simulator.collectives.replicas import Demands
from simulator.costs import BlockCost, Costs
from simulator.costs.buckets import Bucket, holders, of_stage, shards
from simulator.hardware import CommunicationModel
from simulator.layout import Layout
from simulator.ops import Transfer
from simulator.ops.sharding import cast_shard
from simulator.program.ragged import joined
from simulator.program.sends import Edge, ends, pipeline_edges, routes
from simulator.program.tiles import Tiles, whole
from simulator.program.transfers import Block, CoflowKey, Columns, Label, Reach
from simulator.progress import doing
from simulator.scenario import Scenario
from simulator.schedules import PipelineOverlap, Schedule
from simulator.topology import Network

Ranks: TypeAlias = NDArray[np.int64]


class Runs(NamedTuple):
    """How the groups of a reach run one transfer."""

    label: Label
    """What it does."""
    kernel: CommunicationModel
    """Kernel that runs it."""
    demands: Demands
    """What it asks of the links in each group."""
    sm_share: float = 1.0
    """Share of the rate that it reaches with SMs enough."""


@dataclass
class Coflows:
    """The transfers of a step, being listed: those of the first tile."""

    communication: Communication
    """What the groups of the scenario run."""
    layout: Layout
    """Who is in which group."""
    tiles: Tiles
    """Parts of the cluster that are alike."""
    meets: bool = False
    """Whether the receiver of a pipeline send takes part in it."""
    count: int = 0
    """Coflows that are listed."""
    blocks: list[Block] = field(default_factory=list)
    """What is listed, in this order."""
    reaches: list[Reach] = field(default_factory=list)
    """Groups of the blocks, and their links."""
    edges: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """Pipeline edge -> its number in keys."""
    buckets: dict[Bucket, int] = field(default_factory=dict)
    """Bucket -> its number in keys."""
    _reach_of: dict[bytes, list[int]] = field(default_factory=dict)
    """Ranks of groups -> reaches between them, which differ in links."""
    _calls: dict[int, dict[CoflowKey, int]] = field(default_factory=dict)
    """Rank -> what it calls, once that was asked for."""

    def one_sided(self, label: Label) -> bool:
        """Tell whether only the source of a coflow makes a call."""
        return label.kind.one_sided and not self.meets

    @property
    def network(self) -> Network:
        """Return the cluster."""
        return self.communication.scenario.network

    @cached_property
    def columns(self) -> Columns:
        """Return all coflows, once everything is listed."""
        return Columns(self.blocks, self.reaches)

    def copies(self) -> Ranks:
        """Return how many coflows of the cluster each stands for [coflow]."""
        return np.where(self.columns.spans, 1, self.tiles.count)

    def calls(self, rank: int) -> dict[CoflowKey, int]:
        """Return the coflows that a rank calls, sends as their source."""
        if rank not in self._calls:
            self._calls[rank] = self.columns.calls(rank)
        return self._calls[rank]

    def _listed(self, groups: Ranks) -> Ranks:
        """Return the groups that meet the first tile. groups: ranks [group, member]. Errors: UnevenError."""
        if self.tiles.count == 1 or not self.tiles.inside(groups):
            return groups
        first: Ranks = groups[self.tiles.of_rank[groups[:, 0]] == 0]
        return first

    def _add(self, groups: Ranks, runs: Sequence[Runs]) -> None:
        """Add transfers that follow each other in every group. Errors: UnevenError.

        groups: ranks [group, member].
        """
        numbers = self._numbers(len(groups), len(runs))
        for run, number in zip(runs, numbers.T, strict=True):
            self._append(run, CoflowKey(*run.label), groups, number)

    def _numbers(self, groups: int, runs: int) -> Ranks:
        """Return the numbers of the next coflows, group by group [group, run]."""
        numbers = np.arange(self.count, self.count + groups * runs)
        self.count += len(numbers)
        return numbers.reshape(groups, runs)

    def _append(self, run: Runs, key: CoflowKey, groups: Ranks, number: Ranks) -> None:
        """Add one transfer in every group. number: of the coflows [group]. Errors: UnevenError."""
        members = groups
        demands = run.demands
        if self.tiles.count > 1 and (self.tiles.of_rank[groups] > 0).any():
            members = groups[self.tiles.of_rank[groups] == 0].reshape(len(groups), -1)
            demands = self._in_first_tile(demands)
        reach = Reach.of(members, groups, demands, directed=run.label.kind.one_sided)
        block = Block(
            label=run.label,
            key=key,
            kernel=run.kernel,
            sm_share=run.sm_share,
            reach=self._reach(reach),
            number=number,
            amounts=demands.amounts,
            latency=demands.latency,
        )
        self.blocks.append(block)

    def _in_first_tile(self, demands: Demands) -> Demands:
        """Return what demands on all tiles ask of the first one. Errors: UnevenError."""
        each = []
        for demand in demands.each():
            share = self.tiles.share(demand.links, demand.bytes)
            each.append(Demand(*share, demand.latency))
        return Demands.of(each)

    def _reach(self, wanted: Reach) -> int:
        """Return the index of a reach, which is added if it is new."""
        known = self._reach_of.setdefault(wanted.everyone.tobytes(), [])
        for index in known:
            if self.reaches[index].equals(wanted):
                return index
        known.append(len(self.reaches))
        self.reaches.append(wanted)
        return known[-1]

    def add_exchanges(self, costs: Costs, pipeline_index: int, loads: Sequence[int]) -> None:
        """Add dispatch and combine of every expert group. loads: indices into `Loads.distinct`."""
        assert costs.loads is not None
        groups = self._listed(self.layout.ranks(pipeline_index, "expert"))
        distinct = [costs.loads.distinct[load] for load in loads]
        # Load by load, of each all groups, in each of these all kinds.
        every = self._numbers(len(loads) * len(groups), len(EXCHANGES))
        numbers = every.reshape(len(loads), len(groups), -1)
        for place, kind in enumerate(EXCHANGES):
            given = costs.token_bytes(kind), costs.work.own
            for some in self.communication.exchanges(kind, groups, distinct, *given):
                # Expert groups lie in one tile each.
                ranks = groups if len(some.groups) == len(groups) else groups[some.groups]
                reach = self._reach(Reach.of(ranks, ranks, some.demands))
                for at, amounts, run in zip(
                    some.loads, some.demands.amounts, some.runs, strict=True
                ):
                    label, number = Label(kind, loads[at]), numbers[at, some.groups, place]
                    key = CoflowKey(*label)
                    latency = some.demands.latency
                    block = Block(label, key, *run, reach, number, amounts, latency)
                    self.blocks.append(block)

    def add_sends(self, edges: Sequence[Edge], size: float, gather: float = 0.0) -> None:
        """Add the sends of pipeline edges in every replica.

        size: of the residual stream [B]. gather: how long the receiver's group puts it together [s].
        """
        if not edges:
            return
        pairs = ends(self.layout, edges, self.layout.per_stage // self.tiles.count)
        count = pairs.shape[1]
        # The ways of all edges at once, of which each has as many.
        crossed = routes(self.network, *pairs.reshape(-1, 2).T)
        pipeline = tuple(self.layout.rank(index, 0) for index in range(self.layout.pp))
        kernels: dict[tuple[CoflowKind, tuple[int, ...]], CommunicationModel] = {}
        for at, edge in enumerate(edges):
            number = self.edges.setdefault(edge, len(self.edges))
            key = (edge.kind, self._communicator(edge, pipeline))
            if key not in kernels:
                kernels[key] = self.communication.plan(*key, size).kernel
            kernel = kernels[key]
            ways = crossed.part(at * count, (at + 1) * count)
            latency = ways.latency(latencies(self.network, kernel)) + gather
            which = np.zeros(len(ways.links), dtype=np.int64)
            demands = Demands(ways.first, ways.links, which, np.array([size]), latency)
            # Alike on all edges: who sends to whom tells them apart, and the two directions of a
            # pipeline are mirrors.
            run = Runs(Label(edge.kind, 0), kernel, demands)
            coflows = self._numbers(count, 1)[:, 0]
            self._append(run, CoflowKey(edge.kind, number), pairs[at], coflows)

    def _communicator(self, edge: Edge, pipeline: tuple[int, ...]) -> tuple[int, ...]:
        """Return the ranks of the communicator of an edge. pipeline: ranks of one [pipeline index]."""
        if self.communication.scenario.pipeline.sends is PipelineOverlap.STEADY:
            return pipeline[edge.source], pipeline[edge.target]
        # Posted in batches, sends run in the pipeline group's communicator and share its
        # channels; alone each pair has one of its own (PyTorch, ProcessGroupNCCL.cpp).
        return pipeline

    def add_transfers(self, groups: Ranks, transfer: Transfer) -> None:
        """Add a collective inside layers in every group. groups: ranks [group, member]."""
        kind = CoflowKind(transfer.group)
        label = Label(kind, round(transfer.bytes))
        plan = self.communication.plan(kind, groups[0].tolist(), transfer.bytes)
        listed = self._listed(groups)
        new = listed[~np.isin(listed[:, 0], self._callers(label))]
        if len(new):
            self._add(new, [Runs(label, plan.kernel, plan.demands(new, transfer.bytes))])

    def _callers(self, label: Label) -> Ranks:
        """Return the ranks that a transfer has been listed for."""
        with_label = [block.reach for block in self.blocks if block.label == label]
        return joined([self.reaches[reach].everyone.ravel() for reach in with_label])

    def add_bucket(self, bucket: Bucket, hosts: tuple[int, ...], widths: Widths) -> None:
        """Add the collectives of a bucket. hosts: pipeline indices that hold its stage."""
        members = holders(self.layout, bucket.group, hosts)
        if members.shape[1] == 1:
            return
        number = self.buckets.setdefault(bucket, len(self.buckets))
        inside, across = shards(self.layout, members)
        gathered = widths.parameter if self.layout.zero else widths.gradient
        sizes = {
            CoflowKind.REDUCE_SCATTER: bucket.parameters * widths.gradient,
            CoflowKind.ALL_GATHER: bucket.parameters * gathered,
        }
        # PyTorch casts on a stream of its own, on which only a gather ahead could hide it: the cast
        # counts to the gather.
        cast = widths.cast(bucket.parameters / inside.shape[1])
        self._add_passes(number, inside, sizes, {CoflowKind.ALL_GATHER: cast})
        # An all-reduce passes twice over its shard.
        shard = 2 * bucket.parameters * widths.gradient / inside.shape[1]
        self._add_passes(number, across, {CoflowKind.ALL_REDUCE: shard}, {})

    def _add_passes(
        self,
        bucket: int,
        groups: Ranks,
        sizes: dict[CoflowKind, float],
        before: dict[CoflowKind, float],
    ) -> None:
        """Add passes over a bucket.

        groups: ranks [group, member]. sizes: of each pass [B]. before: of kernels in front of it [s].
        """
        if groups.shape[1] == 1:
            return
        listed = self._listed(groups)
        runs = []
        for kind, size in sizes.items():
            plan = self.communication.plan(kind, groups[0].tolist(), size)
            demands = plan.demands(listed, size)
            late = replace(demands, latency=demands.latency + before.get(kind, 0.0))
            runs.append(Runs(Label(kind, bucket), plan.kernel, late))
        self._add(listed, runs)


class Widths(NamedTuple):
    """Bytes of what data parallel ranks share."""

    gradient: float
    """Of a gradient [B]."""
    parameter: float
    """Of a parameter [B]."""
    cast: Callable[[float], float]
    """Parameters of a shard -> what its cast takes in front of each gather [s]."""


def stage_hosts(schedule: Schedule) -> dict[int, tuple[int, ...]]:
    """Return the pipeline indices that hold each stage, two of a bidirectional pipeline."""
    return schedule.hosts


def transfers(blocks: Iterable[BlockCost]) -> tuple[Transfer, ...]:
    """Return the collectives inside blocks, those of equal group and size once."""
    different: dict[tuple[str, int], Transfer] = {}
    for block in blocks:
        for phase in block.phases.values():
            for hop in phase.hops:
                key = (hop.transfer.group, round(hop.transfer.bytes))
                different.setdefault(key, hop.transfer)
    return tuple(different.values())


def _gather_behind(scenario: Scenario, communication: Communication, size: float) -> float:
    """Return how long a tensor parallel group gathers what each of its ranks received [s].

    With sequence parallelism nothing is gathered. size: of a rank's part [B].
    """
    layout = scenario.layout
    if layout.tp == 1 or scenario.workload.layout.sequence_parallel:
        return 0.0
    members = layout.ranks(0, "tp")[0].tolist()
    return communication.gather_seconds(members, size * layout.tp)


def _cast_of_shards(scenario: Scenario, costs: Costs) -> Callable[[float], float]:
    """Return what takes a shard from FP32 to what is gathered, where the stack shards master weights."""

    def seconds(parameters: float) -> float:
        cast = cast_shard(scenario.recipe, parameters)
        return costs.processor.seconds((cast,), overlapped=False)

    return seconds if scenario.casts_shards else lambda _: 0.0


@doing("listing transfers")
def coflows(
    scenario: Scenario, schedule: Schedule, costs: Costs, tiles: Tiles | None = None
) -> Coflows:
    """Return all coflows of a step, or where the cluster is cut into tiles those of the first one.

    Errors: InputError if a group cannot run its algorithm; UnevenError if tiles are not loaded alike.
    """
    layout, hosts = scenario.layout, stage_hosts(schedule)
    meets = scenario.pipeline.sends is not PipelineOverlap.ALL
    parts = tiles or whole(scenario.network, layout)
    table = Coflows(Communication.of(scenario), layout, parts, meets)
    blocks_at: dict[int, list[BlockCost]] = {}
    for stage, indices in hosts.items():
        for index in indices:
            for member in costs.members:
                blocks_at.setdefault(index, []).extend(costs.stage(stage, member))
    loads = {
        (index, block.load)
        for index, blocks in blocks_at.items()
        for block in blocks
        if block.exchanges_experts
    }
    for index, pairs in groupby(sorted(loads), key=lambda pair: pair[0]):
        table.add_exchanges(costs, index, [load for _, load in pairs])
    for index, blocks in sorted(blocks_at.items()):
        for transfer in transfers(blocks):
            table.add_transfers(layout.ranks(index, transfer.group), transfer)
    size = costs.activation_bytes()
    gather = _gather_behind(scenario, table.communication, size)
    table.add_sends(pipeline_edges(schedule), size, gather)
    recipe = costs.work.recipe
    widths = Widths(recipe.gradient, recipe.parameter, _cast_of_shards(scenario, costs))
    for stage, indices in hosts.items():
        for bucket in of_stage(costs, stage):
            table.add_bucket(bucket, indices, widths)
    return table

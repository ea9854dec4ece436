"""Every transfer of a step in the whole cluster: which links and ranks each coflow meets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.collectives import CoflowKind, Communication, Demand
from simulator.collectives.demand import latencies
from simulator.collectives.kinds import EXCHANGES, SENDS
from simulator.collectives.paths import Floats
from simulator.costs import BlockCost, Costs
from simulator.costs.buckets import Bucket, holders, of_stage, shards
from simulator.hardware import CommunicationModel
from simulator.layout import Layout
from simulator.ops import Transfer
from simulator.ops.sharding import cast_shard
from simulator.program.orders import handed_to
from simulator.program.sends import routes
from simulator.program.tiles import Tiles, whole
from simulator.scenario import Scenario
from simulator.schedules import PipelineOverlap, Schedule
from simulator.topology import Network

Ranks: TypeAlias = NDArray[np.int64]


class Label(NamedTuple):
    """What a coflow does, alike in all replicas."""

    kind: CoflowKind
    """Which transfer of the step."""
    what: int
    """Load of an exchange, bucket of data parallelism, bytes inside a layer; 0 of a send."""


class CoflowKey(NamedTuple):
    """How ranks name the coflows of which each of them takes part in one."""

    kind: str
    """A `CoflowKind`."""
    what: int
    """As in `Label`; of sends the number of the pipeline edge."""


class Edge(NamedTuple):
    """Between which pipeline ranks an output or a gradient is handed on."""

    kind: CoflowKind
    """FORWARD or BACKWARD."""
    source: int
    """Pipeline index of the sender."""
    target: int
    """Pipeline index of the receiver."""


class Wires(NamedTuple):
    """What a coflow asks of the network."""

    links: Ranks
    """Links, each once."""
    bytes: Floats
    """That cross each [B]."""
    latency: float
    """Of all its rounds [s]."""


@dataclass(slots=True)
class Coflows:
    """Coflows as columns, with links and ranks as flat lists: those of the first tile."""

    communication: Communication
    """What the groups of the scenario run."""
    layout: Layout
    """Who is in which group."""
    tiles: Tiles
    """Parts of the cluster that are alike."""
    meets: bool = False
    """Whether the receiver of a pipeline send takes part in it."""
    label: list[Label] = field(default_factory=list)
    """What each coflow does [coflow]."""
    links: list[Ranks] = field(default_factory=list)
    """Links that each crosses [coflow]."""
    bytes: list[Floats] = field(default_factory=list)
    """Bytes on each of these links [coflow]."""
    latency: list[float] = field(default_factory=list)
    """Latency of its rounds [coflow] s."""
    members: list[tuple[int, ...]] = field(default_factory=list)
    """Ranks of the first tile that take part, of a send source then target [coflow]."""
    spanning: dict[int, Ranks] = field(default_factory=dict)
    """Coflow that reaches over all tiles -> all ranks that take part."""
    kernel: list[CommunicationModel] = field(default_factory=list)
    """Kernel that runs it [coflow]."""
    sm_share: list[float] = field(default_factory=list)
    """Share of the rate that it reaches with SMs enough [coflow]."""
    index: dict[CoflowKey, dict[int, int]] = field(default_factory=dict)
    """Key -> rank, of sends the source -> coflow."""
    edges: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """Pipeline edge -> its number in keys."""
    buckets: dict[Bucket, int] = field(default_factory=dict)
    """Bucket -> its number in keys."""

    def one_sided(self, label: Label) -> bool:
        """Tell whether only the source of a coflow makes a call."""
        return label.kind.one_sided and not self.meets

    @property
    def network(self) -> Network:
        """Return the cluster."""
        return self.communication.scenario.network

    def everyone(self, coflow: int) -> Ranks:
        """Return all ranks that take part in a coflow, those in other tiles too."""
        if coflow in self.spanning:
            return self.spanning[coflow]
        return np.array(self.members[coflow], dtype=np.int64)

    def copies(self) -> Ranks:
        """Return how many coflows of the cluster each stands for [coflow]."""
        copies = np.full(len(self.label), self.tiles.count)
        copies[list(self.spanning)] = 1
        return copies

    def _add_group(
        self, label: Label, demand: Demand, kernel: CommunicationModel, members: Ranks
    ) -> None:
        """Add the coflow of a group that may reach over all tiles. Errors: UnevenError."""
        listed = members[self.tiles.of_rank[members] == 0]
        if len(listed) < len(members):
            share = self.tiles.share(demand.links, demand.bytes)
            demand = Demand(*share, demand.latency)
            self.spanning[len(self.label)] = members
        self._add(label, demand, kernel, tuple(listed.tolist()))

    def _listed(self, groups: Ranks) -> Ranks:
        """Return the groups that meet the first tile. groups: ranks [group, member]. Errors: UnevenError."""
        if self.tiles.count == 1 or not self.tiles.inside(groups):
            return groups
        first: Ranks = groups[self.tiles.of_rank[groups[:, 0]] == 0]
        return first

    def _add(
        self, label: Label, demand: Demand, kernel: CommunicationModel, members: tuple[int, ...]
    ) -> None:
        wires = Wires(demand.links, demand.bytes, demand.latency)
        self._append(label, wires, kernel, members)
        # All members at once: there are as many entries as ranks times coflows that each is in.
        number = len(self.label) - 1
        named = self.index.setdefault(CoflowKey(*label), {})
        named.update(dict.fromkeys(members, number))

    def _append(
        self, label: Label, wires: Wires, kernel: CommunicationModel, members: tuple[int, ...]
    ) -> None:
        self.label.append(label)
        self.links.append(wires.links)
        self.bytes.append(wires.bytes)
        self.latency.append(wires.latency)
        self.kernel.append(kernel)
        self.sm_share.append(1.0)
        self.members.append(members)

    def find(self, key: CoflowKey, rank: int) -> int:
        """Return the coflow that a rank calls by a name, -1 if it takes part in none."""
        return self.index.get(key, {}).get(rank, -1)

    def add_exchanges(self, costs: Costs, pipeline_index: int, load: int) -> None:
        """Add dispatch and combine of every expert group. load: index into `Loads.distinct`."""
        assert costs.loads is not None
        for row in self._listed(self.layout.ranks(pipeline_index, "expert")).tolist():
            for kind in EXCHANGES:
                exchange = self.communication.exchange(
                    kind,
                    row,
                    costs.loads.distinct[load],
                    costs.token_bytes(kind),
                    costs.work.own,
                )
                self._add(Label(kind, load), exchange.demand, exchange.kernel, tuple(row))
                self.sm_share[-1] = exchange.sm_share

    def add_sends(self, edge: Edge, size: float, gather: float = 0.0) -> None:
        """Add the sends of one pipeline edge in every replica.

        size: of the residual stream [B]. gather: how long the receiver's group puts it together [s].
        """
        layout = self.layout
        number = self.edges.setdefault(edge, len(self.edges))
        # Ranks of a stage, as `Layout.rank` numbers them: what is inside of pp varies fastest.
        inner = layout.inner()
        high, low = np.divmod(np.arange(layout.per_stage // self.tiles.count), inner)
        src = low + inner * (edge.source + layout.pp * high)  # [replica]
        dst = low + inner * (edge.target + layout.pp * high)
        # Alike on all edges: who sends to whom tells them apart, and the two directions of a
        # pipeline are mirrors.
        label = Label(edge.kind, 0)
        coflow_of = self.index.setdefault(CoflowKey(edge.kind, number), {})  # by source
        first: tuple[int, ...] = (int(src[0]), int(dst[0]))
        if self.communication.scenario.pipeline.sends is not PipelineOverlap.STEADY:
            # Posted in batches, sends run in the pipeline group's communicator and share its
            # channels; alone each pair has one of its own (PyTorch, ProcessGroupNCCL.cpp).
            stages = inner * (np.arange(layout.pp) + layout.pp * high[0])
            first = tuple((low[0] + stages).tolist())
        kernel = self.communication.plan(edge.kind, first, size).kernel
        found = routes(self.network, src, dst, latencies(self.network, kernel))
        sends = zip(src.tolist(), dst.tolist(), found, strict=True)
        # All ways carry the same: what each link carries is a part of one array.
        same = np.full(max((len(way.links) for way in found), default=0), size)
        for source, target, way in sends:
            wires = Wires(way.links, same[: len(way.links)], way.latency + gather)
            self._append(label, wires, kernel, (source, target))
            coflow_of[source] = len(self.label) - 1

    def add_transfers(self, groups: Ranks, transfer: Transfer) -> None:
        """Add a collective inside layers in every group. groups: ranks [group, member]."""
        kind = CoflowKind(transfer.group)
        label = Label(kind, round(transfer.bytes))
        plan = self.communication.plan(kind, groups[0].tolist(), transfer.bytes)
        known = self.index.get(CoflowKey(*label), {})
        listed = self._listed(groups)
        new = listed[[row[0] not in known for row in listed.tolist()]]
        if not len(new):
            return
        demands = plan.demands(new, transfer.bytes).each()
        for row, demand in zip(new, demands, strict=True):
            self._add_group(label, demand, plan.kernel, row)

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
        plans = {
            kind: self.communication.plan(kind, groups[0].tolist(), size)
            for kind, size in sizes.items()
        }
        listed = self._listed(groups)
        demands = {kind: plans[kind].demands(listed, size).each() for kind, size in sizes.items()}
        for number, row in enumerate(listed):
            for kind, plan in plans.items():
                demand = demands[kind][number]
                if kind in before:
                    demand = replace(demand, latency=demand.latency + before[kind])
                self._add_group(Label(kind, bucket), demand, plan.kernel, row)


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


def pipeline_edges(schedule: Schedule) -> list[Edge]:
    """Return the edges over which ranks hand on."""
    table = schedule.table
    taken = handed_to(schedule)  # [action, half] pipeline index
    edges: list[Edge] = []
    for half, kind in enumerate(SENDS):
        taker = taken[:, half]
        # A rank that holds both stages hands on within itself.
        crosses = (taker >= 0) & (taker != table.rank)
        both = np.stack([table.rank[crosses], taker[crosses]])
        pairs = np.unique(both, axis=1).T
        edges += [Edge(kind, source, target) for source, target in pairs.tolist()]
    return sorted(edges)


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
    for index, load in sorted(loads):
        table.add_exchanges(costs, index, load)
    for index, blocks in sorted(blocks_at.items()):
        for transfer in transfers(blocks):
            table.add_transfers(layout.ranks(index, transfer.group), transfer)
    size = costs.activation_bytes()
    gather = _gather_behind(scenario, table.communication, size)
    for edge in pipeline_edges(schedule):
        table.add_sends(edge, size, gather)
    recipe = costs.work.recipe
    widths = Widths(recipe.gradient, recipe.parameter, _cast_of_shards(scenario, costs))
    for stage, indices in hosts.items():
        for bucket in of_stage(costs, stage):
            table.add_bucket(bucket, indices, widths)
    return table

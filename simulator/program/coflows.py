"""Every transfer of a step between the ranks of the whole cluster, as incidence of coflows with links and ranks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.collectives import COLLECTIVES, Demand, exchange, send
from simulator.collectives.paths import ways
from simulator.costs import BlockCost, Costs
from simulator.costs.buckets import Bucket, holders, of_stage, shards
from simulator.layout import Layout
from simulator.ops import Transfer
from simulator.program.orders import handed_to
from simulator.schedules import Schedule
from simulator.topology import Network

EXCHANGES = ("dispatch", "cached_dispatch", "combine")
DATA = ("reduce_scatter", "all_gather", "all_reduce")
TENSOR = ("tp", "cp", "etp")
SENDS = ("F", "B")
KERNELS = {**dict.fromkeys((*DATA, *SENDS), "nccl"), **dict.fromkeys(TENSOR, "nccl_tensor")}
"""kind of coflow -> kernel of the communication table, where they differ."""
TRAFFIC = {
    **dict.fromkeys(SENDS, "pipeline"),
    **dict.fromkeys(DATA, "data"),
    "tp": "tensor",
    "etp": "tensor",
    "cp": "context",
}
"""kind of coflow -> kind of traffic in the report; exchanges are `expert`."""

Key = tuple[str, int, int]
"""(kind, what of it, rank): exchanges (kind, load, rank), sends (pass, edge, source), collectives of buckets (kind,
number of the bucket, rank), of tensor and context parallelism (kind, bytes, rank). It is how a rank
names the coflow that it takes part in."""
Ranks = NDArray[np.int64]
Edge = tuple[str, int, int]
"""(F or B, from pipeline index, to pipeline index)"""


@dataclass(slots=True)
class Coflows:
    """Coflows as columns, with links and ranks as flat lists.

    label: kind and what of it; alike in all replicas, of sends on all edges. links/bytes: per
    coflow [B]. members: ranks; of a send, source then target. index: how a rank names a coflow ->
    its position. edges, buckets: pipeline edge, bucket -> its number in keys.
    """

    label: list[tuple[str, int]] = field(default_factory=list)
    links: list[Sequence[int]] = field(default_factory=list)
    bytes: list[Sequence[float]] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    members: list[tuple[int, ...]] = field(default_factory=list)
    index: dict[Key, int] = field(default_factory=dict)
    edges: dict[Edge, int] = field(default_factory=dict)
    buckets: dict[Bucket, int] = field(default_factory=dict)

    def _add(self, label: tuple[str, int], demand: Demand, members: tuple[int, ...]) -> None:
        self._append(label, demand.links.tolist(), demand.bytes.tolist(), demand.latency, members)
        for rank in members:
            self.index[(*label, rank)] = len(self.label) - 1

    def _append(
        self,
        label: tuple[str, int],
        links: Sequence[int],
        sizes: Sequence[float],
        latency: float,
        members: tuple[int, ...],
    ) -> None:
        self.label.append(label)
        self.links.append(links)
        self.bytes.append(sizes)
        self.latency.append(latency)
        self.members.append(members)

    def add_exchanges(
        self, network: Network, layout: Layout, costs: Costs, place: tuple[int, int]
    ) -> None:
        """Add dispatch and combine of every expert group. place: (pipeline index, expert load)."""
        assert costs.loads is not None
        index, load = place
        for row in layout.ranks(index, "expert").tolist():
            for kind in EXCHANGES:
                unit = exchange(
                    network, tuple(row), costs.loads.distinct[load], back=kind == "combine"
                )
                self._add((kind, load), unit.scaled(costs.token_bytes(kind)), tuple(row))

    def add_sends(self, network: Network, layout: Layout, edge: Edge, size: float) -> None:
        """Add the sends of one pipeline edge in every replica."""
        number = self.edges.setdefault(edge, len(self.edges))
        high, low = np.divmod(np.arange(layout.per_stage), layout.inner())
        src, dst = (low + layout.inner() * (index + layout.pp * high) for index in edge[1:])
        for source, target, (links, latency) in zip(
            src.tolist(), dst.tolist(), _sends(network, src, dst), strict=True
        ):
            # Alike on all edges: who sends to whom tells them apart, and the two directions of a
            # pipeline are mirrors.
            self._append((edge[0], 0), links, [size] * len(links), latency, (source, target))
            self.index[edge[0], number, source] = len(self.label) - 1

    def add_transfers(self, network: Network, groups: Ranks, transfer: Transfer) -> None:
        """Add a tensor or context parallel collective in every group. groups: ranks [group, member]."""
        label = (transfer.group, round(transfer.bytes))
        for row in groups.tolist():
            if (*label, row[0]) not in self.index:
                unit = COLLECTIVES["all_gather"](network, tuple(row))
                self._add(label, unit.scaled(transfer.bytes), tuple(row))

    def add_bucket(
        self,
        network: Network,
        layout: Layout,
        place: tuple[Bucket, tuple[int, ...]],
        widths: tuple[float, float],
    ) -> None:
        """Add the collectives of one bucket of parameters.

        place: bucket, pipeline indices that hold its stage. widths: bytes of a gradient and of a
        parameter [B].
        """
        bucket, hosts = place
        members = holders(layout, bucket.group, hosts)
        if members.shape[1] == 1:
            return
        number = self.buckets.setdefault(bucket, len(self.buckets))
        inside, across = shards(layout, members)
        sizes = {"reduce_scatter": widths[0], "all_gather": widths[1] if layout.zero else widths[0]}
        for row in inside.tolist() if inside.shape[1] > 1 else ():
            for kind, width in sizes.items():
                unit = COLLECTIVES[kind](network, tuple(row))
                self._add((kind, number), unit.scaled(bucket.parameters * width), tuple(row))
        for row in across.tolist() if across.shape[1] > 1 else ():
            unit = COLLECTIVES["all_gather"](
                network, tuple(row)
            )  # an all-reduce passes twice over its shard
            self._add(
                ("all_reduce", number),
                unit.scaled(2 * bucket.parameters * widths[0] / inside.shape[1]),
                tuple(row),
            )


def _sends(network: Network, src: Ranks, dst: Ranks) -> list[tuple[Sequence[int], float]]:
    """Return the links and the latency of many sends as `send` does of each: all at once where there is one way.

    Not where PCIe links stand on it: `ways` names them in another order.
    """
    way = ways(network, src, dst)
    if (way.share != 1.0).any() or (network.pcie >= 0).any():
        return [send(network, *pair) for pair in zip(src.tolist(), dst.tolist(), strict=True)]
    # In order, for latencies add up to other bits in another: to the NIC and over it, the fabric,
    # the rest.
    kind = np.array(network.kind)[way.link]
    nics = np.cumsum(kind == "nic") - (kind == "nic")
    count = np.bincount(way.pair, minlength=len(src))
    ends = np.cumsum(count)
    begun = (
        nics > np.repeat(nics[np.minimum(ends - count, len(nics) - 1)], count)
        if len(nics)
        else nics > 0
    )
    order = np.lexsort((np.where(kind == "fabric", 1, np.where(begun, 2, 0)), way.pair))
    link = way.link[order]
    latency = np.bincount(way.pair, network.latency[link], len(src)).tolist()
    links = link.tolist()
    return [
        (links[end - size : end], late)
        for end, size, late in zip(ends.tolist(), count.tolist(), latency, strict=True)
    ]


def stage_hosts(schedule: Schedule) -> dict[int, tuple[int, ...]]:
    """Return the pipeline indices that hold each stage; a bidirectional pipeline holds each twice."""
    table = schedule.table
    pair = table.stage_b >= 0
    stages, ranks = [table.stage, table.stage_b[pair]], [table.rank, table.rank[pair]]
    both = np.stack([np.concatenate(stages), np.concatenate(ranks)])
    hosts: dict[int, list[int]] = {}
    for stage, rank in np.unique(both, axis=1).T.tolist():
        hosts.setdefault(stage, []).append(rank)
    return {stage: tuple(held) for stage, held in hosts.items()}


def pipeline_edges(schedule: Schedule) -> list[Edge]:
    """Return the edges over which ranks hand on."""
    table, taken = schedule.table, handed_to(schedule)
    edges: list[Edge] = []
    for half, name in enumerate(SENDS):
        crosses = (taken[:, half] >= 0) & (taken[:, half] != table.rank)
        pairs = np.unique(np.stack([table.rank[crosses], taken[crosses, half]]), axis=1).T
        edges += [(name, source, target) for source, target in pairs.tolist()]
    return sorted(edges)


def transfers(blocks: Iterable[BlockCost]) -> tuple[Transfer, ...]:
    """Return the collectives inside blocks, those of equal group and size once."""
    found: dict[tuple[str, int], Transfer] = {}
    for block in blocks:
        for phase in block.phases.values():
            for hop in phase.hops:
                key = (hop.transfer.group, round(hop.transfer.bytes))
                found.setdefault(key, hop.transfer)
    return tuple(found.values())


def coflows(network: Network, layout: Layout, schedule: Schedule, costs: Costs) -> Coflows:
    """Return all coflows of a step."""
    table = Coflows()
    hosts = stage_hosts(schedule)
    at: dict[int, list[BlockCost]] = {}
    for stage, indices in hosts.items():
        for index in indices:
            for member in costs.members:
                at.setdefault(index, []).extend(costs.stage(stage, member))
    places = {
        (index, block.load)
        for index, blocks in at.items()
        for block in blocks
        if block.exchanges_experts
    }
    for place in sorted(places):
        table.add_exchanges(network, layout, costs, place)
    for index, blocks in sorted(at.items()):
        for transfer in transfers(blocks):
            table.add_transfers(network, layout.ranks(index, transfer.group), transfer)
    for edge in pipeline_edges(schedule):
        table.add_sends(network, layout, edge, costs.activation_bytes())
    recipe = costs.work.recipe
    for stage, indices in hosts.items():
        for bucket in of_stage(costs, stage):
            table.add_bucket(
                network, layout, (bucket, indices), (recipe.gradient, recipe.parameter)
            )
    return table

"""What an MoE layer asks of an expert group: of the GPU that computes most, of the busiest links.

Every exchange waits for the last GPU of its group and ends with its busiest link, so the worst of
each phase of each layer paces everybody. Taking the worst of every phase as everybody's is exact
where a barrier follows each phase (every chunk outside of a pair) and an estimate in overlapped
pairs, where a GPU that is late in one phase can catch up in the next before the group meets, but
communication is slow for as long as any member computes. Ranks stay alike, so the program folds as
with even loads. With `experts.resolve: each` every GPU of a group gets its own rows and every link
its own copies instead: exact, and as many classes of ranks more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from simulator.experts.routing import Routing
from simulator.experts.survey import of_routing
from simulator.experts.traffic import WAYS, Visits, Way
from simulator.model import ModelConfig

_HIERARCHICAL = WAYS["hierarchical"]


class GpuLoad(NamedTuple):
    """What one GPU of an expert group gets, per token of each GPU of the group."""

    rows: float
    """(Token, expert) pairs that it computes."""
    received: float
    """Copies of tokens that dispatch brings, its own included: once, or once per expert here."""


@dataclass(frozen=True, slots=True)
class Load:
    """One MoE layer on an expert group, per token of each GPU."""

    rows: float
    """(Token, expert) pairs that the busiest GPU computes."""
    received: float
    """The same of the busiest GPU, see `GpuLoad.received`."""
    over_nic: float
    """Copies of a token that the busiest NIC carries in one direction."""
    over_nvlink: float
    """Copies of a token that the busiest NVLink port carries in one direction."""
    mean_nic: float
    """Copies that a GPU sends over its NIC, mean over the group."""
    mean_nvlink: float
    """Copies that a GPU sends over NVLink, mean over the group."""
    ep_nodes: int
    """Nodes of the group."""
    gpus_per_node: int
    """GPUs of the group on each node."""
    per_gpu: tuple[GpuLoad, ...] = ()
    """Of every GPU of the group [gpu]; empty where the busiest represents all."""
    reach: tuple[float, ...] = ()
    """Probability that a token of the group goes to each node [node]; empty as `per_gpu`."""

    @property
    def copies(self) -> float:
        """Return the copies that a GPU makes of a token, its own GPU's included, mean over GPUs.

        Of ways that send every copy straight to its GPU; one that forwards makes them on the way.
        """
        gpus = self.ep_nodes * self.gpus_per_node
        if gpus == 1:
            return self.received
        # All sources send alike, so that one copy in `gpus` stays where it is.
        return (self.mean_nic + self.mean_nvlink) * gpus / (gpus - 1)

    def of(self, member: int) -> GpuLoad:
        """Return what a GPU gets. member: of the group, -1: any."""
        if self.per_gpu and member >= 0:
            return self.per_gpu[member]
        return GpuLoad(self.rows, self.received)


@dataclass(frozen=True, slots=True)
class Loads:
    """The loads of all MoE layers of a scenario."""

    even: Load
    """If all experts were equally popular."""
    distinct: tuple[Load, ...]
    """Loads that occur."""
    layers: tuple[int, ...]
    """Index into `distinct` of each MoE layer, those of MTP modules last [layer]."""
    worst_share: float = 1.0
    """Rows of the busiest GPU over the mean, worst layer."""
    mean_share: float = 1.0
    """Rows of the busiest GPU over the mean, mean over layers."""
    dropped: float = 0.0
    """Share of choices that capacity refuses, mean over layers."""

    def levelled(self) -> Loads:
        """Return the same layers with equally popular experts."""
        return all_even(self.even, len(self.layers))


def all_even(load: Load, layers: int) -> Loads:
    """Return the loads of layers that all have the same."""
    return Loads(load, (load,), (0,) * layers)


def even_load(routing: Routing, model: ModelConfig, way: Way = _HIERARCHICAL) -> Load:
    """Return the load of equally popular experts. way: the copies that travel."""
    if way is not _HIERARCHICAL:
        return worst_load(of_routing(routing, model), way=way)
    return Load(
        rows=float(model.num_experts_per_tok),
        received=routing.gpus,
        over_nic=routing.over_nic,
        over_nvlink=routing.over_nvlink,
        mean_nic=routing.over_nic,
        mean_nvlink=routing.over_nvlink,
        ep_nodes=routing.ep_nodes,
        gpus_per_node=routing.gpus_per_node,
    )


def worst_load(visits: Visits, *, per_gpu: bool = False, way: Way = _HIERARCHICAL) -> Load:
    """Return the load of a layer's busiest GPU and of its busiest links.

    per_gpu: with the loads of every GPU and node. way: the copies that travel.
    """
    copies = way.expected(visits, 1.0)
    nic, nvlink = copies.busiest()
    rows = visits.rows(1.0)  # [gpu]
    received = way.received(visits, 1.0)  # [gpu]
    of_gpus: tuple[GpuLoad, ...] = ()
    reach: tuple[float, ...] = ()
    if per_gpu:
        of_gpus = tuple(map(GpuLoad, rows.tolist(), received.tolist()))
        reach = tuple(visits.nodes.tolist())
    return Load(
        rows=float(rows.max()),
        received=float(received.max()),
        over_nic=nic,
        over_nvlink=nvlink,
        mean_nic=float(copies.nic.sum()) / len(visits.gpus),
        mean_nvlink=float(copies.nvlink.sum()) / len(visits.gpus),
        ep_nodes=len(visits.nodes),
        gpus_per_node=visits.gpus_per_node,
        per_gpu=of_gpus,
        reach=reach,
    )

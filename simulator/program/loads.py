"""What each MoE layer asks of an expert group: of the GPU that computes most and of the links that carry most.

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
from functools import lru_cache

import numpy as np

from simulator.experts import EXPECTED, ExpertsConfig, Routing, Visits, route, survey
from simulator.model import ModelConfig
from simulator.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Load:
    """One MoE layer on an expert group, per token of each GPU.

    rows: (token, expert) pairs that a GPU computes. received: tokens that dispatch brings, each
    once. over_nic/over_nvlink: copies of a token that a NIC and an NVLink port carry in one
    direction. mean_nic/mean_nvlink: the same, mean over the group, as sent. ep_nodes: nodes of the
    group. gpus_per_node: GPUs of the group on each node. each: (pairs, tokens received) of every
    GPU of the group, empty where the busiest stands for all [gpu]. reach: probability that a token
    of the group goes to each node [node].
    """

    rows: float
    received: float
    over_nic: float
    over_nvlink: float
    mean_nic: float
    mean_nvlink: float
    ep_nodes: int
    gpus_per_node: int
    each: tuple[tuple[float, float], ...] = ()
    reach: tuple[float, ...] = ()

    def of(self, member: int) -> tuple[float, float]:
        """Return the pairs that a GPU computes and the tokens that it receives. member: of the group, -1: any."""
        return self.each[member] if self.each and member >= 0 else (self.rows, self.received)


@dataclass(frozen=True, slots=True)
class Loads:
    """The loads of a scenario.

    even: if all experts were equally popular. distinct: loads that occur. layers: which of them
    each MoE layer has, MTP modules last [layer]. worst_share: rows of the busiest GPU over the
    mean, worst layer. mean_share: the same, mean over layers. dropped: share of choices that
    capacity refuses, mean over layers.
    """

    even: Load
    distinct: tuple[Load, ...]
    layers: tuple[int, ...]
    worst_share: float = 1.0
    mean_share: float = 1.0
    dropped: float = 0.0


def even_load(routing: Routing, top_k: int) -> Load:
    """Return the load of equally popular experts."""
    links = (routing.over_nic, routing.over_nvlink)
    return Load(float(top_k), routing.gpus, *links, *links, routing.ep_nodes, routing.gpus_per_node)


def worst_load(visits: Visits, *, each: bool = False) -> Load:
    """Return the load of a layer's busiest GPU and of its busiest links. each: with those of every GPU and node."""
    copies = EXPECTED["hierarchical"](visits, 1.0)
    nic, nvlink = copies.busiest()
    return Load(
        rows=float(visits.rows(1.0).max()),
        received=float(visits.received(1.0).max()),
        over_nic=nic,
        over_nvlink=nvlink,
        mean_nic=float(copies.nic.sum()) / len(visits.gpus),
        mean_nvlink=float(copies.nvlink.sum()) / len(visits.gpus),
        ep_nodes=len(visits.nodes),
        gpus_per_node=visits.gpus_per_node,
        each=tuple(zip(visits.rows(1.0).tolist(), visits.received(1.0).tolist(), strict=True))
        if each
        else (),
        reach=tuple(visits.nodes.tolist()) if each else (),
    )


def levelled(found: Loads) -> Loads:
    """Return the same layers with equally popular experts."""
    return Loads(found.even, (found.even,), (0,) * len(found.layers))


def loads(scenario: Scenario) -> Loads | None:
    """Return the loads of a scenario's MoE layers; None without experts."""
    model, config, layout = scenario.model, scenario.workload.experts, scenario.layout
    if not model.n_routed_experts:
        return None
    even = even_load(
        route(model, layout.ep, _on_node(scenario), config.seed), model.num_experts_per_tok
    )
    if config.even:
        return Loads(even, (even,), (0,) * (model.moe_layers + model.num_nextn_predict_layers))
    visits = layer_visits(scenario)
    found = [worst_load(layer, each=config.resolve == "each") for layer in visits]
    distinct = tuple(dict.fromkeys(found))
    shares = [float(layer.pairs.max() / layer.pairs.mean()) for layer in visits]
    return Loads(
        even,
        distinct,
        tuple(distinct.index(load) for load in found),
        max(shares),
        float(np.mean(shares)),
        float(np.mean([layer.dropped for layer in visits])),
    )


def layer_visits(scenario: Scenario) -> tuple[Visits, ...]:
    """Return what one token does in each MoE layer of a scenario, MTP modules last; nothing without experts."""
    model, config, layout = scenario.model, scenario.workload.experts, scenario.layout
    if not model.n_routed_experts:
        return ()
    gpus = _on_node(scenario)
    tokens = scenario.tokens_per_micro_batch // layout.cp
    tokens = tokens // layout.tp if scenario.workload.layout.sequence_parallel else tokens
    if scenario.counts is None:
        return _visits(model, config, layout.ep, gpus, tokens)
    return survey(model, config, layout.ep, gpus, tokens, np.array(scenario.counts))


def _on_node(scenario: Scenario) -> int:
    """Return how many members of an expert group, which stand etp ranks apart, share a node."""
    return max(1, scenario.topology.node.gpus // scenario.layout.etp)


@lru_cache(maxsize=16)  # alternatives of a run share their experts
def _visits(
    model: ModelConfig, config: ExpertsConfig, ep: int, gpus: int, tokens: int
) -> tuple[Visits, ...]:
    return survey(model, config, ep, gpus, tokens)

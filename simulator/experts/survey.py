"""A configuration -> what one token does in each MoE layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.experts.capacity import capacity_of, survival
from simulator.experts.config import ExpertsConfig
from simulator.experts.eplb import Plan, rebalance
from simulator.experts.popularity import popularity
from simulator.experts.routing import Routing, route, sample
from simulator.experts.traffic import Visits, nodes_of, reached
from simulator.model import ModelConfig

Array = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Group:
    """An expert group and what its sample is off by."""

    model: ModelConfig
    """Whose experts they are."""
    config: ExpertsConfig
    """How tokens choose them."""
    ep: int
    """GPUs of the group."""
    on_node: int
    """GPUs of the group on each node."""
    tokens: int
    """Of one GPU and micro-batch."""
    even_gpus: Array
    """Error of `_ratio` at each GPU where all experts are alike [gpu]."""
    even_nodes: Array
    """The same at each node [node]."""


def survey(
    model: ModelConfig,
    config: ExpertsConfig,
    ep: int,
    gpus_per_node: int,
    tokens: int,
    counts: Array | None = None,
) -> tuple[Visits, ...]:
    """Return what one token does in each MoE layer, those of MTP modules last.

    ep: GPUs that the experts are spread over, in order. tokens: of one GPU and micro-batch, for the
    capacity. counts: what `config.file` holds. Experts' loads are the popularity itself; the sample
    only tells how many of a GPU's (and a node's) pairs are the same token's, so that its noise
    makes no GPU busier than another.
    """
    popular = popularity(config, model, counts)
    if config.even:
        return (even(model, ep, gpus_per_node, config.seed),) * len(popular)
    on_node = min(gpus_per_node, ep)
    off = _sample_error(model, ep, on_node, config.seed)
    if config.redundant_experts:  # the error is that of experts in order
        off = (np.ones(ep), np.ones(ep // on_node))
    group = _Group(model, config, ep, on_node, tokens, *off)
    unlike = popular[:1] if config.distribution == "balanced" else popular
    plan = placement(unlike, model, config, ep, gpus_per_node)
    found = tuple(_layer(group, share, _one(plan, layer)) for layer, share in enumerate(unlike))
    return found * len(popular) if config.distribution == "balanced" else found


@lru_cache(maxsize=64)
def even(model: ModelConfig, ep: int, gpus_per_node: int, seed: int) -> Visits:
    """Return what one token does when every expert is equally popular, alike for all GPUs."""
    return of_routing(route(model, ep, gpus_per_node, seed), model)


def of_routing(routing: Routing, model: ModelConfig) -> Visits:
    """Return the means of `route` as visits that are alike for all GPUs."""
    ep, top_k, experts = (
        routing.ep_nodes * routing.gpus_per_node,
        model.num_experts_per_tok,
        model.n_routed_experts,
    )
    return Visits(
        np.full(experts, top_k / experts),
        np.full(ep, top_k / ep),
        np.full(ep, routing.gpus / ep),
        np.full(routing.ep_nodes, routing.nodes / routing.ep_nodes),
    )


def placement(
    popular: Array, model: ModelConfig, config: ExpertsConfig, ep: int, gpus_per_node: int
) -> Plan:
    """Return where experts live: in order, or with replicas as EPLB places them.

    popular: expected choices per token [layer, expert].
    """
    layers, experts = popular.shape
    if config.redundant_experts:
        nodes = max(1, ep // gpus_per_node)
        return rebalance(popular, experts + config.redundant_experts, model.n_group, nodes, ep)
    order = np.tile(np.arange(experts), (layers, 1))
    return Plan(order, order[:, :, None], np.ones_like(order))


def _one(plan: Plan, layer: int) -> Plan:
    rows = slice(layer, layer + 1)
    return Plan(plan.expert[rows], plan.slots[rows], plan.count[rows])


def locate(chosen: Places, plan: Plan, ep: int) -> Places:
    """Return the GPU of each choice [token, choice]. plan: of one layer; replicas take turns."""
    turn = np.arange(len(chosen))[:, None] % plan.count[0][chosen]
    found: Places = plan.slots[0][chosen, turn] * ep // plan.expert.shape[1]
    return found


def _layer(group: _Group, share: Array, plan: Plan) -> Visits:
    model, config, ep, on_node = group.model, group.config, group.ep, group.on_node
    chosen = sample(share, model, config.seed)
    gpus, accepted = locate(chosen, plan, ep), np.ones(len(share))
    if config.capacity_factor is not None:
        accepted = survival(
            share, group.tokens, capacity_of(config.capacity_factor, group.tokens, model)
        )
        lot = np.random.default_rng(config.seed).random(chosen.shape)
        gpus = np.where(lot < accepted[chosen], gpus, -1)
    loads = share * accepted
    pairs = plan.slot_loads(loads[None, :])[0].reshape(ep, -1).sum(axis=1)
    met = pairs.reshape(-1, on_node).sum(axis=1)
    return Visits(
        experts=loads,
        pairs=pairs,
        gpus=np.minimum(1.0, pairs * _ratio(gpus, ep) / group.even_gpus),
        nodes=np.minimum(
            1.0, met * _ratio(nodes_of(gpus, on_node), ep // on_node) / group.even_nodes
        ),
        dropped=float(1.0 - loads.sum() / share.sum()),
    )


def _ratio(places: Places, count: int) -> Array:
    """Return distinct tokens per (token, expert) pair at each place of a sample [place]."""
    pairs = np.bincount(places[places >= 0].ravel(), minlength=count)
    return np.asarray(reached(places, count).sum(axis=0) / np.maximum(pairs, 1))


@lru_cache(maxsize=16)
def _sample_error(model: ModelConfig, ep: int, on_node: int, seed: int) -> tuple[Array, Array]:
    """Return how far `_ratio` of the sample is off at each GPU and node by chance alone."""
    chosen = sample(
        np.full(model.n_routed_experts, model.num_experts_per_tok / model.n_routed_experts),
        model,
        seed,
    )
    gpus, truth = chosen * ep // model.n_routed_experts, route(model, ep, on_node, seed)
    top_k = model.num_experts_per_tok
    return (
        _ratio(gpus, ep) / (truth.gpus / top_k),
        _ratio(nodes_of(gpus, on_node), ep // on_node) / (truth.nodes / top_k),
    )

"""A configuration -> what one token does in each MoE layer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.experts.capacity import capacity_of, survival
from simulator.experts.config import ExpertsConfig
from simulator.experts.eplb import Plan, rebalance
from simulator.experts.micro_batch import typical
from simulator.experts.popularity import popularity
from simulator.experts.routing import CODE, Routing, route, sample, sample_sets
from simulator.experts.traffic import Visits
from simulator.inputs import kept_table
from simulator.model import ModelConfig

Array = NDArray[np.float64]
Places = NDArray[np.intp]


class _Firsts(NamedTuple):
    """Distinct tokens per (token, expert) pair, or what a sample says of it over the truth."""

    gpus: Array
    """At each GPU [gpu]."""
    nodes: Array
    """At each node [node]."""


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
    error: _Firsts
    """Of the sample by chance alone."""


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
    capacity and for what chance adds, see `micro_batch`. counts: what `config.file` holds. Experts'
    loads are the popularity itself; the sample only tells how many of a GPU's (and a node's) pairs
    are the same token's, so that its noise makes no GPU busier than another.
    """
    if config.alike:  # one layer for all
        layers = _expected(model, config, ep, gpus_per_node, tokens, counts)
        if config.by_chance:
            drawn = tuple(typical(one, model, tokens, config.seed, 0) for one in layers[:1])
            return drawn * len(layers)
        return layers
    widths = _Widths(model.n_routed_experts, ep, ep // min(gpus_per_node, ep))

    def sampled() -> Array:
        layers = _sampled(model, config, ep, gpus_per_node, tokens, counts)
        return np.array([widths.row(visits) for visits in layers])

    # What else the configuration says decides about what is done with these loads.
    said = config.model_dump_json(exclude={"dispatcher", "sms", "resolve"})
    parts = (model.model_dump_json(), said, ep, gpus_per_node, tokens, _digest(counts))
    table = kept_table("loads", parts, CODE, widths.all, sampled)
    return tuple(widths.visits(row) for row in table)


def _digest(counts: Array | None) -> str:
    """Return a text that tells recorded counts apart."""
    if counts is None:
        return ""
    return f"{counts.shape} {hashlib.sha256(counts.tobytes()).hexdigest()}"


class _Widths(NamedTuple):
    """How many numbers of each kind the visits of a layer have, in one row."""

    experts: int
    """Of the model."""
    ep: int
    """GPUs of the group."""
    nodes: int
    """Nodes of the group."""

    @property
    def all(self) -> int:
        """Return the numbers of a row, the share that is dropped among them."""
        return self.experts + 2 * self.ep + self.nodes + 1

    def row(self, visits: Visits) -> Array:
        """Return the visits of a layer as a row [number]."""
        dropped = [visits.dropped]
        return np.concatenate([visits.experts, visits.pairs, visits.gpus, visits.nodes, dropped])

    def visits(self, row: Array) -> Visits:
        """Return the visits of a row [number]."""
        ends = np.cumsum([self.experts, self.ep, self.ep, self.nodes])
        experts, pairs, gpus, nodes, dropped = np.split(row, ends)
        return Visits(experts, pairs, gpus, nodes, float(dropped[0]))


def _sampled(
    model: ModelConfig,
    config: ExpertsConfig,
    ep: int,
    gpus_per_node: int,
    tokens: int,
    counts: Array | None,
) -> tuple[Visits, ...]:
    """Return `survey` of layers that differ."""
    layers = _expected(model, config, ep, gpus_per_node, tokens, counts)
    if not config.by_chance:
        return layers
    return tuple(
        typical(visits, model, tokens, config.seed, layer) for layer, visits in enumerate(layers)
    )


def _expected(
    model: ModelConfig,
    config: ExpertsConfig,
    ep: int,
    gpus_per_node: int,
    tokens: int,
    counts: Array | None,
) -> tuple[Visits, ...]:
    """Return `survey` as the mean over micro-batches."""
    popular = popularity(config, model, counts)
    if config.alike and config.capacity_factor is None and not config.redundant_experts:
        visits = even(model, ep, gpus_per_node, config.seed)
        return (visits,) * len(popular)
    on_node = min(gpus_per_node, ep)
    if config.redundant_experts:  # the error of a sample is known for experts in order only
        error = _Firsts(np.ones(ep), np.ones(ep // on_node))
    else:
        error = _sample_error(model, ep, on_node, config.seed)
    group = _Group(model, config, ep, on_node, tokens, error)
    unlike = popular[:1] if config.alike else popular
    plan = placement(unlike, model, config, ep, gpus_per_node)
    layers = tuple(
        _layer(group, share, _of_layer(plan, layer)) for layer, share in enumerate(unlike)
    )
    if config.alike:
        return layers * len(popular)
    return layers


@lru_cache(maxsize=64)
def even(model: ModelConfig, ep: int, gpus_per_node: int, seed: int) -> Visits:
    """Return what one token does when every expert is equally popular, alike for all GPUs."""
    return of_routing(route(model, ep, gpus_per_node, seed), model)


def of_routing(routing: Routing, model: ModelConfig) -> Visits:
    """Return the means of `route` as visits that are alike for all GPUs."""
    ep = routing.ep_nodes * routing.gpus_per_node
    nodes = routing.ep_nodes
    top_k, experts = model.num_experts_per_tok, model.n_routed_experts
    return Visits(
        experts=np.full(experts, top_k / experts),
        pairs=np.full(ep, top_k / ep),
        gpus=np.full(ep, routing.gpus / ep),
        nodes=np.full(nodes, routing.nodes / nodes),
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
        slots = experts + config.redundant_experts
        return rebalance(popular, slots, model.n_group, nodes, ep)
    order = np.tile(np.arange(experts), (layers, 1))
    return Plan(order, order[:, :, None], np.ones_like(order))


def _of_layer(plan: Plan, layer: int) -> Plan:
    """Return the plan of one layer, which keeps its axis."""
    rows = slice(layer, layer + 1)
    return Plan(
        expert=plan.expert[rows],
        slots=plan.slots[rows],
        count=plan.count[rows],
    )


def locate(chosen: Places, plan: Plan, ep: int) -> Places:
    """Return the GPU of each choice [token, choice]. plan: of one layer; replicas take turns."""
    slots = plan.expert.shape[1]
    gpu_of_slot = plan.slots[0] * ep // slots  # [expert, replica]
    if gpu_of_slot.shape[1] == 1:
        return np.take(gpu_of_slot, chosen)
    token = np.arange(len(chosen))[:, None]
    replicas = plan.count[0][chosen]  # [token, choice]
    gpu: Places = gpu_of_slot[chosen, token % replicas]
    return gpu


def _layer(group: _Group, share: Array, plan: Plan) -> Visits:
    model, config = group.model, group.config
    ep, on_node = group.ep, group.on_node
    # Capacity draws a lot for every choice, so that their order matters.
    draw = sample_sets if config.capacity_factor is None else sample
    chosen = draw(share, model, config.seed)  # [token, choice] expert
    gpus = locate(chosen, plan, ep)
    accepted = np.ones(len(share))  # [expert]
    if config.capacity_factor is not None:
        capacity = capacity_of(config.capacity_factor, group.tokens, model)
        accepted = survival(share, group.tokens, capacity)
        lot = np.random.default_rng(config.seed).random(chosen.shape)
        gpus = np.where(lot < accepted[chosen], gpus, -1)
    loads = share * accepted  # [expert]
    of_slots = plan.slot_loads(loads[None, :])[0]
    pairs = of_slots.reshape(ep, -1).sum(axis=1)  # [gpu]
    on_nodes = pairs.reshape(-1, on_node).sum(axis=1)  # [node]
    # Of a token's pairs in one place the first reaches it; the sample tells how many are first.
    first = _firsts(gpus, ep, on_node)
    of_gpus = pairs * first.gpus / group.error.gpus
    of_nodes = on_nodes * first.nodes / group.error.nodes
    return Visits(
        experts=loads,
        pairs=pairs,
        gpus=np.minimum(1.0, of_gpus),
        nodes=np.minimum(1.0, of_nodes),
        dropped=float(1.0 - loads.sum() / share.sum()),
    )


def _firsts(gpus: Places, ep: int, on_node: int) -> _Firsts:
    """Return distinct tokens per (token, expert) pair of a sample. gpus: [token, choice], -1 where dropped."""
    # What was dropped, -1, marks the last row.
    hit = np.zeros((ep + 1, len(gpus)), dtype=bool)  # [gpu, token]
    hit[gpus, np.arange(len(gpus))[:, None]] = True
    by_node = hit[:ep].reshape(ep // on_node, on_node, -1)  # [node, gpu of it, token]
    pairs = np.bincount(gpus[gpus >= 0].ravel(), minlength=ep)  # [gpu]
    of_node = pairs.reshape(-1, on_node).sum(axis=1)
    return _Firsts(
        gpus=hit[:ep].sum(axis=1) / np.maximum(pairs, 1),
        nodes=by_node.any(axis=1).sum(axis=1) / np.maximum(of_node, 1),
    )


@lru_cache(maxsize=16)
def _sample_error(model: ModelConfig, ep: int, on_node: int, seed: int) -> _Firsts:
    """Return how far `_firsts` of the sample is off at each GPU and node by chance alone."""
    experts, top_k = model.n_routed_experts, model.num_experts_per_tok
    chosen = sample_sets(np.full(experts, top_k / experts), model, seed)
    gpus = chosen * ep // experts
    truth = route(model, ep, on_node, seed)
    found = _firsts(gpus, ep, on_node)
    return _Firsts(
        gpus=found.gpus / (truth.gpus / top_k),
        nodes=found.nodes / (truth.nodes / top_k),
    )

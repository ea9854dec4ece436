"""Scenario -> the loads of its MoE layers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simulator.collectives import dispatcher_of
from simulator.experts import (
    ExpertsConfig,
    Loads,
    Visits,
    all_even,
    even_load,
    route,
    survey,
    worst_load,
)
from simulator.model import ModelConfig
from simulator.scenario import Scenario


def loads(scenario: Scenario) -> Loads | None:
    """Return the loads of a scenario's MoE layers; None without experts."""
    model = scenario.model
    config = scenario.workload.experts
    if not model.n_routed_experts:
        return None
    routing = route(model, scenario.layout.ep, _members_per_node(scenario), config.seed)
    way = dispatcher_of(scenario).way
    even = even_load(routing, model, way)
    if config.even:
        # Nothing is sampled: group-limited routing alone says how many nodes a token reaches.
        return all_even(even, model.moe_layers + model.num_nextn_predict_layers)
    visits = layer_visits(scenario)
    per_gpu = config.resolve == "each"
    of_layer = [worst_load(layer, per_gpu=per_gpu, way=way) for layer in visits]
    # Layers of one load are priced once; in order, so that runs are alike.
    distinct = tuple(dict.fromkeys(of_layer))
    shares = []  # [layer] busiest GPU of a group over the mean
    for layer in visits:
        share = layer.pairs.max() / layer.pairs.mean()
        shares.append(float(share))
    dropped = [layer.dropped for layer in visits]
    return Loads(
        even=even,
        distinct=distinct,
        layers=tuple(distinct.index(load) for load in of_layer),
        worst_share=max(shares),
        mean_share=float(np.mean(shares)),
        dropped=float(np.mean(dropped)),
    )


def layer_visits(scenario: Scenario) -> tuple[Visits, ...]:
    """Return what one token does in each MoE layer of a scenario, those of MTP modules last.

    Nothing without experts.
    """
    model = scenario.model
    config = scenario.workload.experts
    layout = scenario.layout
    if not model.n_routed_experts:
        return ()
    members = _members_per_node(scenario)
    # Tokens that a GPU sends: context and sequence parallelism cut them between ranks.
    tokens = scenario.tokens_per_micro_batch // layout.cp
    if scenario.workload.layout.sequence_parallel:
        tokens //= layout.tp
    if scenario.counts is None:
        return _visits(model, config, layout.ep, members, tokens)
    recorded = np.array(scenario.counts)  # [layer, expert]
    return survey(model, config, layout.ep, members, tokens, recorded)


def _members_per_node(scenario: Scenario) -> int:
    """Return how many members of an expert group, whose ranks are etp apart, share a node."""
    gpus = scenario.topology.node.gpus
    return max(1, gpus // scenario.layout.etp)


@lru_cache(maxsize=16)  # alternatives of a run share their experts
def _visits(
    model: ModelConfig, config: ExpertsConfig, ep: int, members_per_node: int, tokens: int
) -> tuple[Visits, ...]:
    return survey(model, config, ep, members_per_node, tokens)

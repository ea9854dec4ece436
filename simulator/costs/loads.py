"""Scenario -> the loads of its MoE layers."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from simulator.collectives import dispatcher_of
from simulator.experts import (
    ExpertsConfig,
    Loads,
    Visits,
    Way,
    all_even,
    even_load,
    route,
    survey,
    worst_load,
)
from simulator.model import ModelConfig
from simulator.scenario import Scenario

MOST_LOADS = 16
"""Loads that are kept: those of a run's alternatives, and of a sweep's points."""


class _Experts(NamedTuple):
    """All that the loads of a scenario follow from, but for the way that tokens take."""

    model: ModelConfig
    """The experts."""
    config: ExpertsConfig
    """How popular they are."""
    ep: int
    """Members of an expert group."""
    members_per_node: int
    """Of these, on one node."""
    tokens: int
    """Tokens that a GPU sends."""
    counts: tuple[tuple[float, ...], ...] | None
    """Recorded tokens, if loads are not drawn [layer, expert]."""

    @classmethod
    def of(cls, scenario: Scenario) -> _Experts:
        layout = scenario.layout
        # Context and sequence parallelism cut tokens between ranks.
        tokens = scenario.tokens_per_micro_batch // layout.cp
        if scenario.workload.layout.sequence_parallel:
            tokens //= layout.tp
        # Ranks of an expert group are etp apart.
        members = max(1, scenario.topology.node.gpus // layout.etp)
        config = scenario.workload.experts
        return cls(scenario.model, config, layout.ep, members, tokens, scenario.counts)


def loads(scenario: Scenario) -> Loads | None:
    """Return the loads of a scenario's MoE layers; None without experts."""
    if not scenario.model.n_routed_experts:
        return None
    return _loads(_Experts.of(scenario), dispatcher_of(scenario).way)


def layer_visits(scenario: Scenario) -> tuple[Visits, ...]:
    """Return what one token does in each MoE layer of a scenario, those of MTP modules last.

    Nothing without experts.
    """
    if not scenario.model.n_routed_experts:
        return ()
    return _visits(_Experts.of(scenario))


@lru_cache(maxsize=MOST_LOADS)
def _loads(experts: _Experts, way: Way) -> Loads:
    model, config = experts.model, experts.config
    routing = route(model, experts.ep, experts.members_per_node, config.seed)
    even = even_load(routing, model, way)
    if config.even:
        # Nothing is sampled: group-limited routing alone says how many nodes a token reaches.
        return all_even(even, model.moe_layers + model.num_nextn_predict_layers)
    visits = _visits(experts)
    per_gpu = config.resolve == "each"
    of_layer = [worst_load(layer, per_gpu=per_gpu, way=way) for layer in visits]
    # Layers of one load are priced once; in order, so that runs are alike.
    distinct = {load: number for number, load in enumerate(dict.fromkeys(of_layer))}
    shares = []  # [layer] busiest GPU of a group over the mean
    for layer in visits:
        share = layer.pairs.max() / layer.pairs.mean()
        shares.append(float(share))
    dropped = [layer.dropped for layer in visits]
    return Loads(
        even=even,
        distinct=tuple(distinct),
        layers=tuple(distinct[load] for load in of_layer),
        worst_share=max(shares),
        mean_share=float(np.mean(shares)),
        dropped=float(np.mean(dropped)),
    )


@lru_cache(maxsize=MOST_LOADS)
def _visits(experts: _Experts) -> tuple[Visits, ...]:
    asked = (experts.model, experts.config, experts.ep, experts.members_per_node, experts.tokens)
    if experts.counts is None:
        return survey(*asked)
    return survey(*asked, np.array(experts.counts))  # [layer, expert]

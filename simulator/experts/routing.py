"""Router scores -> the experts that tokens choose, and how many nodes and GPUs they reach.

The router's own rule (group-limited top-k) is applied to sampled scores; how many nodes and GPUs a
token reaches follows from it. DeepSeek-V3, arXiv 2412.19437, section 2.1.2; config.json's
`topk_method: noaux_tc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.experts.contest import Contest, contest, decide, limited
from simulator.inputs import kept_table
from simulator.model import ModelConfig

CODE = Path(__file__).parent
"""The code that samples: what it computed is kept until it changes."""

Scores = NDArray[np.float32]
Places = NDArray[np.intp]

SAMPLED_TOKENS = 16384
"""of the balanced case, whose numbers are means over all GPUs."""
CORRECTED_TOKENS = 4096
"""of one layer with popularity of its own."""
BLOCK = 1024
"""Tokens whose scores are looked at at once."""
FAR = 2.0
"""Weight with which an expert wins tokens that score it low: a contest of the best leaves too many open."""
CORRECTIONS = 6
"""Rounds of correction at most."""
STEP = 0.35
"""Exponent of one correction: a group's load grows about with the cube of its factor."""
CLOSE = 0.01
"""Error of a group's load that is small enough."""
LEAST = 0.01
"""Weight of an expert that nobody wants, relative to the mean."""
MOST = 0.999
"""Popularity of an expert that every token picks."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Where the tokens of one GPU go, as means over tokens and GPUs."""

    nodes: float
    """Distinct nodes that hold a token's experts, its own included."""
    gpus: float
    """Distinct GPUs that hold a token's experts, its own included."""
    ep_nodes: int
    """Nodes of the expert parallel group."""
    gpus_per_node: int
    """GPUs of the group on each node."""

    @property
    def over_nic(self) -> float:
        """Return copies of a token that its GPU sends over its NIC: one per remote node."""
        return self.nodes * (self.ep_nodes - 1) / self.ep_nodes

    @property
    def over_nvlink(self) -> float:
        """Return copies of a token that a GPU forwards over NVLink: one per GPU but its own."""
        return self.gpus * (self.gpus_per_node - 1) / self.gpus_per_node


def choose(scores: Scores, model: ModelConfig) -> Places:
    """Return the experts that tokens choose, group-limited top-k of router scores.

    scores: [token, expert]. Returns [token, top_k]. Ties do not occur in sampled scores.
    """
    # Block by block, 1.5 times as fast: tokens choose independently of each other.
    return np.concatenate([_choose(block, model) for block in _blocks(scores)])


def _choose(scores: Scores, model: ModelConfig) -> Places:
    top_k = model.num_experts_per_tok
    if not limited(model):
        return np.argpartition(scores, -top_k, axis=1)[:, -top_k:]
    width = scores.shape[1] // model.n_group
    grouped = scores.reshape(len(scores), model.n_group, width)  # [token, group, expert of it]
    if model.topk_method == "noaux_tc":
        partitioned = np.partition(grouped, -2, axis=2)
        two_largest = partitioned[:, :, -2:]
        group_scores = two_largest.sum(axis=2)
    else:
        group_scores = grouped.max(axis=2)
    by_group_score = np.argpartition(group_scores, -model.topk_group, axis=1)
    groups = by_group_score[:, -model.topk_group :]  # [token, chosen group]
    # Only experts of the chosen groups compete: [token, position among them].
    token = np.arange(len(scores))[:, None]
    within = grouped[token, groups].reshape(len(scores), -1)
    by_score = np.argpartition(within, -top_k, axis=1)
    best = by_score[:, -top_k:]
    group = np.take_along_axis(groups, best // width, axis=1)
    chosen: Places = group * width + best % width
    return chosen


def distinct(places: Places, count: int) -> float:
    """Return the mean number of distinct places per row. places: [token, choice] in 0..count-1."""
    rows = places.shape[0]
    hit = np.zeros((rows, count), dtype=bool)  # [row, place]
    np.put_along_axis(hit, places, True, axis=1)
    return float(hit.sum() / rows)


@lru_cache(maxsize=64)
def route(model: ModelConfig, ep: int, gpus_per_node: int, seed: int) -> Routing:
    """Return where tokens go when every expert is equally popular.

    ep: GPUs that the experts are spread over, in order. gpus_per_node: GPUs of a node.
    """
    on_node = min(gpus_per_node, ep)
    ep_nodes = -(-ep // on_node)

    def sampled() -> NDArray[np.float64]:
        return np.array([_reach(model, ep, on_node, seed)])

    parts = (model.model_dump_json(), ep, on_node, seed)
    ((nodes, gpus),) = kept_table("routes", parts, CODE, 2, sampled).tolist()
    return Routing(nodes, gpus, ep_nodes, on_node)


def _reach(model: ModelConfig, ep: int, on_node: int, seed: int) -> tuple[float, float]:
    """Return the mean number of distinct nodes and GPUs that hold a token's experts."""
    rng = np.random.default_rng(seed)
    # Uniform scores: only their order matters, except in a group's sum of two, where a trained
    # router's scores are not published. Normal scores through a sigmoid give 0.3% more nodes.
    scores = rng.random((SAMPLED_TOKENS, model.n_routed_experts), dtype=np.float32)
    experts = choose(scores, model)
    gpu = experts * ep // model.n_routed_experts
    return distinct(gpu // on_node, -(-ep // on_node)), distinct(gpu, ep)


class _Block(NamedTuple):
    """Scores of some tokens of the sample on which weights are tried."""

    scores: Scores
    """All of them [token, expert]."""
    entered: Contest
    """Those of experts that compete."""


@lru_cache(maxsize=4)
def _contests(model: ModelConfig, seed: int) -> tuple[_Block, ...]:
    scores = _scores(CORRECTED_TOKENS, model.n_routed_experts, seed)
    return tuple(_Block(block, contest(block, model)) for block in _blocks(scores))


@lru_cache(maxsize=4)
def _scores(tokens: int, experts: int, seed: int) -> Scores:
    return np.random.default_rng(seed).random((tokens, experts), dtype=np.float32)


def _blocks(scores: Scores) -> list[Scores]:
    """Return the scores of `BLOCK` tokens at a time, which stay in the processor's cache."""
    return [scores[first : first + BLOCK] for first in range(0, len(scores), BLOCK)]


def _choose_weighted(weight: Scores, model: ModelConfig, seed: int) -> Places:
    """Return what `choose` does of the sample's scores, a token's choices in any order. weight: [expert]."""
    inverse = 1.0 / weight
    if weight.max() > FAR:
        return choose(_scores(CORRECTED_TOKENS, model.n_routed_experts, seed) ** inverse, model)
    chosen = []  # [block] of [token, top_k]
    for scores, entered in _contests(model, seed):
        decided = decide(entered, inverse, model)
        doubtful = decided.doubtful
        if len(doubtful):
            decided.chosen[doubtful] = choose(scores[doubtful] ** inverse, model)
        chosen.append(decided.chosen)
    return np.concatenate(chosen)


@lru_cache(maxsize=8)
def _even_load(model: ModelConfig, seed: int) -> NDArray[np.float64]:
    """Return what groups get of a sample with equal weights [group]: its error by chance."""
    scores = _scores(CORRECTED_TOKENS, model.n_routed_experts, seed)
    return _group_load(choose(scores, model), model)


def _group_load(chosen: Places, model: ModelConfig) -> NDArray[np.float64]:
    """Return how many experts of each group the tokens choose [group]. chosen: [token, top_k]."""
    group = chosen * model.n_group // model.n_routed_experts
    count = np.bincount(group.ravel(), minlength=model.n_group)
    load = count.astype(np.float64)
    return np.maximum(1.0, load)  # loads are divided by


def weights(popularity: NDArray[np.float64], model: ModelConfig, seed: int = 0) -> Scores:
    """Return the weight w of each expert with which scores u^(1/w) give it its popularity.

    popularity: expected choices per token [expert], sums to top_k. Choosing the largest u^(1/w), u
    uniform, is drawing without replacement in proportion to w (Efraimidis and Spirakis 2006); the
    threshold hardly varies between tokens, so an expert is chosen with 1 - c^w (Rosen 1997), which
    is solved for w. Equal popularities give w = 1, plain uniform scores. A limit on groups favours
    popular groups; a factor per group, found on sampled scores, takes that back.

    How far the loads are off then, root mean square over choices, beyond chance: without a limit on
    groups less than 1%; with one 1.5% where no expert has more than about three times the mean
    load, 3% up to eight times. An expert that every token shall pick needs its group in every
    token, which the group's score does not give: 15%.
    """
    return _fitted(popularity, model, seed).weights


class _Fitted(NamedTuple):
    """Weights that give experts their popularity."""

    weights: Scores
    """Of each expert, see `weights` [expert]."""
    chosen: Places | None
    """What CORRECTED_TOKENS tokens choose with them, if that is known [token, top_k]."""


def _fitted(popularity: NDArray[np.float64], model: ModelConfig, seed: int) -> _Fitted:
    experts, top_k = model.n_routed_experts, model.num_experts_per_tok
    if top_k == experts:
        return _Fitted(np.ones(experts, dtype=np.float32), None)
    # 1 - c^w = popularity, and w = 1 gives the mean, top_k / experts: both logarithms are of c.
    missed = np.log1p(-np.minimum(popularity, MOST))  # [expert]
    ungrouped = missed / np.log1p(-top_k / experts)
    fitted: Scores = np.maximum(ungrouped, LEAST).astype(np.float32)
    if not limited(model):
        return _Fitted(fitted, None)
    # A popular group is chosen more often than its experts alone would be: a factor per group
    # takes that back, step by step, on the same scores.
    even = _even_load(model, seed)  # [group]
    wanted = popularity.reshape(model.n_group, -1).sum(axis=1)  # [group]
    factor = np.ones(model.n_group)
    for _ in range(CORRECTIONS):
        chosen = _choose_weighted(fitted, model, seed)
        # The same scores with all weights 1 tell how far sampling alone is off.
        load = _group_load(chosen, model) / even * top_k / model.n_group
        missing = wanted / load  # [group]
        if np.abs(missing - 1.0).max() < CLOSE:
            return _Fitted(fitted, chosen)
        factor *= missing**STEP
        corrected = ungrouped * np.repeat(factor, experts // model.n_group)
        fitted = np.maximum(corrected, LEAST).astype(np.float32)
    return _Fitted(fitted, None)


def sample(
    popularity: NDArray[np.float64],
    model: ModelConfig,
    seed: int = 0,
    tokens: int = CORRECTED_TOKENS,
) -> Places:
    """Return experts that tokens choose when experts are unlike.

    popularity: expected choices per token [expert], sums to top_k. Returns [token, top_k], the
    choices of a token in the order of `choose`.
    """
    weight = _fitted(popularity, model, seed).weights
    scores = _scores(tokens, model.n_routed_experts, seed)
    return choose(scores ** (1.0 / weight), model)


def sample_sets(popularity: NDArray[np.float64], model: ModelConfig, seed: int) -> Places:
    """Return `sample`, the choices of a token in any order: much faster where experts are nearly alike."""
    weight, chosen = _fitted(popularity, model, seed)
    if chosen is not None:
        return chosen
    return _choose_weighted(weight, model, seed)

"""One micro-batch's loads: what chance adds to the popularity of experts, without a load per micro-batch.

However alike experts are, tokens that choose them one by one never load GPUs alike: forcing balance
in Megatron-LM draws the router's scores at random (core/transformer/moe/moe_utils.py,
apply_random_logits), and a trained router that is even over a whole data set is not over one
micro-batch. Ranks wait for the busiest GPU in every layer of every micro-batch, so that a step
takes as long as if each had a micro-batch whose busiest GPU is as busy as busiest ones are on
average. One such micro-batch is drawn for a layer and stands for all; ranks fold as before.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.experts.routing import choose
from simulator.experts.traffic import Visits
from simulator.model import ModelConfig

Array = NDArray[np.float64]

TOKENS = 4096
"""Sampled to see how a token's choices hang together."""
MICRO_BATCHES = 256
"""Drawn to find the mean of their busiest GPUs."""


def typical(visits: Visits, model: ModelConfig, tokens: int, seed: int, layer: int) -> Visits:
    """Return a layer's visits in a micro-batch whose busiest GPU is as busy as on average.

    visits: expectations over all micro-batches. tokens: of one GPU and micro-batch.
    """
    ep = len(visits.pairs)
    if ep == 1:  # all choices stay at home
        return visits
    drawn = visits.pairs + _noise(model, ep, tokens * ep, seed, layer)  # [micro-batch, gpu]
    drawn = np.maximum(drawn, 0.0)
    busiest = drawn.max(axis=1)  # [micro-batch]
    nearest = int(np.abs(busiest - busiest.mean()).argmin())
    return _with_pairs(visits, drawn[nearest])


def _with_pairs(visits: Visits, pairs: Array) -> Visits:
    """Return visits with other loads; places are reached as much more often as they are busier."""
    on_node = visits.gpus_per_node
    of_gpu = _ratio(pairs, visits.pairs)
    of_node = _ratio(_by_node(pairs, on_node), _by_node(visits.pairs, on_node))
    return replace(
        visits,
        pairs=pairs,
        gpus=np.minimum(1.0, visits.gpus * of_gpu),
        nodes=np.minimum(1.0, visits.nodes * of_node),
    )


def _by_node(of_gpus: Array, on_node: int) -> Array:
    return np.asarray(of_gpus.reshape(-1, on_node).sum(axis=1))


def _ratio(drawn: Array, expected: Array) -> Array:
    """Return how much busier places are than expected; those that nobody goes to stay as they are."""
    return np.where(expected > 0, drawn / np.maximum(expected, 1e-12), 1.0)


def _noise(model: ModelConfig, ep: int, tokens: int, seed: int, layer: int) -> Array:
    """Return how far GPUs' choices per token are off in some micro-batches [micro-batch, gpu].

    tokens: of the whole group. A sum over many tokens is normal, with their covariance.
    """
    rng = np.random.default_rng([seed, layer, MICRO_BATCHES])
    normal = rng.standard_normal((MICRO_BATCHES, ep))
    # Not `@`: a BLAS of several threads costs more than so small a product, and may round otherwise.
    off = np.einsum("ms,sg->mg", normal, _deviation(model, ep, seed)) / np.sqrt(tokens)
    return np.asarray(off - off.mean(axis=1, keepdims=True))  # no choice is lost to rounding


@lru_cache(maxsize=16)
def _deviation(model: ModelConfig, ep: int, seed: int) -> Array:
    """Return the root of the covariance of one token's choices on GPUs [gpu, gpu].

    Sampled where experts are alike, which they are nearly enough for what chance adds.
    """
    experts = model.n_routed_experts
    scores = np.random.default_rng([seed, TOKENS]).random((TOKENS, experts), dtype=np.float32)
    gpus = choose(scores, model) * ep // experts
    counts = np.zeros((TOKENS, ep))  # [token, gpu]
    np.add.at(counts, (np.arange(TOKENS)[:, None], gpus), 1.0)
    covariance = np.atleast_2d(np.cov(counts, rowvar=False))
    # All GPUs together get top_k of every token, so that one variance is none: no Cholesky factor.
    variances, axes = np.linalg.eigh(covariance)
    root = axes * np.sqrt(np.maximum(variances, 0.0)) @ axes.T
    return np.asarray(root)

"""Distribution -> how popular each expert of each layer is, as expected choices per token.

One signature, one table. What is published about trained models is a single number per model,
MaxVio or a Gini coefficient; that loads are log-normal apart from it is assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.experts.config import ExpertsConfig
from simulator.model import ModelConfig

Array = NDArray[np.float64]
Distribution = Callable[[ExpertsConfig, ModelConfig, int, Array | None], Array]
"""(config, model, layers, recorded counts) -> relative popularity [layer, expert]."""


def _streams(config: ExpertsConfig, layers: int) -> list[np.random.Generator]:
    """Return one stream per layer: a popularity does not depend on how many layers there are."""
    return [np.random.default_rng([config.seed, layer]) for layer in range(layers)]


def _balanced(
    config: ExpertsConfig, model: ModelConfig, layers: int, counts: Array | None
) -> Array:
    return np.ones((layers, model.n_routed_experts))


def _power_law(
    config: ExpertsConfig, model: ModelConfig, layers: int, counts: Array | None
) -> Array:
    rank = 1.0 + np.arange(model.n_routed_experts)
    relative = rank ** -(config.exponent or 0.0)
    return np.stack([rng.permutation(relative) for rng in _streams(config, layers)])


def _log_normal(
    config: ExpertsConfig, model: ModelConfig, layers: int, counts: Array | None
) -> Array:
    experts = model.n_routed_experts
    streams = _streams(config, layers)
    normal = np.stack([rng.standard_normal(experts) for rng in streams])
    sigma = config.sigma or 0.0
    if config.max_violation is not None:
        sigma = _solve(normal, Target("max_violation", config.max_violation), model)
    if config.gini is not None:
        sigma = _solve(normal, Target("gini", config.gini), model)
    return _exponential(normal, sigma)


def _exponential(normal: Array, sigma: float) -> Array:
    """Return exp(sigma x) relative to each layer's largest, so that nothing overflows."""
    below_largest = normal - normal.max(axis=1, keepdims=True)
    return np.asarray(np.exp(sigma * below_largest))


def _dirichlet(
    config: ExpertsConfig, model: ModelConfig, layers: int, counts: Array | None
) -> Array:
    shape = np.full(model.n_routed_experts, config.concentration or 1.0)
    return np.stack([rng.dirichlet(shape) for rng in _streams(config, layers)])


def _recorded(
    config: ExpertsConfig, model: ModelConfig, layers: int, counts: Array | None
) -> Array:
    """Return recorded counts, steps added up; unrecorded MTP modules take the last layer's."""
    if counts is None:
        raise InputError("was not read", key="experts.file", value=config.file)
    pooled = counts.sum(axis=0) if counts.ndim == 3 else counts  # [layer, expert]
    recorded, experts = pooled.shape
    fits = experts == model.n_routed_experts and recorded in (model.moe_layers, layers)
    if not fits:
        raise InputError(
            f"holds counts of {recorded} layers and {experts} experts",
            key="experts.file",
            value=config.file,
            remedy=f"The model has {model.moe_layers} MoE layers of {model.n_routed_experts}.",
        )
    silent = np.flatnonzero(pooled.sum(axis=1) <= 0)
    if len(silent):
        raise InputError(
            f"counts no token in layer {silent[0]}", key="experts.file", value=config.file
        )
    unrecorded = np.repeat(pooled[-1:], layers - recorded, axis=0)
    return np.concatenate([pooled, unrecorded])


DISTRIBUTIONS: dict[str, Distribution] = {
    "balanced": _balanced,
    "random": _balanced,
    "power_law": _power_law,
    "log_normal": _log_normal,
    "dirichlet": _dirichlet,
    "recorded": _recorded,
}
"""name -> relative popularity of experts."""


def popularity(config: ExpertsConfig, model: ModelConfig, counts: Array | None = None) -> Array:
    """Return the expected choices per token of each expert; they sum to top_k in each layer.

    counts: what `config.file` holds, [layer, expert] or [step, layer, expert]. Returns [layer,
    expert]: the MoE layers in forward order, then those of MTP modules. No value exceeds 1, for a
    token picks an expert once: what a distribution puts above it goes to the others. Errors:
    InputError.
    """
    layers = model.moe_layers
    if model.n_routed_experts:
        layers += model.num_nextn_predict_layers
    if not layers:
        return np.zeros((0, model.n_routed_experts))
    distribution = DISTRIBUTIONS[config.distribution]
    relative = distribution(config, model, layers, counts)
    return _limit(relative, model.num_experts_per_tok)


def max_violation(loads: Array) -> Array:
    """Return MaxVio of each layer: (largest - mean load) / mean load. loads: [..., expert].

    Wang et al. 2024, arXiv 2408.15664, equation 4; table 2 (a whole validation set): 0.04 with
    auxiliary-loss-free balancing, 0.72 (1B) and 0.52 (3B) with an auxiliary loss of 0.001.
    """
    largest = loads.max(axis=-1)
    mean = loads.mean(axis=-1)
    return np.asarray(largest / mean - 1.0)


def _limit(relative: Array, top_k: int) -> Array:
    """Return relative popularity [layer, expert] scaled to sum to top_k with no value above 1."""
    scale = top_k / relative.sum(axis=1, keepdims=True)  # [layer, 1]
    result: Array = relative * scale
    # Cutting one expert off pushes others over the limit, so that it is repeated until none is;
    # every round fills at least one more.
    for row in result:
        full = row > 1.0
        while full.any() and not full.all():
            # What is cut off goes to the others, in proportion to what they have, evenly if that
            # is nothing.
            room = top_k - full.sum()
            rest = row[~full].sum()
            row[full] = 1.0
            if rest > 0:
                row[~full] *= room / rest
            else:
                row[~full] = room / (~full).sum()
            if not (row[~full] > 1.0).any():
                break
            full |= row > 1.0
    return result


def gini(loads: Array) -> Array:
    """Return the Gini coefficient of each layer: 0 where all experts get the same. loads: [..., expert].

    Half the mean absolute difference of two experts, the same one twice among them, over the mean.
    """
    count = loads.shape[-1]
    ordered = np.sort(loads, axis=-1)
    rank = 2.0 * np.arange(1, count + 1) - count - 1.0  # [expert]
    return np.asarray((rank * ordered).sum(axis=-1) / (count * ordered.sum(axis=-1)))


class Target(NamedTuple):
    """What a spread of loads is asked to have."""

    key: str
    """Of `experts`, and of `STATISTICS`."""
    value: float
    """Of the statistic, mean over layers."""


STATISTICS: dict[str, Callable[[Array], Array]] = {"max_violation": max_violation, "gini": gini}
"""Key of `experts` -> statistic of loads, one per layer."""


def _most(key: str, model: ModelConfig) -> float:
    """Return a statistic's limit: top_k experts that every token picks, and others that none does."""
    share = model.num_experts_per_tok / model.n_routed_experts
    return 1.0 / share - 1.0 if key == "max_violation" else 1.0 - share


def _solve(normal: Array, target: Target, model: ModelConfig) -> float:
    """Return the sigma at which a statistic, mean over layers, is the target; it grows with sigma."""
    most = _most(target.key, model)
    if target.value >= most:
        raise InputError(
            f"is out of reach: an expert that every token picks has {most:g}",
            value=target.value,
            key=f"experts.{target.key}",
            remedy=f"Choose less than {most:g}.",
        )
    statistic = STATISTICS[target.key]

    def reached(sigma: float) -> float:
        loads = _limit(_exponential(normal, sigma), model.num_experts_per_tok)
        return float(statistic(loads).mean())

    # Double until the target is between two, then halve: 60 times leave a float no digit.
    low, high = 0.0, 1.0
    while reached(high) < target.value and high < 64.0:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if reached(middle) < target.value:
            low = middle
        else:
            high = middle
    return high

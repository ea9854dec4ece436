"""Capacity factor: the choices that an expert refuses, one by one or in expectation."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from simulator.model import ModelConfig

Array = NDArray[np.float64]
Places = NDArray[np.intp]


def keep(chosen: Places, source: Places, capacity: int, experts: int) -> NDArray[np.bool_]:
    """Return which choices an expert accepts: the first `capacity` tokens of each GPU.

    chosen: [token, choice]. source: [token]. Returns [token, choice]. Per GPU as in Megatron-Core's
    `moe_expert_capacity_factor`; by position, because sampled scores know no probabilities.
    """
    # Choices of one GPU for one expert are put side by side, in the order of the tokens; each one's
    # distance from the first of them tells how many come before it.
    pair = (source[:, None] * experts + chosen).ravel()  # [choice] (GPU, expert) as one number
    order = np.argsort(pair, kind="stable")
    ordered = pair[order]
    differs = ordered[1:] != ordered[:-1]
    begins = np.concatenate([[True], differs])
    number = np.arange(len(pair))
    first = np.maximum.accumulate(np.where(begins, number, 0))
    accepted = np.empty(len(pair), dtype=bool)
    accepted[order] = number - first < capacity
    return accepted.reshape(chosen.shape)


def capacity_of(factor: float, tokens: int, model: ModelConfig) -> int:
    """Return the tokens that an expert accepts of one GPU with `tokens` tokens."""
    return math.ceil(factor * tokens * model.num_experts_per_tok / model.n_routed_experts)


def survival(share: Array, tokens: int, capacity: int) -> Array:
    """Return which part of the choices of each expert is accepted, in expectation.

    share: expected choices per token [expert]. The choices of one GPU's tokens are binomial, taken
    as normal: E[min(X, C)] = m - (m - C) Phi(z) - s phi(z) for z = (m - C) / s.
    """
    mean = np.maximum(share * tokens, 1e-12)
    deviation = np.sqrt(np.maximum(mean * (1.0 - share), 1e-12))
    z = (mean - capacity) / deviation
    # NumPy has no error function, and SciPy is too much to import for one.
    scaled = z / math.sqrt(2.0)
    error = np.array([math.erf(value) for value in scaled.tolist()])
    below = 0.5 * (1.0 + error)  # Phi(z)
    square = np.minimum(z * z, 1400.0)  # beyond it exp gives 0
    peak = math.sqrt(2.0 * math.pi)
    density = np.exp(-0.5 * square) / peak  # phi(z)
    lost = (mean - capacity) * below + deviation * density
    accepted = 1.0 - np.maximum(lost, 0.0) / mean
    return np.asarray(np.clip(accepted, 0.0, 1.0))

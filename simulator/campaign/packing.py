"""How samples of unequal length fill sequences: packed together, or padded one by one.

Lengths are log-normal, cut off at the longest: the quantiles of the distribution stand for all samples,
so that the same file gives the same result without drawing any.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.campaign.config import SftConfig
from simulator.errors import InputError

QUANTILES = 2048
"""Samples that stand for all."""


class Packed(NamedTuple):
    """What sequences of one length hold."""

    fill: float
    """Share of their tokens that are samples' own."""
    context: float
    """Length over which a token's sample runs, mean over tokens: E[length^2] / E[length]."""


def packed(sft: SftConfig, longest: int) -> Packed:
    """Return what sequences of the longest length hold. Errors: InputError where the mean is longer."""
    sizes = lengths(sft.mean_length, sft.spread, longest)
    total = float(sizes.sum())
    if sft.packing == "padding":
        # Every sample has a sequence of its own, over all of which attention runs.
        return Packed(total / (len(sizes) * longest), float(longest))
    return Packed(total / (_bins(sizes, longest) * longest), float((sizes**2).sum()) / total)


def lengths(mean: float, spread: float, longest: int) -> NDArray[np.float64]:
    """Return the quantiles of samples' lengths, falling [sample] tokens.

    mean: after the cut. spread: standard deviation of ln length before it. Errors: InputError.
    """
    if mean >= longest:
        raise InputError(
            f"is not below the longest sample, {longest:,}", key="mean_length", value=mean
        )
    normal = np.exp(spread * _normal_quantiles())
    # The cut takes from the mean: the median is found that gives it back.
    low, high = 0.0, float(longest)
    for _ in range(60):
        median = (low + high) / 2
        if np.minimum(median * normal, longest).mean() < mean:
            low = median
        else:
            high = median
    return np.maximum(1.0, np.minimum(low * normal, longest))[::-1]


def _normal_quantiles() -> NDArray[np.float64]:
    """Return the quantiles of a standard normal distribution, rising [quantile]."""
    from statistics import NormalDist

    normal = NormalDist()
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return np.array([normal.inv_cdf(share) for share in shares])


def _bins(sizes: NDArray[np.float64], longest: int) -> int:
    """Return how many sequences best-fit packing needs. sizes: falling [sample] tokens."""
    room: list[float] = []  # what is left in each sequence, rising
    for size in sizes.tolist():
        # Into the fullest sequence that has room, as DeepSeek's packing does.
        index = bisect.bisect_left(room, size)
        left = room.pop(index) if index < len(room) else float(longest)
        bisect.insort(room, left - size)
    return len(room)

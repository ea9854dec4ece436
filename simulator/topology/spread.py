"""GPUs of one kind that differ by some percent: how slow the slowest of those that wait is expected to be.

A group runs at the pace of its slowest member. Of n GPUs whose kernels take 1 + x times as long, x
normal with mean 0, the slowest is expected at E[max of n normals] deviations: an order statistic, in
closed form but for one integral (David and Nagaraja, Order Statistics, 2003, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_REACH = 8.0
"""Normals beyond so many deviations do not occur: 1 in 10^15."""
_POINTS = 3201
"""Of the grid on which distributions are integrated: a two-hundredth of a deviation apart."""


class Crowd(NamedTuple):
    """GPUs that do the same work, each at its own pace."""

    seconds: float
    """What the work takes a GPU of mean speed [s]."""
    gpus: int
    """How many GPUs."""


@lru_cache(maxsize=1)
def _grid() -> Floats:
    """Return deviations from the mean [point]."""
    return np.linspace(-_REACH, _REACH, _POINTS)


@lru_cache(maxsize=1)
def _below() -> Floats:
    """Return the share of normals below each point of the grid [point]."""
    return np.array([0.5 * math.erfc(-point / math.sqrt(2.0)) for point in _grid().tolist()])


@lru_cache(maxsize=256)
def expected_largest(count: int) -> float:
    """Return the expected largest of so many standard normals: 0 of one, 0.56 of two, 3.2 of 1,000."""
    return _integral(_below() ** count)


@lru_cache(maxsize=256)
def deviation_of_largest(count: int) -> float:
    """Return the standard deviation of the largest of so many standard normals: 1 of one, 0.35 of 1,000."""
    below = _below() ** count
    # E[x^2] = top^2 - integral of 2 x F.
    square = _REACH**2 - _area(2.0 * _grid() * below)
    return math.sqrt(square - expected_largest(count) ** 2)


def expected_slowest(crowds: Sequence[Crowd], deviation: float) -> float:
    """Return when the last of several crowds is expected to be done [s].

    deviation: relative, of the time that a kernel takes.
    """
    mean = max(crowd.seconds for crowd in crowds)
    scale = mean * deviation  # one deviation of the longest work [s]
    finish = mean + scale * _grid()  # [point] s
    done = {crowd: _done(crowd, finish, deviation) for crowd in set(crowds)}
    all_done = np.ones(_POINTS)  # [point] probability
    for crowd in crowds:
        all_done *= done[crowd]
    return mean + scale * _integral(all_done)


def _done(crowd: Crowd, finish: Floats, deviation: float) -> Floats:
    """Return how likely all GPUs of a crowd are done at each time [point]. finish: times [point] s."""
    deviations = (finish / crowd.seconds - 1.0) / deviation
    below: Floats = np.interp(deviations, _grid(), _below(), left=0.0, right=1.0)
    done: Floats = below**crowd.gpus
    return done


def _integral(distribution: Floats) -> float:
    """Return the mean of a distribution on the grid. distribution: share below each point [point]."""
    return _REACH - _area(distribution)  # E[x] = top - integral of F


def _area(values: Floats) -> float:
    """Return the integral of values on the grid, by the trapezoidal rule. values: [point]."""
    inner = float(values.sum()) - float(values[0] + values[-1]) / 2.0
    return inner * 2.0 * _REACH / (_POINTS - 1)

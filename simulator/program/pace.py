"""Unequal GPUs without unfolding: each pipeline index at the pace that order statistics expect of it.

GPUs differ for the whole step, and whoever is slowest decides once for all: replicas wait for each
other at the end, members of a tensor, expert or context parallel group in every layer, stages of a
pipeline for the slowest one. So one pipeline index, that of the longest kernels, gets the pace of
the slowest GPU of all, and the others that of the slowest of a group, which fills and drains the
pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.layout import Layout, ZeroStage
from simulator.topology import Crowd, deviation_of_largest, expected_largest, expected_slowest

Floats = NDArray[np.float64]
_IN_EVERY_LAYER: tuple[str, ...] = ("tp", "cp", "expert", "etp")
"""Kinds of groups whose members wait for each other in every layer."""


def group_size(layout: Layout) -> int:
    """Return how many ranks of a pipeline index wait for each other in every layer."""
    kinds = _IN_EVERY_LAYER
    if layout.zero >= ZeroStage.PARAMETERS:
        kinds = (*kinds, "data")  # parameters are gathered layer by layer
    # Ranks that share a group, directly or through others, get the least of their numbers.
    label = np.arange(layout.per_stage)  # [local rank]
    before = np.full_like(label, -1)
    while not np.array_equal(before, label):
        before = label.copy()
        for kind in kinds:
            groups = layout.groups(kind)  # [group, member]
            least = label[groups].min(axis=1)
            label[groups] = least[:, None]
    _, sizes = np.unique(label, return_counts=True)
    return int(sizes.max())


class Paces(NamedTuple):
    """How many times as long kernels take on unequal GPUs, as expected."""

    busiest: float
    """At the pipeline index of the longest kernels, whose GPUs hold up the others all the time."""
    others: float
    """Elsewhere, which counts while the pipeline fills and drains."""


def expected_paces(
    layout: Layout, kernels: Sequence[float], ramp: float, deviation: float
) -> Paces:
    """Return the paces that make a step as long as it is expected to be.

    kernels: what they take in a step on a GPU of mean speed [pipeline index] s. ramp: of a step,
    what kernels of other indices take while the busiest one waits for them [s]. deviation:
    relative, from GPU to GPU.
    """
    busiest = max(kernels)
    size = group_size(layout)
    replicas = layout.per_stage // size
    # The longest of all replicas, and of one: as far apart as if so many normals were compared.
    all_replicas = _slowest(tuple(kernels), layout.per_stage, deviation)
    one_replica = _slowest(tuple(kernels), size, deviation)
    others = 1.0 + deviation * expected_largest(size)
    if replicas == 1 or not ramp:
        return Paces(all_replicas / busiest, others)
    ranks = expected_largest(replicas)
    steady = (all_replicas - one_replica) / ranks  # standard deviation between replicas [s]
    stages = max(1, layout.pp - 1)
    ends = ramp * deviation * deviation_of_largest(size) / math.sqrt(stages)  # the same [s]
    # Independent, so that they add as squares; what filling adds is put where the ramp is.
    more = ranks * (math.hypot(steady, ends) - steady)
    return Paces(all_replicas / busiest, others + more / ramp)


def filling(kernels: Sequence[float], micro_batches: int) -> float:
    """Return what kernels of other indices take of a step while the busiest index waits for them [s].

    Every other stage's first micro-batch forward and its last one backward. kernels: see
    `expected_paces`.
    """
    return (sum(kernels) - max(kernels)) / micro_batches


@lru_cache(maxsize=256)  # points of a sweep over links have the same kernels
def _slowest(kernels: tuple[float, ...], count: int, deviation: float) -> float:
    """Return when the last GPU is expected to be done, of so many at each index [s]."""
    return expected_slowest([Crowd(seconds, count) for seconds in kernels], deviation)


def paces(
    layout: Layout, alike: Sequence[int], kernels: Sequence[float], expected: Paces
) -> Floats:
    """Return how many times as long kernels take at each pipeline index [pipeline index].

    alike: equal numbers where indices run the same. kernels: see `expected_paces`.
    """
    pace = np.full(layout.pp, expected.others)
    busiest = int(np.argmax(kernels))
    # Indices that are folded into one stay so.
    slowest = np.array(alike) == alike[busiest]
    pace[slowest] = expected.busiest
    return pace

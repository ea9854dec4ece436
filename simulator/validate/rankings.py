"""Rankings: whether the simulator puts what people choose between in the order that was measured.

A choice needs no exact step, but the right sign and about the right size of a difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

from pydantic import BaseModel, Field

from simulator import inputs
from simulator.frozen import FROZEN
from simulator.units import Number
from simulator.validate.check import Check


class GroupConfig(BaseModel):
    """Published cases among which somebody chooses."""

    model_config = FROZEN

    topic: str = Field(description="What is chosen.", examples=["recomputation"])
    name: str = Field(description="Which runs are compared.", examples=["Megatron 175B, 64 A100"])
    cases: tuple[str, ...] = Field(
        min_length=2,
        description="Names of the cases; the others are compared with the first.",
        examples=[["megatron_2022/175b-selective", "megatron_2022/175b-full"]],
    )
    note: str = Field("", description="What a reader must know.", examples=["layouts differ"])


class RankingsConfig(BaseModel):
    """Every group, `simulator/data/rankings/groups.yaml`."""

    model_config = FROZEN

    resolution: Number = Field(
        ge=0,
        description="Relative difference below which two published figures are a tie.",
        examples=[0.01],
    )
    groups: tuple[GroupConfig, ...] = Field(description="The groups.")


def rankings() -> RankingsConfig:
    """Return the groups of cases of which the order was measured."""
    return inputs.validate(inputs.data("rankings", "groups"), RankingsConfig)


class Pair(NamedTuple):
    """Two cases whose order was measured."""

    first: Check
    """The one with which the other is compared."""
    second: Check
    """The other."""

    @property
    def published(self) -> float:
        """Return by how much more time the second takes for a token, relative to the first."""
        return self.second.published_cost / self.first.published_cost - 1.0

    @property
    def simulated(self) -> float:
        """Return the same as simulated."""
        return self.second.simulated_cost / self.first.simulated_cost - 1.0

    @property
    def concordant(self) -> bool:
        """Tell whether the simulated order is the measured one."""
        return self.published * self.simulated > 0

    @property
    def fits(self) -> bool:
        """Tell whether both runs fit in the memory of their GPUs, as simulated."""
        return self.first.fits is not False and self.second.fits is not False

    @property
    def effect(self) -> float:
        """Return the simulated effect over the measured one: 1 is right, below 0 the wrong sign."""
        return self.simulated / self.published

    def is_tie(self, resolution: float) -> bool:
        """Tell whether the published figures are too near to each other to have an order."""
        return abs(self.published) < resolution


class Order(NamedTuple):
    """How well orders are met."""

    pairs: int
    """Number of pairs that have an order."""
    right: int
    """Number of them in the measured order."""
    tau: float
    """Kendall's tau: pairs in order less pairs out of order, over all; 0 where there is none."""


class Ranking(NamedTuple):
    """A group as published and simulated."""

    group: GroupConfig
    """Its definition."""
    pairs: tuple[Pair, ...]
    """Every pair of its cases that has an order."""
    against_first: tuple[Pair, ...]
    """The first case with each other."""

    @property
    def order(self) -> Order:
        """Return how well the group's order is met."""
        return order(self.pairs)


def ranking(group: GroupConfig, checks: Mapping[str, Check], resolution: float) -> Ranking:
    """Return a group as published and simulated. checks: by the name of the case."""
    members = [checks[case] for case in group.cases]
    pairs = [Pair(first, second) for first, second in combinations(members, 2)]
    return Ranking(
        group=group,
        pairs=tuple(pair for pair in pairs if not pair.is_tie(resolution)),
        against_first=tuple(Pair(members[0], other) for other in members[1:]),
    )


def order(pairs: Iterable[Pair]) -> Order:
    """Return how many pairs are in the measured order, and Kendall's tau over them.

    Published ties are left out before; a simulated tie is neither in order nor out of it.
    """
    signs = [_sign(pair) for pair in pairs]
    if not signs:
        return Order(pairs=0, right=0, tau=0.0)
    return Order(pairs=len(signs), right=signs.count(1), tau=fmean(signs))


SAME = 1e-9
"""Relative difference of two simulated steps that are the same but for rounding."""


def _sign(pair: Pair) -> int:
    """Return 1 for a pair in the measured order, -1 for one out of it, 0 for a simulated tie."""
    if abs(pair.simulated) < SAME:
        return 0
    return 1 if pair.concordant else -1

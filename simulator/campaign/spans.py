"""A part of a run with one sequence length and layout: steps, tokens and time, also while its batch grows.

A ramp is simulated at a few batches. Between two of them the time of a step is taken to grow linearly
with the batch: a step is so many micro-batches and a rest that does not depend on their number. The
batch grows evenly with the tokens seen, as one that is raised every so many samples does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from simulator.scenario import Scenario


class Amount(NamedTuple):
    """How much of a span there is: exactly one of the three."""

    tokens: float = 0.0
    """Tokens to train on."""
    steps: float = 0.0
    """Steps to make."""
    seconds: float = 0.0
    """Wall time to use [s]."""


@dataclass(frozen=True)
class Span:
    """What is simulated of a part of a run, and how much of it there is."""

    label: str
    """What tells it from the other spans of its stage."""
    scenarios: tuple[Scenario, ...]
    """One, those of a ramp in the order of their batches, or those between which a step lies."""
    amount: Amount
    """How long it goes on."""
    weights: tuple[float, ...] = ()
    """How much of each scenario is in a step that lies between them; nothing along a ramp."""


class Work(NamedTuple):
    """What a span comes to."""

    steps: float
    """Steps made."""
    tokens: float
    """Tokens trained on."""
    seconds: float
    """Wall time [s]."""


class Point(NamedTuple):
    """A batch of a ramp."""

    tokens: float
    """Tokens of a step."""
    seconds: float
    """Time of the step [s]."""


def work(points: Sequence[Point], amount: Amount) -> Work:
    """Return what a span comes to. points: one, or several with rising batches."""
    if len(points) == 1:
        return _constant(points[0], amount)
    return _ramp(points, amount)


def mixed(points: Sequence[Point], weights: Sequence[float]) -> Point:
    """Return the step that lies between others. weights: of each, sum 1."""
    pairs = list(zip(points, weights, strict=True))
    return Point(
        sum(point.tokens * weight for point, weight in pairs),
        sum(point.seconds * weight for point, weight in pairs),
    )


def tokens_of(batches: Sequence[float], steps: float) -> float:
    """Return the tokens of some steps. batches: tokens of a step, at one batch or along a ramp."""
    first, last = batches[0], batches[-1]
    if first == last:
        return steps * first
    # The batch b grows evenly with the tokens: of T tokens, db / (last - first) x T are at b, and
    # take that over b steps.
    return steps * (last - first) / math.log(last / first)


def _constant(point: Point, amount: Amount) -> Work:
    steps = amount.steps
    if amount.tokens:
        steps = amount.tokens / point.tokens
    elif amount.seconds:
        steps = amount.seconds / point.seconds
    return Work(steps, steps * point.tokens, steps * point.seconds)


def _ramp(points: Sequence[Point], amount: Amount) -> Work:
    batches = [point.tokens for point in points]
    tokens = amount.tokens or tokens_of(batches, amount.steps)
    density = tokens / (batches[-1] - batches[0])  # tokens seen while the batch grows by one token
    steps = density * math.log(batches[-1] / batches[0])
    # t = rest + rate x b between two points; the time at b is t / b x density db.
    seconds = 0.0
    for low, high in pairwise(points):
        rate = (high.seconds - low.seconds) / (high.tokens - low.tokens)
        rest = low.seconds - rate * low.tokens
        grown = high.tokens - low.tokens
        seconds += density * (rest * math.log(high.tokens / low.tokens) + rate * grown)
    return Work(steps, tokens, seconds)

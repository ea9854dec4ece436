"""Published bubbles and activations, and where each is exact: for chunk times that are equal over stages, no travel.

F, B, W are of one chunk: forward, full backward, weight gradient; F&B of an overlapped pair; P
stages, M micro-batches. The regions were found by running the schedules over many sizes and times;
tests hold them, and what holds elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape
from simulator.schedules.timing import makespan, spans

Durations = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Formula:
    """What was published of one schedule.

    text: the bubble as published. bubble, held: it and the most chunks held on a rank, from times
    and shape (whose `ranks` are pipeline ranks). exact: whether the bubble is this one; where: that
    region in words. within: the bubble is the idle time between a rank's own first and last action,
    not until the last rank ends.
    """

    text: str
    bubble: Callable[[Durations, Shape], float]
    held: Callable[[Shape], float]
    exact: Callable[[Durations, Shape], bool]
    where: str
    within: bool = False


def _everywhere(_: Durations, __: Shape) -> bool:
    return True


def _short_wgrad(t: Durations, shape: Shape, least: int) -> bool:
    return max(t["W"], 0.0) <= min(t["F"], t["I"]) and shape.micro_batches >= least


def _paired(t: Durations, shape: Shape) -> bool:
    return t["F"] == t["I"] and t["W"] <= t["F"] and t["B"] <= t["FB"] <= t["F"] + t["B"]


def _zb1(t: Durations, shape: Shape) -> float:
    return (shape.ranks - 1) * (t["F"] + t["B"] - 2 * t["W"])


def _zb2(t: Durations, shape: Shape) -> float:
    return (shape.ranks - 1) * (t["F"] + t["B"] - 3 * t["W"])


_PAIRED = "F = I, W <= F, B <= F&B <= F + B"
_SHORT = "W <= F and W <= I"

FORMULAS: dict[str, Formula] = {
    "gpipe": Formula(
        "(P-1)(F+B)",
        lambda t, s: (s.ranks - 1) * (t["F"] + t["B"]),
        lambda s: s.micro_batches,
        _everywhere,
        "everywhere",
    ),
    "1f1b": Formula(
        "(P-1)(F+B)",
        lambda t, s: (s.ranks - 1) * (t["F"] + t["B"]),
        lambda s: min(s.ranks, s.micro_batches),
        _everywhere,
        "everywhere",
    ),
    "interleaved": Formula(
        "(P-1)(F+B)/V",
        lambda t, s: (s.ranks - 1) * (t["F"] + t["B"]),
        lambda s: min(
            2 * (s.ranks - 1) + (s.virtual - 1) * (s.group or s.ranks) + 1
            if s.virtual > 1
            else s.ranks,
            s.micro_batches * s.virtual,
        ),
        _everywhere,
        "everywhere, F and B of a rank's V chunks",
    ),
    "zb-h1": Formula(
        "(P-1)(F+B-2W)",
        _zb1,
        lambda s: min(s.ranks, s.micro_batches),
        lambda t, s: _short_wgrad(t, s, s.ranks),
        f"{_SHORT}, M >= P",
    ),
    "zb-h2": Formula(
        "(P-1)(F+B-3W)",
        _zb2,
        lambda s: min(2 * s.ranks - 1, s.micro_batches),
        lambda t, s: _short_wgrad(t, s, 2 * s.ranks - 1),
        f"{_SHORT}, M >= 2P - 1, between a rank's own ends",
        within=True,
    ),
    "zb-1p": Formula(
        "(P-1)(F+B-2W)",
        _zb1,
        lambda s: s.limit or s.ranks,
        lambda t, s: t["F"] == t["I"] == t["W"] and not s.limit and s.micro_batches >= s.ranks,
        "F = I = W, M >= P; no more where W <= F and W <= I",
        within=True,
    ),
    "zb-2p": Formula(
        "(P-1)(F+B-3W)",
        _zb2,
        lambda s: s.limit or 2 * s.ranks,
        lambda t, s: (
            t["F"] == t["I"] == t["W"] and not s.limit and s.micro_batches >= 2 * s.ranks - 1
        ),
        "F = I = W, M >= 2P - 1; no more where W <= F and W <= I",
        within=True,
    ),
    "zb-v": Formula(
        "0",
        lambda t, s: 0.0,
        lambda s: 2 * s.ranks,
        lambda t, s: t["F"] == t["I"] == t["W"],
        "F = I = W, between a rank's own ends",
        within=True,
    ),
    "dualpipe": Formula(
        "(P/2-1)(F&B+B-3W)",
        lambda t, s: (s.ranks / 2 - 1) * (t["FB"] + t["B"] - 3 * t["W"]),
        lambda s: s.ranks + 1,
        _paired,
        f"{_PAIRED}; the largest idle",
    ),
    "dualpipev": Formula(
        "(P/2-1)(F&B+B-3W)",
        lambda t, s: (s.ranks - 1) * (t["FB"] + t["B"] - 3 * t["W"]),
        lambda s: 2 * s.ranks + 1,
        _paired,
        f"{_PAIRED}; the largest idle",
    ),
}
"""name -> what was published: DESIGN's sources are arXiv 2104.04473 (1F1B, interleaved), 2401.10241 (zero bubble) and
github.com/deepseek-ai/DualPipe, README.md."""


@dataclass(frozen=True, slots=True)
class Bubble:
    """What a schedule idles: measured, and as published.

    makespan: until the last action ends. idle: until then [rank]. bubble: the largest idle, as the
    formula counts it. formula: the published bubble, None where there is none for these times.
    exact: whether it should equal `bubble`.
    """

    makespan: float
    idle: list[float]
    bubble: float
    formula: float | None
    exact: bool


def bubble(schedule: Schedule, shape: Shape) -> Bubble:
    """Return the bubble of a schedule with the times that it was built for."""
    end, idle = makespan(schedule, shape.times)
    known = FORMULAS.get(schedule.name)
    largest = max(idle)
    if known and known.within:
        lines = spans(schedule, shape.times)
        largest = max(
            line[-1][1] - line[0][0] - sum(stop - start for start, stop in line)
            for line in lines
            if line
        )
    simple = known is not None and not shape.times.by_stage and not shape.times.comm
    if (
        known is None
        or not simple
        or not all(kind in shape.times.each for kind in ("F", "I", "W", "B", "FB"))
    ):
        return Bubble(end, idle, largest, None, False)
    return Bubble(
        end,
        idle,
        largest,
        known.bubble(shape.times.each, shape),
        known.exact(shape.times.each, shape),
    )

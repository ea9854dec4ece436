"""Published bubbles and activations, and where each is exact: for chunk times that are equal over stages, no travel.

F, B, W are of one chunk: forward, full backward, weight gradient; F&B of an overlapped pair; P
stages, M micro-batches. The regions were found by running the schedules over many sizes and times;
tests hold them, and what holds elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simulator.schedules.action import KINDS
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape
from simulator.schedules.times import Times
from simulator.schedules.timing import makespan, spans

Durations = Mapping[str, float]
"""kind -> duration, any unit."""

Rule = Callable[[Durations, Shape], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """What was published of one schedule."""

    text: str
    """The bubble as published."""
    bubble: Callable[[Durations, Shape], float]
    """The bubble, from times and shape, whose `ranks` are pipeline ranks; in the unit of the times."""
    held: Callable[[Shape], float]
    """The most chunks that a rank holds activations of."""
    exact: Rule
    """Whether the schedule's bubble is this one."""
    where: str
    """Where it is exact, in words."""
    within: bool = False
    """Whether the bubble is the idle time between a rank's own first and last action, not until the last rank ends."""


def _everywhere(_: Durations, __: Shape) -> bool:
    return True


def _alone(_: Durations, shape: Shape) -> bool:
    return not shape.overlap_moe_expert_parallel_comm


def _short_wgrad(least: Callable[[int], int]) -> Rule:
    """Return the rule that W is the shortest and micro-batches are at least so many for P ranks."""

    def rule(t: Durations, shape: Shape) -> bool:
        shortest = min(t["F"], t["I"])
        enough = shape.micro_batches >= least(shape.ranks)
        return max(t["W"], 0.0) <= shortest and enough

    return rule


def _equal(t: Durations) -> bool:
    return t["F"] == t["I"] == t["W"]


def _searched(least: Callable[[int], int]) -> Rule:
    """Return the rule that times are equal, memory is the family's own, and micro-batches are at least so many."""

    def rule(t: Durations, shape: Shape) -> bool:
        enough = shape.micro_batches >= least(shape.ranks)
        return _equal(t) and not shape.limit and enough

    return rule


def _equal_times(t: Durations, _: Shape) -> bool:
    return _equal(t)


def _paired(t: Durations, _: Shape) -> bool:
    separate = t["F"] + t["B"]
    # A pair that is shorter than its backward, or longer than both halves, moves the bubble elsewhere.
    overlapped = t["B"] <= t["FB"] <= separate
    short = t["W"] <= t["F"]
    return t["F"] == t["I"] and short and overlapped


def _fill_and_drain(t: Durations, shape: Shape) -> float:
    # The last rank waits for a forward to reach it, the first one for the gradient to come back.
    one_rank = t["F"] + t["B"]
    return (shape.ranks - 1) * one_rank


def _zb1(t: Durations, shape: Shape) -> float:
    # arXiv 2401.10241: of what 1F1B waits per rank, two weight gradients fill a part.
    # B includes its own W.
    one_rank = t["F"] + t["B"] - 2 * t["W"]
    return (shape.ranks - 1) * one_rank


def _zb2(t: Durations, shape: Shape) -> float:
    # The same paper: more forwards ahead make room for a third.
    one_rank = t["F"] + t["B"] - 3 * t["W"]
    return (shape.ranks - 1) * one_rank


def _no_bubble(_: Durations, __: Shape) -> float:
    return 0.0


def _dualpipe(t: Durations, shape: Shape) -> float:
    # arXiv 2412.19437, table 2. Both directions fill at once, so half of the ranks count.
    one_rank = t["FB"] + t["B"] - 3 * t["W"]
    return (shape.ranks / 2 - 1) * one_rank


def _dualpipev(t: Durations, shape: Shape) -> float:
    # The formula's P counts stages, which are on P/2 ranks.
    one_rank = t["FB"] + t["B"] - 3 * t["W"]
    return (shape.ranks - 1) * one_rank


def _held_interleaved(shape: Shape) -> float:
    chunks = shape.micro_batches * shape.virtual
    if shape.virtual == 1:
        return min(shape.ranks, chunks)
    # What a rank runs ahead, as in `interleaved`, and the chunk that it works on.
    group = shape.group or shape.ranks
    ahead = 2 * (shape.ranks - 1) + (shape.virtual - 1) * group
    if shape.overlap_moe_expert_parallel_comm:
        ahead += 1
    return min(ahead + 1, chunks)


def _one_round(ranks: int) -> int:
    return ranks


def _two_rounds(ranks: int) -> int:
    return 2 * ranks - 1


_PAIRED = "F = I, W <= F, B <= F&B <= F + B"
_SHORT = "W <= F and W <= I"

FORMULAS: dict[str, Formula] = {
    "gpipe": Formula(
        text="(P-1)(F+B)",
        bubble=_fill_and_drain,
        held=lambda s: s.micro_batches,
        exact=_everywhere,
        where="everywhere",
    ),
    "1f1b": Formula(
        text="(P-1)(F+B)",
        bubble=_fill_and_drain,
        held=lambda s: min(s.ranks, s.micro_batches),
        exact=_everywhere,
        where="everywhere",
    ),
    "interleaved": Formula(
        text="(P-1)(F+B)/V",
        bubble=_fill_and_drain,
        held=_held_interleaved,
        exact=_alone,
        where="everywhere without pairs, F and B of a rank's V chunks",
    ),
    "zb-h1": Formula(
        text="(P-1)(F+B-2W)",
        bubble=_zb1,
        held=lambda s: min(s.ranks, s.micro_batches),
        exact=_short_wgrad(_one_round),
        where=f"{_SHORT}, M >= P",
    ),
    "zb-h2": Formula(
        text="(P-1)(F+B-3W)",
        bubble=_zb2,
        held=lambda s: min(2 * s.ranks - 1, s.micro_batches),
        exact=_short_wgrad(_two_rounds),
        where=f"{_SHORT}, M >= 2P - 1, between a rank's own ends",
        within=True,
    ),
    "zb-1p": Formula(
        text="(P-1)(F+B-2W)",
        bubble=_zb1,
        held=lambda s: s.limit or s.ranks,
        exact=_searched(_one_round),
        where="F = I = W, M >= P; no more where W <= F and W <= I",
        within=True,
    ),
    "zb-2p": Formula(
        text="(P-1)(F+B-3W)",
        bubble=_zb2,
        held=lambda s: s.limit or 2 * s.ranks,
        exact=_searched(_two_rounds),
        where="F = I = W, M >= 2P - 1; no more where W <= F and W <= I",
        within=True,
    ),
    "zb-v": Formula(
        text="0",
        bubble=_no_bubble,
        held=lambda s: 2 * s.ranks,
        exact=_equal_times,
        where="F = I = W, between a rank's own ends",
        within=True,
    ),
    "dualpipe": Formula(
        text="(P/2-1)(F&B+B-3W)",
        bubble=_dualpipe,
        held=lambda s: s.ranks + 1,
        exact=_paired,
        where=f"{_PAIRED}; the largest idle",
    ),
    "dualpipev": Formula(
        text="(P/2-1)(F&B+B-3W)",
        bubble=_dualpipev,
        held=lambda s: 2 * s.ranks + 1,
        exact=_paired,
        where=f"{_PAIRED}; the largest idle",
    ),
}
"""name -> what was published. Sources: arXiv 2104.04473 (1F1B, interleaved), 2401.10241 (zero bubble) and
github.com/deepseek-ai/DualPipe, README.md."""


@dataclass(frozen=True, slots=True)
class Bubble:
    """What a schedule idles: measured, and as published; in the unit of the times."""

    makespan: float
    """When the last action ends."""
    idle: list[float]
    """Time until then in which a rank runs nothing [rank]."""
    bubble: float
    """The largest idle time, as the formula counts it."""
    formula: float | None
    """The published bubble, None where there is none for these times."""
    exact: bool
    """Whether it should equal `bubble`."""


def bubble(schedule: Schedule, shape: Shape) -> Bubble:
    """Return the bubble of a schedule with the times that it was built for."""
    end, idle = makespan(schedule, shape.times)
    known = FORMULAS.get(schedule.name)
    largest = max(idle)
    if known and known.within:
        largest = _largest_within(schedule, shape)
    if known is None or not _simple(shape.times):
        return Bubble(end, idle, largest, formula=None, exact=False)
    times = shape.times.each
    return Bubble(
        end,
        idle,
        largest,
        formula=known.bubble(times, shape),
        exact=known.exact(times, shape),
    )


def _simple(times: Times) -> bool:
    """Tell whether published bubbles know such times: equal on all stages, no travel, one for every kind."""
    known = all(kind in times.each for kind in KINDS)
    return known and not times.by_stage and not times.comm


def _largest_within(schedule: Schedule, shape: Shape) -> float:
    """Return the largest idle time between a rank's own first and last action."""
    # Zero-bubble schedules need no common end: the optimizer step is validated afterwards (arXiv
    # 2401.10241, section 4), so waiting for the last rank is not idle time.
    largest = []
    for line in spans(schedule, shape.times):
        if line:
            busy = sum(stop - start for start, stop in line)
            begin = line[0][0]
            end = line[-1][1]
            largest.append(end - begin - busy)
    return max(largest)

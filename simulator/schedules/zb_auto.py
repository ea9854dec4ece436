"""ZB-1p and ZB-2p: an order that is searched for given times and a memory limit (arXiv 2401.10241, section 3.1).

The paper's heuristic builds one order greedily under a few yes-or-no rules and keeps the best over
all rules. So does this one, on a clock: whenever a rank is free, it takes an input gradient or a
forward that has arrived, or fills the wait for the next one with a weight gradient. The rules are
how much a forward or a weight gradient may delay what is about to arrive, what goes first if both
have arrived, and how far forwards run ahead. The handmade schedules stand for election too, where
they fit the limit. Best is the shortest longest stage, from a rank's first action to its last: with
the optimizer step validated afterwards (section 4) ranks need not start and end together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.errors import ScheduleError
from simulator.schedules.action import Kind, in_turn
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape
from simulator.schedules.zero_bubble import turns

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_KINDS: tuple[Kind, ...] = ("F", "I", "W")
_COMPILED_FROM = (
    20_000  # actions over all tries from which compiling (or loading what was compiled) is worth it
)
_FULL_RUNS = (
    250_000  # micro-batches over ranks and tries that are run in full, where a short run has chosen
)
_SHORT_RUNS = 800_000  # the same of short runs
_Try = tuple[tuple[float, float], Codes]
"""(longest time from a rank's first action to its last, time until all have ended), and indices of _KINDS [rank, step].
"""


class _Rules(NamedTuple):
    """What one try of the greedy search keeps to.

    late_w, late_f: how much of a W or an F may reach beyond the arrival of what comes next.
    alternate: F after I where both have arrived; else I first. ahead, more: forwards beyond input
    gradients on rank r: ahead (P-1-r) + more + 1.
    """

    late_w: float
    late_f: float
    alternate: bool
    ahead: float
    more: float


_GRID = tuple(
    _Rules(late_w, late_f, alternate, ahead, more)
    for late_f, late_w, alternate, ahead, more in product(
        (1.0, 0.5), (0.0, 0.4, 0.8, 1.0), (True, False), (1.0, 1.5, 2.0, 2.5), (0.0, 1.0)
    )
)
"""Those that are more often best come first."""


def build_1p(shape: Shape) -> Schedule:
    """Return ZB-1p: the best order found in the memory of 1F1B, or in `shape.limit` chunks per rank."""
    return _search("zb-1p", shape, shape.limit or shape.ranks)


def build_2p(shape: Shape) -> Schedule:
    """Return ZB-2p: the best order found in twice that memory, or in `shape.limit` chunks per rank."""
    return _search("zb-2p", shape, shape.limit or 2 * shape.ranks)


def _search(name: str, shape: Shape, limit: float) -> Schedule:
    if limit < 1:
        raise ScheduleError("chunks hold no micro-batch", value=limit, remedy="Allow at least 1.")
    times = np.array(
        [[shape.times.seconds(kind, stage) for stage in range(shape.ranks)] for kind in _KINDS]
    )
    rules: Sequence[_Rules] = _GRID
    pilot = 3 * shape.ranks + 4
    if shape.micro_batches > pilot + 2 * shape.ranks:
        # What is best depends on how the pipeline fills and drains, so a short run can choose whom
        # to run in full.
        rules = rules[: max(len(_GRID) // 2, _SHORT_RUNS // (shape.ranks * pilot))]
        rules = sorted(rules, key=lambda row: _try(row, pilot, times, shape, limit)[0])
        rules = rules[: max(4, min(16, _FULL_RUNS // (shape.ranks * shape.micro_batches)))]
    tries = [_try(row, shape.micro_batches, times, shape, limit) for row in rules]
    _, codes = min(tries + _handmade(times, shape, limit), key=lambda found: found[0])
    ranks = tuple(
        in_turn([(_KINDS[code], rank) for code in line]) for rank, line in enumerate(codes.tolist())
    )
    return Schedule(name, shape.ranks, shape.micro_batches, ranks)


def _handmade(times: Floats, shape: Shape, limit: float) -> list[_Try]:
    """Return ZB-H1 and ZB-H2 as tries, where they fit the limit."""
    last = shape.ranks - 1
    orders = [
        np.array(
            [
                turns(0, 1, 2, shape.micro_batches, (k * (last - rank), k * rank))
                for rank in range(shape.ranks)
            ]
        )
        for k in (1, 2)
        if k * last + 1 <= limit
    ]
    run = _compiled(replay) if shape.ranks * shape.micro_batches > _COMPILED_FROM else replay
    return [(run(order, times, shape.times.comm), order) for order in orders]


def _try(rules: _Rules, micro_batches: int, times: Floats, shape: Shape, limit: float) -> _Try:
    ranks = shape.ranks
    run = _compiled(greedy) if ranks * micro_batches * len(_GRID) > _COMPILED_FROM else greedy
    ahead = np.array([rules.ahead * (ranks - 1 - rank) + rules.more + 1 for rank in range(ranks)])
    knobs = (rules.late_w, rules.late_f, rules.alternate, shape.kept)
    codes = run(micro_batches, times, shape.times.comm, limit + 1e-9, ahead, knobs)
    return (codes[0], codes[1]), codes[2]


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    from numba import njit

    compiled: Callable[..., Any] = njit(cache=True)(function)
    return compiled


def replay(codes: Codes, times: Floats, comm: float) -> tuple[float, float]:
    """Return the longest stage and the end of an order that does not deadlock. codes: index of _KINDS [rank, step]."""
    ranks, steps = codes.shape
    ready = np.full((2, ranks, steps), np.inf)  # of F and I, by micro-batch
    ready[0, 0] = 0.0
    free, first = np.zeros(ranks), np.full(ranks, np.inf)
    at, count = np.zeros(ranks, np.int64), np.zeros((3, ranks), np.int64)
    left = ranks * steps
    while left:
        for rank in range(ranks):
            while at[rank] < steps:
                code = codes[rank, at[rank]]
                number = count[code, rank]
                start = free[rank] if code == 2 else max(free[rank], ready[code, rank, number])
                if start == np.inf:
                    break
                free[rank] = start + times[code, rank]
                first[rank] = min(first[rank], start)
                if code == 0 and rank == ranks - 1:
                    ready[1, rank, number] = free[rank]
                elif code == 0:
                    ready[0, rank + 1, number] = free[rank] + comm
                elif code == 1 and rank:
                    ready[1, rank - 1, number] = free[rank] + comm
                count[code, rank] += 1
                at[rank] += 1
                left -= 1
    return (free - first).max(), free.max()


def greedy(  # noqa: C901, PLR0912, PLR0915 - one loop, so that it can be compiled
    micro_batches: int,
    times: Floats,
    comm: float,
    limit: float,
    ahead: Floats,
    rules: tuple[float, float, bool, float],
) -> tuple[float, float, Codes]:
    """Return the longest stage, the end and the order [rank, step] of one greedy run.

    times: of F, I, W [kind, rank]. limit: chunks held per rank. ahead: forwards beyond input
    gradients [rank]. rules: as in `_Rules`, and the share of a chunk that is held on from its input
    gradient to its weight gradient.
    """
    late_w, late_f, alternate, kept = rules
    ranks = times.shape[1]
    unknown = np.inf
    f_ready = np.full((ranks, micro_batches), unknown)
    i_ready = np.full((ranks, micro_batches), unknown)
    f_ready[0] = 0.0
    codes = np.zeros((ranks, 3 * micro_batches), dtype=np.int64)
    count = np.zeros((3, ranks), dtype=np.int64)
    free = np.zeros(ranks)  # when the running action ends
    last = np.full(ranks, -1)
    first = np.full(ranks, unknown)
    # Who decides next: a tree of the earlier of each two, by rank where they tie; leaves from
    # `size` on.
    size = 1
    while size < ranks:
        size *= 2
    wake = np.full(size, unknown)
    wake[:ranks] = 0.0
    earlier = np.arange(-size, size)
    for node in range(size - 1, 0, -1):
        earlier[node] = earlier[2 * node]
    left = 3 * micro_batches * ranks
    while left:
        rank = other = earlier[1]
        now = wake[rank]
        f, i, w = count[0, rank], count[1, rank], count[2, rank]
        next_i = i_ready[rank, i] if i < f else unknown
        may_f = f < micro_batches and f - i + kept * (i - w) + 1 <= limit and f - i < ahead[rank]
        next_f = f_ready[rank, f] if may_f else unknown
        chosen = -1
        if next_i <= now and next_f <= now:
            chosen = 0 if alternate and last[rank] == 1 else 1
        elif next_i <= now:
            chosen = 1
        elif next_f <= now and now + (1 - late_f) * times[0, rank] <= next_i:
            chosen = 0
        if (
            chosen < 0
            and w < i
            and now + (1 - late_w) * times[2, rank] <= max(now, min(next_i, next_f))
        ):
            chosen = 2
        if chosen < 0:
            # Wait for what is known to come; where nothing is known, until a neighbour starts
            # something.
            wake[rank] = next_i if next_f <= now else min(next_i, next_f)
        else:
            number = count[chosen, rank]
            end = now + times[chosen, rank]
            codes[rank, f + i + w] = chosen
            count[chosen, rank] += 1
            first[rank] = min(first[rank], now)
            last[rank] = chosen
            left -= 1
            free[rank] = wake[rank] = end
            if chosen == 0 and rank < ranks - 1:
                other = rank + 1
                f_ready[other, number] = end + comm
            elif chosen == 0:
                i_ready[rank, number] = end
            elif chosen == 1 and rank > 0:
                other = rank - 1
                i_ready[other, number] = end + comm
            if other != rank and wake[other] > max(free[other], now):
                wake[other] = max(free[other], now)
            if f + i + w + 1 == 3 * micro_batches:
                wake[rank] = unknown
        for changed in (rank, other):
            node = (changed + size) // 2
            while node:
                one, two = earlier[2 * node], earlier[2 * node + 1]
                earlier[node] = one if wake[one] <= wake[two] else two
                node //= 2
    longest = 0.0
    for rank in range(ranks):
        longest = max(longest, free[rank] - first[rank])
    return longest, free.max(), codes

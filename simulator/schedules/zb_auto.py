"""ZB-1p and ZB-2p: an order that is searched for given times and a memory limit (arXiv 2401.10241, section 3.1).

The paper's heuristic builds one order greedily under a few yes-or-no rules and keeps the best over
all rules. So does this one, on a clock: whenever a rank is free, it takes an input gradient or a
forward that has arrived, or fills the wait for the next one with a weight gradient. The rules are
how much a forward or a weight gradient may delay what is about to arrive, what goes first if both
have arrived, and how far forwards run ahead. The handmade schedules are candidates too, where they
fit the limit. Best is the shortest longest stage, from a rank's first action to its last: with
the optimizer step validated afterwards (section 4) ranks need not start and end together.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from simulator.compiled import with_callees
from simulator.errors import ScheduleError
from simulator.schedules.action import Kind, in_turn
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape
from simulator.schedules.zb_greedy import Codes, F, Floats, I, Rules, W, greedy, replay
from simulator.schedules.zero_bubble import Held, turns

_KINDS: tuple[Kind, ...] = ("F", "I", "W")

# Actions over all tries from which compiling, or loading what was compiled, is worth it.
_COMPILED_FROM = 10_000
# Micro-batches over ranks and tries that are run in full, where a short run has chosen.
_FULL_RUNS = 250_000
# The same of short runs.
_SHORT_RUNS = 800_000


class _Try(NamedTuple):
    """What became of one set of rules, in the order of what is better."""

    longest: float
    """Longest time from a rank's first action to its last."""
    end: float
    """Time until all have ended."""
    codes: Codes
    """Indices of _KINDS [rank, step]."""


class _Knobs(NamedTuple):
    """One row of the grid of rules that are tried; late_w, late_f and alternate as in `Rules`."""

    late_f: float
    """Share of an F that may reach beyond the arrival of the next I."""
    late_w: float
    """Share of a W that may reach beyond the arrival of what comes next."""
    alternate: bool
    """Where both have arrived: F after I, else I first."""
    ahead: float
    """Forwards beyond input gradients: rank r may run ahead (P-1-r) + more + 1."""
    more: float
    """See `ahead`."""


_GRID = tuple(
    _Knobs(*row)
    for row in product(
        (1.0, 0.5),
        (0.0, 0.4, 0.8, 1.0),
        (True, False),
        (1.0, 1.5, 2.0, 2.5),
        (0.0, 1.0),
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
    seconds = [
        [shape.times.seconds(kind, stage) for stage in range(shape.ranks)] for kind in _KINDS
    ]
    times = np.array(seconds)  # [kind, rank]
    _check_times(times, shape)
    tries = [
        _try(knobs, shape.micro_batches, times, shape, limit)
        for knobs in _candidates(times, shape, limit)
    ]
    best = min(tries + _handmade(times, shape, limit), key=_rank)
    ranks = tuple(
        in_turn([(_KINDS[code], rank) for code in line])
        for rank, line in enumerate(best.codes.tolist())
    )
    return Schedule(name, shape.ranks, shape.micro_batches, ranks)


def _check_times(times: Floats, shape: Shape) -> None:
    """Refuse times whose sum is not finite: on the clock of the search, `inf` means never."""
    hops = 2 * shape.ranks * shape.micro_batches * shape.times.comm
    with np.errstate(over="ignore"):
        longest = times.sum() * shape.micro_batches + hops
    if not np.isfinite(longest):
        raise ScheduleError(
            "chunk times are too long to be added up",
            value=float(times.max()),
            remedy="Use another unit.",
        )


def _rank(row: _Try) -> tuple[float, float]:
    return row.longest, row.end


def _candidates(times: Floats, shape: Shape, limit: float) -> tuple[_Knobs, ...]:
    """Return the rules that are worth a full run.

    What is best depends on how the pipeline fills and drains, so a short run can choose them.
    """
    pilot = 3 * shape.ranks + 4  # micro-batches of a short run
    if shape.micro_batches <= pilot + 2 * shape.ranks:
        return _GRID
    short = max(len(_GRID) // 2, _SHORT_RUNS // (shape.ranks * pilot))
    full = max(4, min(16, _FULL_RUNS // (shape.ranks * shape.micro_batches)))
    by_time = sorted(
        _GRID[:short], key=lambda knobs: _rank(_try(knobs, pilot, times, shape, limit))
    )
    return tuple(by_time[:full])


def _handmade(times: Floats, shape: Shape, limit: float) -> list[_Try]:
    """Return ZB-H1 and ZB-H2 as tries, where they fit the limit."""
    last = shape.ranks - 1
    run = with_callees(replay) if shape.ranks * shape.micro_batches > _COMPILED_FROM else replay
    tries = []
    for factor in (1, 2):
        if factor * last + 1 <= limit:
            lines = []
            for rank in range(shape.ranks):
                held = Held(early=factor * (last - rank), late=factor * rank)
                lines.append(turns((F, I, W), shape.micro_batches, held))
            codes = np.array(lines)  # [rank, step]
            longest, end = run(codes, times, float(shape.times.comm))
            tries.append(_Try(longest, end, codes))
    return tries


def _try(knobs: _Knobs, micro_batches: int, times: Floats, shape: Shape, limit: float) -> _Try:
    """Return what one greedy run finds."""
    actions = shape.ranks * micro_batches * len(_GRID)
    run = with_callees(greedy) if actions > _COMPILED_FROM else greedy
    behind = np.arange(shape.ranks - 1, -1, -1)  # ranks between each and the last [rank]
    ahead = np.asarray(knobs.ahead * behind + knobs.more + 1, dtype=np.float64)
    rules = Rules(
        late_w=knobs.late_w,
        late_f=knobs.late_f,
        alternate=knobs.alternate,
        limit=limit + 1e-9,  # the sum of shares that are held may be rounded up
        kept=float(shape.kept),
    )
    return _Try(*run(micro_batches, times, float(shape.times.comm), ahead, rules))

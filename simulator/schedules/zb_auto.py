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

import math
from itertools import product
from typing import NamedTuple

import numpy as np

from simulator.compiled import with_callees
from simulator.errors import ScheduleError
from simulator.schedules.action import Kind, Turn, in_turn
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape
from simulator.schedules.zb_greedy import Codes, F, Floats, I, Rules, W, greedy, replay
from simulator.schedules.zero_bubble import held_by, turns

_KINDS: tuple[Kind, ...] = ("F", "I", "W")

# The search counts time in ticks, whole numbers, of which the longest chunk takes so many or twice as
# many. Sums of times are exact then, and what ties in them ties: which action goes first, and which
# try is best, never hangs on the last bit of a time. A millionth of a chunk is far below what is
# known of it.
_TICKS = 2**20

# Actions over all tries from which compiling, or loading what was compiled, is worth it.
_COMPILED_FROM = 10_000
# Micro-batches over ranks and tries that are run in full, where a short run has chosen.
_FULL_RUNS = 250_000
# The same of short runs.
_SHORT_RUNS = 800_000


class _Try(NamedTuple):
    """What became of one set of rules, in the order of what is better."""

    longest: float
    """Longest time from a rank's first action to its last [tick]."""
    end: float
    """Time until all have ended [tick]."""
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
    twice = 2 * shape.ranks
    return _search("zb-2p", shape, shape.limit or twice)


def _search(name: str, shape: Shape, limit: float) -> Schedule:
    """Return the best order of all tries as a schedule. limit: chunks that a rank may hold."""
    times = _ticks(shape)
    tries = []
    for knobs in _candidates(times, shape, limit):
        tries.append(_try(knobs, shape.micro_batches, times, shape, limit))
    # The first of those that are equally good: the grid has what is more often best in front.
    tries += _handmade(times, shape, limit)
    best = min(tries, key=_rank)
    ranks = []
    for rank, line in enumerate(best.codes.tolist()):
        order = [Turn(_KINDS[code], rank) for code in line]
        ranks.append(in_turn(order))
    return Schedule(name, shape.ranks, shape.micro_batches, tuple(ranks))


class _Ticks(NamedTuple):
    """Chunk times in ticks of the search."""

    chunks: Floats
    """Of F, I and W on each rank, which has the stage of its number [kind, rank]."""
    comm: float
    """To the next rank."""


def _ticks(shape: Shape) -> _Ticks:
    """Return the times of a shape in ticks. Errors: ScheduleError."""
    rows = []
    for kind in _KINDS:
        rows.append([shape.times.seconds(kind, rank) for rank in range(shape.ranks)])
    seconds = np.array(rows)  # [kind, rank]
    _check_times(seconds, shape)
    # A power of two, so that times which are whole numbers stay as they are.
    _, exponent = math.frexp(float(seconds.max()))
    ticks = np.ldexp(seconds, -exponent) * 2 * _TICKS
    comm = math.ldexp(float(shape.times.comm), -exponent) * 2 * _TICKS
    return _Ticks(np.round(ticks), float(round(comm)))


def _check_times(times: Floats, shape: Shape) -> None:
    """Refuse times whose sum is not finite: on the clock of the search, `inf` means never."""
    hops = 2 * shape.ranks * shape.micro_batches
    travel = hops * shape.times.comm
    with np.errstate(over="ignore"):
        longest = times.sum() * shape.micro_batches + travel
    if not np.isfinite(longest):
        raise ScheduleError(
            "chunk times are too long to be added up",
            value=float(times.max()),
            remedy="Use another unit.",
        )


def _rank(row: _Try) -> tuple[float, float]:
    return row.longest, row.end


def _candidates(times: _Ticks, shape: Shape, limit: float) -> tuple[_Knobs, ...]:
    """Return the rules that are worth a full run.

    What is best depends on how the pipeline fills and drains, so a short run can choose them.
    """
    pilot = 3 * shape.ranks + 4  # micro-batches of a short run
    if shape.micro_batches <= pilot + 2 * shape.ranks:
        return _GRID
    # As many runs as the time for them allows: more for a small pipeline, some for any.
    affordable = _SHORT_RUNS // (shape.ranks * pilot)
    short = max(len(_GRID) // 2, affordable)
    affordable = _FULL_RUNS // (shape.ranks * shape.micro_batches)
    full = max(4, min(16, affordable))

    def time(knobs: _Knobs) -> tuple[float, float]:
        return _rank(_try(knobs, pilot, times, shape, limit))

    by_time = sorted(_GRID[:short], key=time)
    return tuple(by_time[:full])


def _handmade(times: _Ticks, shape: Shape, limit: float) -> list[_Try]:
    """Return ZB-H1 and ZB-H2 as tries, where they fit the limit."""
    run = replay
    if shape.ranks * shape.micro_batches > _COMPILED_FROM:
        run = with_callees(replay)
    tries = []
    for factor in (1, 2):
        most = factor * (shape.ranks - 1) + 1
        if most > limit:
            continue
        lines = []
        for rank in range(shape.ranks):
            held = held_by(rank, shape.ranks, factor)
            line = turns((F, I, W), shape.micro_batches, held)
            lines.append(line)
        codes = np.array(lines)  # [rank, step]
        longest, end = run(codes, times.chunks, times.comm)
        tries.append(_Try(longest, end, codes))
    return tries


def _try(knobs: _Knobs, micro_batches: int, times: _Ticks, shape: Shape, limit: float) -> _Try:
    """Return what one greedy run finds."""
    run = greedy
    if shape.ranks * micro_batches * len(_GRID) > _COMPILED_FROM:
        run = with_callees(greedy)
    # The first rank runs furthest ahead: it waits longest for its first gradient.
    behind = np.arange(shape.ranks - 1, -1, -1)  # ranks between each and the last [rank]
    forwards = knobs.ahead * behind + knobs.more + 1  # [rank]
    ahead = np.asarray(forwards, dtype=np.float64)
    rules = Rules(
        late_w=knobs.late_w,
        late_f=knobs.late_f,
        alternate=knobs.alternate,
        limit=limit + 1e-9,  # the sum of shares that are held may be rounded up
        kept=float(shape.kept),
    )
    longest, end, codes = run(micro_batches, times.chunks, times.comm, ahead, rules)
    return _Try(longest, end, codes)

"""The zero-bubble paper's own bubble rates, from schedules alone and the chunk times of its profile."""

import math

import numpy as np
import pytest

from simulator import inputs
from simulator.compiled import with_callees
from simulator.schedules import Times, build, check, spans
from simulator.schedules.zb_greedy import Rules, greedy, replay

DATA = inputs.data("published", "zero_bubble").data
ROWS = DATA["rows"]
every_row = pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['model']}-{row['micro_batches']}"
)
six_rows = pytest.mark.parametrize(
    "row", ROWS[:6], ids=lambda row: f"{row['model']}-{row['micro_batches']}"
)


def times(row, parts=1):
    """Return the times of 1/parts of a stage; travel takes what it takes."""
    return Times.of({kind: row[kind] / parts for kind in "FIW"} | {"comm": row["comm"]})


def rate(row, lines):
    """Return 1 - work / longest stage, each from its first action to its last."""
    longest = max(line[-1][1] - line[0][0] for line in lines)
    return 1 - sum(row[kind] for kind in "FIW") * row["micro_batches"] / longest


def kept(row):
    """Return the share of a micro-batch's activations that its weight gradient needs, by the paper's table 1."""
    model = DATA["models"][row["model"]]
    return 32 / (34 + 5 * model["heads"] * model["seq_length"] / model["hidden"])


def most_held(schedule, share):
    """Return the most that a rank holds, in micro-batches: 1 from F to I, its share from I to W."""
    change = {"F": 1, "I": share - 1, "W": -share}
    peak = 0
    for order in schedule.ranks:
        now = 0
        for action in order:
            now += change[action.kind]
            peak = max(peak, now)
    return peak


@every_row
@pytest.mark.parametrize("name", ["1f1b", "zb-h1", "zb-h2"])
@pytest.mark.slow
def test_handmade_schedules_reproduce_the_published_rates_to_the_digits(name, row):
    schedule = build(name, row["stages"], row["micro_batches"])
    assert round(rate(row, spans(schedule, times(row))), 4) == row["rates"][name]


@pytest.mark.slow
@every_row
@pytest.mark.parametrize(("name", "factor"), [("zb-1p", 1), ("zb-2p", 2)])
def test_the_search_is_nowhere_a_point_and_a_half_above_the_published_rate(name, factor, row):
    # The search is better than the published one in places and worse in others, by 0.28 points at
    # most here.
    limit = factor * row["stages"]
    schedule = build(
        name, row["stages"], row["micro_batches"], times=times(row), limit=limit, kept=kept(row)
    )
    check(schedule)
    assert most_held(schedule, kept(row)) <= limit + 1e-9
    assert rate(row, spans(schedule, times(row))) <= row["rates"][name] + 0.0035
    if name == "zb-1p":
        assert round(rate(row, spans(schedule, times(row))), 4) == row["rates"][name]


def relaxed(row, schedule):
    """Return spans where only the first micro-batch of a group waits for the rank's previous stage to come round.

    So does the script that made the published figures; and its backwards then wait for that stage
    on rank 0.
    """
    ranks, stages, table = (
        row["stages"],
        schedule.stages,
        times(row, schedule.stages // row["stages"]),
    )
    end, free = {}, [0.0] * ranks
    lines = [[] for _ in range(ranks)]
    for row_of in schedule.order:
        rank = int(schedule.table.rank[row_of])
        action = schedule.ranks[rank][row_of - schedule.table.start[rank]]
        kind, m, stage = action.halves()[0]
        before = stage - 1 if kind == "F" else stage + 1
        wraps = before % ranks == (ranks - 1 if kind == "F" else 0)
        start = free[rank]
        if 0 <= before < stages and not (wraps and m % ranks):
            start = max(start, end[kind, m, before] + table.comm)
        free[rank] = end[kind, m, stage] = start + table.action(action)
        lines[rank].append((start, free[rank]))
    return lines


@six_rows
def test_interleaved_reproduces_the_published_rates_under_the_dependencies_that_they_were_computed_with(
    row,
):
    virtual = DATA["models"][row["model"]]["layers_per_stage"]
    schedule = build("interleaved", row["stages"], row["micro_batches"], virtual=virtual)
    assert round(rate(row, relaxed(row, schedule)), 4) == row["rates"]["interleaved"]


@six_rows
def test_interleaved_with_all_its_dependencies_takes_as_many_hops_more_as_there_are_ranks(row):
    # The last micro-batch of the last group comes round just when its rank is ready for it, but for
    # the P hops.
    virtual = DATA["models"][row["model"]]["layers_per_stage"]
    schedule = build("interleaved", row["stages"], row["micro_batches"], virtual=virtual)
    whole = max(line[-1][1] for line in spans(schedule, times(row, virtual)))
    assert whole == pytest.approx(
        max(line[-1][1] for line in relaxed(row, schedule)) + row["stages"] * row["comm"]
    )


@pytest.mark.parametrize("kept", [math.inf, math.nan])
@pytest.mark.parametrize("run", [greedy, with_callees(greedy)], ids=["plain", "compiled"])
def test_a_run_in_which_all_ranks_wait_for_ever_fails(run, kept):
    # No chunk is ever allowed: inf or nan times no chunk is not a number, and at most no limit. A
    # rank that then took the end of time for an arrival would write behind the end of its order.
    rules = Rules(late_w=0.0, late_f=1.0, alternate=True, limit=7.0, kept=kept)
    with np.errstate(invalid="ignore"):
        longest, end, codes = run(2, np.ones((3, 7)), 0.0, np.full(7, 8.0), rules)
    assert (longest, end) == (math.inf, math.inf)
    assert not codes.any()


def test_the_replay_of_a_deadlock_fails():
    # Rank 0 wants its input gradient before it has sent its forward.
    codes = np.array([[1, 0, 2], [0, 1, 2]])
    assert replay(codes, np.ones((3, 2)), 0.0) == (math.inf, math.inf)
    assert replay(np.array([[0, 1, 2], [0, 1, 2]]), np.ones((3, 2)), 0.5) == (6.0, 6.0)

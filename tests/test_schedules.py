"""Schedules: laws over the whole table, small timelines written out, published bubbles, faults that check() names."""

from dataclasses import replace

import pytest

from simulator.errors import ScheduleError
from simulator.schedules import (
    SCHEDULES,
    Action,
    Schedule,
    build,
    check,
    checked,
    dependencies,
    durations,
    execution_order,
    grid,
    makespan,
    peak_in_flight,
    shape_of,
    spans,
)

EQUAL = {"F": 1, "I": 1, "W": 1}
SIZES = [(2, 4), (2, 6), (4, 8), (4, 10), (6, 14), (8, 20), (16, 40)]
SHAPES = [
    build(name, *size, virtual=virtual)
    for name, family in SCHEDULES.items()
    for size in SIZES
    for virtual in ((family.virtual,) if family.virtual else (1, 2, 3))
    if name != "custom" and (name != "interleaved" or virtual == 1 or size[1] % size[0] == 0)
]
SHAPES += [build("custom", 4, 8, text="\n".join(grid(build("dualpipe", 4, 8))))]
every_schedule = pytest.mark.parametrize("schedule", SHAPES)


def lines(schedule):
    return [" ".join(map(str, order)) for order in schedule.ranks]


def written(micro_batches, *ranks, stages=2):
    """Return the schedule that these texts write out, one text per rank."""
    return Schedule(
        "mine",
        stages,
        micro_batches,
        tuple(tuple(map(Action.parse, text.split())) for text in ranks),
    )


@every_schedule
def test_every_schedule_runs_every_micro_batch_once_on_every_stage(schedule):
    run = sorted(half for _, action in schedule.actions() for half in action.halves())
    chunks = sorted((m, s) for m in range(schedule.micro_batches) for s in range(schedule.stages))
    assert [(m, s) for kind, m, s in run if kind == "F"] == chunks
    assert sorted((m, s) for kind, m, s in run if kind in "BI") == chunks
    assert [(m, s) for kind, m, s in run if kind == "W"] == [
        (m, s) for kind, m, s in run if kind == "I"
    ]


@every_schedule
def test_every_schedule_prints_and_reads_back(schedule):
    read = tuple(tuple(map(Action.parse, line.split())) for line in lines(schedule))
    assert replace(schedule, ranks=read) == schedule


@every_schedule
def test_every_schedule_passes_its_check_under_its_own_name(schedule):
    check(schedule)
    virtual, text = schedule.stages // len(schedule.ranks), "\n".join(grid(schedule))
    options = {"text": text} if schedule.name == "custom" else {}
    assert schedule == build(
        schedule.name, len(schedule.ranks), schedule.micro_batches, virtual=virtual, **options
    )


@every_schedule
def test_every_schedule_can_be_run_with_each_action_after_its_inputs(schedule):
    when = {place: step for step, place in enumerate(execution_order(schedule))}
    assert len(when) == sum(map(len, schedule.ranks))
    for rank, needs in enumerate(dependencies(schedule)):
        for position, places in enumerate(needs):
            assert all(when[place] < when[rank, position] for place in places)
            assert position == 0 or when[rank, position - 1] < when[rank, position]


@every_schedule
def test_every_schedule_gives_every_rank_the_same_work(schedule):
    # F + I + W = 3 for each micro-batch: on one stage, or half of them on each of two. Nothing is
    # gained by a pair that takes F + B. What is not work until the end is idle.
    end, idle = makespan(schedule, EQUAL)
    work = 3 * schedule.micro_batches * schedule.stages / len(schedule.ranks)
    assert idle == [end - work] * len(schedule.ranks)


def test_an_action_prints_as_people_write_it():
    assert [str(Action(kind, 3, 1)) for kind in "FBIW"] == ["F3@1", "B3@1", "I3@1", "W3@1"]
    assert str(Action("FB", 3, 1, 1, 6)) == "F3@1&B1@6"
    assert Action("FB", 3, 1, 1, 6).halves() == (("F", 3, 1), ("B", 1, 6))
    assert Action.parse("I12@30") == Action("I", 12, 30)


@pytest.mark.parametrize(
    "text",
    ["", "F3", "f3@1", "X3@1", "F-1@0", "F3@1&F1@6", "B3@1&F1@6", "F3@1&I1@6", "F3@1 ", "F٣@1"],
)
def test_a_text_that_is_no_action_is_refused_with_an_example(text):
    with pytest.raises(ScheduleError, match=r"is not an action.*F3@1&B1@6"):
        Action.parse(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("X", 0, 0), "'X' is not a kind of action"),
        (("F", -1, 0), "negative"),
        (("FB", 0, 0), "negative"),
        (("F", 0, 0, 1, 1), "'F0@0&B1@1' has a second half"),
    ],
)
def test_an_action_that_could_not_be_read_back_is_not_made(arguments, words):
    with pytest.raises(ScheduleError, match=words):
        Action(*arguments)


def test_1f1b_of_two_stages_and_two_micro_batches_written_out():
    schedule = build("1f1b", 2, 2)
    assert lines(schedule) == ["F0@0 F1@0 B0@0 B1@0", "F0@1 B0@1 F1@1 B1@1"]
    # F = 1, B = 2. Rank 0 waits for B0@1, which ends at 2 + 2 = 4; rank 1 then runs F1 and B1 from
    # 4 to 7.
    assert spans(schedule, EQUAL) == [
        [(0, 1), (1, 2), (4, 6), (7, 9)],
        [(1, 2), (2, 4), (4, 5), (5, 7)],
    ]
    assert schedule.place()["B", 1, 1] == (1, 3)
    # F1@1 needs F1@0. B0@1, on the last stage, needs only its own forward; B1@0 needs that and
    # B1@1.
    needs = dependencies(schedule)
    assert (needs[1][2], needs[1][1], needs[0][3]) == (((0, 1),), ((1, 0),), ((0, 1), (1, 3)))


def test_1f1b_with_fewer_micro_batches_than_stages_never_reaches_the_steady_state():
    assert lines(build("1f1b", 3, 1)) == ["F0@0 B0@0", "F0@1 B0@1", "F0@2 B0@2"]


@pytest.mark.parametrize(("stages", "micro_batches"), [(1, 3), (2, 2), (4, 4), (4, 9), (8, 20)])
def test_1f1b_idles_p_minus_1_times_f_plus_b(stages, micro_batches):
    # The first micro-batch needs (P-1) F to reach the last rank, the last one (P-1) B to come back.
    end, idle = makespan(build("1f1b", stages, micro_batches), {"F": 1, "B": 2})
    assert end == 3 * (micro_batches + stages - 1)
    assert idle == [3 * (stages - 1)] * stages


@pytest.mark.parametrize("stages", [2, 4, 8])
def test_1f1b_holds_p_chunks_on_rank_0_and_one_fewer_on_each_next(stages):
    assert peak_in_flight(build("1f1b", stages, 2 * stages)) == list(range(stages, 0, -1))


def test_dualpipe_of_two_stages_and_four_micro_batches_written_out():
    # Both ranks are middle ranks (no inner steps 1, 3, 5, 7): F0 F1 | F0, B1 apart, then a pair |
    # B1, split B0 | W.
    assert lines(build("dualpipe", 2, 4)) == [
        "F0@0 F2@1 F1@0 B2@1 F3@1&B0@0 B3@1 I1@0 W1@0",
        "F2@0 F0@1 F3@0 B0@1 F1@1&B2@0 B1@1 I3@0 W3@0",
    ]


@pytest.mark.parametrize(
    ("times", "end", "idle"),
    [
        # 20 micro-batches x (F + I + W = 3) = 60 of work on every rank: a pair saves nothing. Idle
        # is 3 x (3 + 2 - 3).
        ({"F": 1, "I": 1, "W": 1, "FB": 3}, 66, [6, 6, 6, 6]),
        # A pair saves 1; ranks 0 to 3 run 9, 10, 11, 11 pairs, hence work 51, 50, 49, 49. Most idle
        # 3 x (2 + 2 - 3).
        ({"F": 1, "I": 1, "W": 1, "FB": 2}, 52, [1, 2, 3, 3]),
        # A pair saves 0.5: work 55.5, 55, 54.5, 54.5. The published bubble, 3 x (2.5 + 2 - 1.5) =
        # 9, is for F = I.
        ({"F": 1, "I": 1.5, "W": 0.5, "FB": 2.5}, 62.5, [7, 7.5, 8, 8]),
    ],
)
def test_dualpipe_of_eight_stages_and_twenty_micro_batches_without_communication(times, end, idle):
    assert makespan(build("dualpipe", 8, 20), times) == (end, idle + idle[::-1])


@pytest.mark.parametrize(("stages", "micro_batches"), SIZES)
@pytest.mark.parametrize(
    "times", [(1, 1, 1, 3), (1, 1, 1, 2), (1, 1, 0.5, 2), (2, 2, 1, 3.5), (1, 1, 0, 1)]
)
@pytest.mark.slow
def test_dualpipe_idles_at_most_its_published_bubble(stages, micro_batches, times):
    # arXiv 2412.19437, table 2: (P/2 - 1)(F&B + B - 3W), for F = I, W <= F and B <= F&B <= F + B.
    forward, dgrad, wgrad, pair = times
    _, idle = makespan(
        build("dualpipe", stages, micro_batches), {"F": forward, "I": dgrad, "W": wgrad, "FB": pair}
    )
    assert max(idle) == pytest.approx((stages / 2 - 1) * (pair + dgrad + wgrad - 3 * wgrad))


@pytest.mark.parametrize(("stages", "micro_batches"), SIZES)
def test_dualpipe_holds_at_most_one_chunk_more_than_it_has_stages(stages, micro_batches):
    assert peak_in_flight(build("dualpipe", stages, micro_batches)) == [stages + 1] * stages


@pytest.mark.parametrize(("stages", "micro_batches"), SIZES)
def test_dualpipe_runs_on_rank_p_minus_1_minus_r_what_rank_r_runs_with_the_directions_swapped(
    stages, micro_batches
):
    half = micro_batches // 2

    def swapped(action):
        second = (
            (-1, -1)
            if action.kind != "FB"
            else ((action.micro_batch_b + half) % micro_batches, action.stage_b)
        )
        return Action(
            action.kind, (action.micro_batch + half) % micro_batches, action.stage, *second
        )

    ranks = build("dualpipe", stages, micro_batches).ranks
    assert ranks[::-1] == tuple(tuple(map(swapped, order)) for order in ranks)


@pytest.mark.parametrize(
    ("name", "stages", "micro_batches", "words"),
    [
        (
            "gpipes",
            2,
            4,
            "'gpipes' is not a schedule. Choose from: gpipe, 1f1b, interleaved, zb-h1, zb-h2, zb-1p",
        ),
        ("zb-v", 4, 7, "7 micro-batches are too few.*Use at least 8"),
        ("dualpipev", 4, 7, "7 micro-batches are too few.*8 stages on 4 ranks. Use at least 8"),
        ("custom", 4, 7, "'custom' has no text"),
        ("1f1b", 0, 4, "ranks: 0 must be at least 1"),
        ("1f1b", 2, 0, "micro_batches: 0 must be at least 1"),
        ("dualpipe", 3, 8, "3 stages.*Use 4 stages"),
        ("dualpipe", 4, 6, "6 micro-batches.*even number of at least 8 for 4 stages"),
        ("dualpipe", 4, 9, "9 micro-batches.*even number of at least 8 for 4 stages"),
    ],
)
def test_a_schedule_that_cannot_be_built_says_what_to_use(name, stages, micro_batches, words):
    with pytest.raises(ScheduleError, match=words):
        build(name, stages, micro_batches)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "1f1b",
            {"virtual": 2},
            "2 virtual stages per rank do not fit 1f1b, which has 1. Leave it out, or use inter",
        ),
        (
            "dualpipev",
            {"virtual": 3},
            "3 virtual stages per rank do not fit dualpipev, which has 2",
        ),
        ("interleaved", {"virtual": 0}, "virtual: 0 must be at least 1"),
        (
            "interleaved",
            {"virtual": 2, "group": 3},
            "3 micro-batches in a group are fewer than 4 ranks.*at least 4",
        ),
        (
            "interleaved",
            {"virtual": 2, "group": 7},
            "8 micro-batches do not divide into groups of 7.*The nearest that do: 7 and 14",
        ),
        ("zb-1p", {"limit": 0.5}, "limit: 0.5 is not a number of chunks.*Allow at least 1"),
        ("zb-1p", {"times": {"F": 1, "I": 1}}, "'W' has no time on stage 0. Add W"),
        ("zb-1p", {"times": {"F": (1, 2), "I": 1, "W": 1}}, "'F' has no time on stage 2"),
        ("zb-1p", {"times": {"F": (1, 2), "I": (1, 2, 3), "W": 1}}, r"\[2, 3\] stages have times"),
    ],
)
def test_options_that_do_not_fit_say_what_to_use(name, options, words):
    with pytest.raises(ScheduleError, match=words):
        build(name, 4, 8, **options)


def test_interleaved_of_two_ranks_written_out():
    # Stages 0 and 2 on rank 0, 1 and 3 on rank 1; groups of two micro-batches through one stage,
    # then through the next. Rank 0 runs 2 x 1 + 2 = 4 forwards ahead, rank 1 two.
    assert lines(build("interleaved", 2, 2, virtual=2)) == [
        "F0@0 F1@0 F0@2 F1@2 B0@2 B1@2 B0@0 B1@0",
        "F0@1 F1@1 F0@3 B0@3 F1@3 B1@3 B0@1 B1@1",
    ]
    assert build("interleaved", 4, 9).ranks == build("1f1b", 4, 9).ranks


def test_zero_bubble_by_hand_written_out():
    # H1 keeps as many W back as 1F1B has forwards fewer, H2 twice as many, with twice the forwards
    # ahead.
    assert lines(build("zb-h1", 2, 3)) == [
        "F0@0 F1@0 I0@0 W0@0 F2@0 I1@0 W1@0 I2@0 W2@0",
        "F0@1 I0@1 F1@1 I1@1 W0@1 F2@1 I2@1 W1@1 W2@1",
    ]
    assert lines(build("zb-h2", 2, 3)) == [
        "F0@0 F1@0 F2@0 I0@0 W0@0 I1@0 W1@0 I2@0 W2@0",
        "F0@1 I0@1 F1@1 I1@1 F2@1 I2@1 W0@1 W1@1 W2@1",
    ]


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        (
            ("F0@0 F1@0 B0@0", "F0@1 B0@1 F1@1 B1@1"),
            "'B1@0' is missing, the counterpart of F1@0 at rank 0, position 1",
        ),
        (
            ("F0@0 F1@0 B0@0 I1@0", "F0@1 B0@1 F1@1 B1@1"),
            "'W1@0' is missing.*F1@0 at rank 0, position 1",
        ),
        (
            ("F0@0 F1@0 B0@0 B1@0", "F0@1 B0@1 B1@1"),
            "'F1@1' is missing, the counterpart of B1@1 at rank 1, position 2",
        ),
        (("F0@0 F1@0 B0@0 B1@0", "F0@1 B0@1"), "'F1@1' is missing: no rank"),
        (
            ("F0@0 F1@0 B0@0 F1@0 B1@0", "F0@1 B0@1 F1@1 B1@1"),
            "'F1@0' is repeated at rank 0, position 3.*rank 0, position 1",
        ),
        (
            ("F0@0 F1@0 B0@0 B1@0 W1@0", "F0@1 B0@1 F1@1 B1@1"),
            "'W1@0' at rank 0, position 4 repeats part of B1@0 at rank 0, position 3",
        ),
        (
            ("F0@0 F1@0 B0@0 B1@0", "F0@1 B0@1 F1@1 B1@2"),
            "'B1@2' at rank 1, position 3 is impossible",
        ),
        (
            ("F0@0 F1@0 B0@0 F2@0&B1@0", "F0@1 B0@1 F1@1 B1@1"),
            "'F2@0&B1@0' at rank 0, position 3 is impossible",
        ),
        (
            ("F0@0 F1@0 B0@0 B1@1", "F0@1 B0@1 F1@1 B1@0"),
            "'B1@0' at rank 1, position 3 is not on the rank of F1@0 at rank 0, position 1",
        ),
    ],
)
def test_check_names_a_missing_a_repeated_and_an_impossible_action(ranks, words):
    with pytest.raises(ScheduleError, match=words):
        check(written(2, *ranks))


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        # A circle of two: rank 0 wants B0@1, behind rank 1's F1@1; that wants F1@0, behind rank 0's
        # B0@0.
        (
            ("F0@0 B0@0 F1@0 B1@0", "F0@1 F1@1 B0@1 B1@1"),
            "'B0@0' deadlocks: .*position 1 waits for B0@1 at rank 1, position 2; "
            + "F1@1 at rank 1, position 1 waits for F1@0 at rank 0, position 2",
        ),
        # A circle of one rank: an action before its own input.
        (
            ("F0@0 F1@0 B0@0 W1@0 I1@0", "F0@1 B0@1 F1@1 B1@1"),
            "'W1@0' deadlocks: W1@0 at rank 0, position 3 waits for I1@0 at rank 0, position 4",
        ),
        # A pair cannot hold a forward and the backward of that same chunk.
        (
            ("F0@0 F1@0 B0@0 B1@0", "F0@1&B0@1 F1@1 B1@1"),
            "'F0@1&B0@1' deadlocks: F0@1&B0@1 at rank 1, position 0 waits for F0@1&B0@1 at rank 1, position 0",
        ),
    ],
)
def test_check_names_the_circle_of_a_deadlock(ranks, words):
    with pytest.raises(ScheduleError, match=words):
        check(written(2, *ranks))


@pytest.mark.parametrize("rank", range(8))
def test_check_finds_any_action_dropped_from_or_doubled_in_dualpipe(rank):
    schedule = build("dualpipe", 8, 20)
    order = schedule.ranks[rank]

    def changed(actions):
        return replace(
            schedule, ranks=(*schedule.ranks[:rank], actions, *schedule.ranks[rank + 1 :])
        )

    for position, action in enumerate(order):
        with pytest.raises(ScheduleError, match="is missing") as dropped:
            check(changed(order[:position] + order[position + 1 :]))
        assert dropped.value.value in str(action)
        with pytest.raises(
            ScheduleError, match=f"is repeated at rank {rank}, position {position + 1};"
        ) as doubled:
            check(changed(order[: position + 1] + order[position:]))
        assert doubled.value.value in str(action)


def test_dependencies_name_an_input_that_no_rank_runs():
    with pytest.raises(
        ScheduleError, match="'F0@1' at rank 0, position 0 needs F0@0, which no rank runs"
    ):
        dependencies(written(1, "F0@1 B0@1", "B0@0"))


def test_a_pair_needs_what_both_halves_need_and_provides_both():
    # F1@1 needs F1@0, B0@1 its forward F0@1; B0@0 and B1@1 then need the pair.
    schedule = written(2, "F0@0 F1@0 B0@0 B1@0", "F0@1 F1@1&B0@1 B1@1")
    check(schedule)
    assert dependencies(schedule)[1] == (((0, 0),), ((0, 1), (1, 0)), ((1, 1),))
    assert dependencies(schedule)[0][2] == ((0, 0), (1, 1))
    assert peak_in_flight(schedule) == [2, 2]


def test_a_split_backward_holds_its_chunk_until_the_weight_gradient():
    assert peak_in_flight(written(2, "F0@0 B0@0 F1@0 B1@0", stages=1)) == [1]
    assert peak_in_flight(written(2, "F0@0 I0@0 F1@0 W0@0 I1@0 W1@0", stages=1)) == [2]


def test_a_backward_takes_both_gradients_and_a_pair_both_halves_unless_told():
    assert durations({"F": 1, "I": 2, "W": 3}) == {"F": 1, "I": 2, "W": 3, "B": 5, "FB": 6}
    assert durations({"F": 1, "B": 2}) == {"F": 1, "B": 2, "FB": 3}


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ({"F": 1}, "'B' has no time, and B0@0 needs one. Add B"),
        ({"F": 1, "X": 1}, "'X' is not a kind of action"),
        ({"F": -1}, "-1 is not a time for F"),
        ({"F": float("nan")}, "nan is not a time for F"),
    ],
)
def test_times_that_are_missing_or_wrong_are_named(times, words):
    with pytest.raises(ScheduleError, match=words):
        makespan(build("1f1b", 2, 2), times)


def test_a_checked_schedule_is_built_once_for_equal_shapes_and_anew_for_others():
    def shape(**times):
        return shape_of("zb-1p", 4, 8, times=times)

    first = checked("zb-1p", shape(F=1, I=1, W=1))
    assert checked("zb-1p", shape(W=1, F=1, I=1)) is first
    assert checked("zb-1p", shape(F=1, I=1, W=3)) == build(
        "zb-1p", 4, 8, times={"F": 1, "I": 1, "W": 3}
    )
    assert checked("zb-h1", shape(F=1, I=1, W=1)) is not first


@pytest.mark.parametrize("name", ["1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe", "dualpipev"])
def test_halves_and_hosts_are_those_of_the_actions(name):
    schedule = build(name, 4, 8, virtual=SCHEDULES[name].virtual or 3)
    halves = schedule.table.halves
    listed = [
        (row, "FBIW".index(kind), stage)
        for row, (_, action) in enumerate(schedule.actions())
        for kind, _, stage in action.halves()
    ]
    columns = (halves.row.tolist(), halves.kind.tolist(), halves.stage.tolist())
    assert list(zip(*columns, strict=True)) == listed
    held: dict[int, set[int]] = {}
    for (rank, _), action in schedule.actions():
        for _, _, stage in action.halves():
            held.setdefault(stage, set()).add(rank)
    assert schedule.hosts == {stage: tuple(sorted(held[stage])) for stage in sorted(held)}

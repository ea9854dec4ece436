"""Passes, list to list: what each adds and keeps, over every schedule; what the check of transfers finds."""

import pytest

from simulator.errors import ScheduleError
from simulator.schedules import SCHEDULES, Action, build, check, passes

every_schedule = pytest.mark.parametrize(
    "schedule",
    [
        build(name, 4, 8, virtual=row.virtual or 2)
        for name, row in SCHEDULES.items()
        if name != "custom"
    ],
    ids=lambda schedule: schedule.name,
)


def texts(orders):
    return [" ".join(map(str, order)) for order in orders]


def again(orders, schedule):
    return passes.scheduled(orders, schedule.name, schedule.stages, schedule.micro_batches)


def test_sends_and_receives_of_1f1b_written_out():
    assert texts(passes.with_transfers(build("1f1b", 2, 2).ranks)) == [
        "F0@0 SF0@0>1 F1@0 SF1@0>1 RB0@0<1 B0@0 RB1@0<1 B1@0",
        "RF0@1<0 F0@1 B0@1 SB0@1>0 RF1@1<0 F1@1 B1@1 SB1@1>0",
    ]


def test_data_parallel_communication_stands_before_a_stage_s_first_and_behind_its_last_action():
    # Rank 0 of interleaved holds stages 0 and 2; stage 2's gradients are whole before stage 0's.
    assert texts(passes.with_data_parallel(build("interleaved", 2, 2, virtual=2).ranks))[0] == (
        "AG@0 F0@0 F1@0 AG@2 F0@2 F1@2 B0@2 B1@2 RS@2 B0@0 B1@0 RS@0"
    )
    # With split backwards the last W counts, not the last I.
    assert texts(passes.with_data_parallel(build("zb-h1", 2, 2).ranks))[1].endswith(
        "I1@1 W0@1 W1@1 RS@1"
    )


@every_schedule
def test_passes_keep_the_schedule_and_print_and_read_back(schedule):
    orders = passes.with_data_parallel(passes.with_transfers(passes.compute_only(schedule.ranks)))
    passes.check_transfers(orders)
    assert again(orders, schedule) == schedule
    assert [[passes.parse_step(str(step)) for step in order] for order in orders] == orders
    assert passes.compute_only(orders) == [list(order) for order in schedule.ranks]


@every_schedule
def test_each_send_has_its_receive_and_each_stage_is_reduced_once_per_rank(schedule):
    orders = passes.with_data_parallel(passes.with_transfers(schedule.ranks))
    steps = [step for order in orders for step in order]
    kinds = [step.kind for step in steps if isinstance(step, passes.Transfer)]
    assert kinds.count("SF") == kinds.count("RF")
    assert kinds.count("SB") == kinds.count("RB")
    hosted = sum(
        len({half[2] for action in order for half in action.halves()}) for order in schedule.ranks
    )
    for kind in ("AG", "RS"):
        assert (
            sum(isinstance(step, passes.Reduction) and step.kind == kind for step in steps)
            == hosted
        )


@every_schedule
def test_split_and_merged_backwards_are_schedules_and_undo_each_other(schedule):
    split = again(passes.split_backward(schedule.ranks), schedule)
    merged = again(passes.merge_backward(schedule.ranks), schedule)
    check(split)
    check(merged)
    assert not any(action.kind == "B" for _, action in split.actions())
    assert not any(action.kind in ("I", "W") for _, action in merged.actions())
    assert again(passes.merge_backward(split.ranks), schedule) == merged


def test_zb_h1_merged_is_1f1b():
    split = build("zb-h1", 4, 8)
    assert again(passes.merge_backward(split.ranks), split).ranks == build("1f1b", 4, 8).ranks


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ((["F0@0", "SF0@0>1"], []), "'SF0@0' is sent by rank 0 and not received by rank 1"),
        (
            (["F0@0"], ["RF0@1<0", "F0@1"]),
            "'RF0@1<0' at rank 0|'RF0@1<0' at rank 1, step 0 waits for a send",
        ),
        ((["RB0@0<1", "SF0@0>1"], ["RF0@1<0", "SB0@1>0"]), "'RB0@0<1' at rank 0, step 0 waits"),
    ],
)
def test_transfers_that_do_not_meet_are_found(orders, words):
    with pytest.raises(ScheduleError, match=words):
        passes.check_transfers([[passes.parse_step(text) for text in order] for order in orders])


def test_transfers_need_what_they_send():
    with pytest.raises(ScheduleError, match="'F0@1' needs F0@0, which no rank runs"):
        passes.with_transfers([[Action("F", 0, 1)]])


@pytest.mark.parametrize("text", ["SF0@0<1", "RF0@0>1", "XX@0", "SF@0>1"])
def test_a_text_that_is_no_step_is_refused(text):
    with pytest.raises(ScheduleError, match="is not an action"):
        passes.parse_step(text)

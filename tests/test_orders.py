"""What a pipeline rank runs, as few different actions."""

import pytest

from simulator.program.orders import Key, Order, orders
from simulator.schedules import SCHEDULES, Action, PipelineOverlap, Schedule, build


def ordered(
    schedule: Schedule, *, every_pass: bool, overlap: PipelineOverlap = PipelineOverlap.ALL
) -> tuple[Order, ...]:
    """Return what ranks run, where sends find their receivers ready unless told otherwise."""
    return orders(schedule, overlap, every_pass=every_pass)


def different_actions(name: str, micro_batches: int) -> list[int]:
    """Return how many different actions each rank of four runs."""
    schedule = build(name, 4, micro_batches, virtual=SCHEDULES[name].virtual or 2)
    return [len(order.keys) for order in ordered(schedule, every_pass=True)]


@pytest.mark.parametrize("name", ["1f1b", "interleaved", "zb-h1", "dualpipe", "dualpipev"])
def test_a_rank_runs_few_different_actions_whatever_the_number_of_micro_batches(name):
    few, more = different_actions(name, 8), different_actions(name, 16)
    assert few == more
    assert max(few) <= 12


def test_an_action_is_told_apart_by_who_takes_what_it_makes_and_by_being_the_last():
    # F0@0 F1@0 B0@0 B1@0 on rank 0: forwards go to rank 1; the second backward completes the
    # stage's gradients.
    order = ordered(build("gpipe", 2, 2), every_pass=False)[0]
    first, second = (order.keys[code] for code in order.code[:2].tolist())
    assert first == second == Key("F", 0, -1, 1, -1, final=False)
    assert [order.keys[code].final for code in order.code[2:].tolist()] == [False, True]
    assert (order.first, order.final) == ({0: 0}, {0: 3})


def test_a_pair_makes_the_gradients_of_its_backward_half():
    # Two directions: micro-batch 0 runs on stage 0 of rank 0 and stage 1 of rank 1, micro-batch 1 on
    # stage 0 of rank 1 and stage 1 of rank 0, whose pair ends the gradients of stage 0 and not of 1.
    ahead = (Action("F", 0, 0), Action("FB", 1, 1, 0, 0), Action("B", 1, 1))
    behind = (Action("F", 1, 0), Action("F", 0, 1), Action("B", 0, 1), Action("B", 1, 0))
    order = ordered(Schedule("pair", 2, 2, (ahead, behind)), every_pass=False)[0]
    assert order.final == {0: 1, 1: 2}
    assert [order.keys[code].final for code in order.code.tolist()] == [False, True, True]


def test_orders_are_kept_by_value_of_the_schedule():
    # The same sizes, so that hashes are equal: the order of actions tells them apart.
    one, same, other = build("1f1b", 2, 4), build("1f1b", 2, 4), build("gpipe", 2, 4)
    assert hash(one) == hash(other)
    kept = ordered(one, every_pass=True)
    assert ordered(same, every_pass=True) is kept
    assert ordered(other, every_pass=True)[0].code.tolist() != kept[0].code.tolist()

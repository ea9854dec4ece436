"""Rows that occur again and again are written down once and laid at once."""

import numpy as np
import pytest

from simulator.program.chunks import COMPUTE, SEND
from simulator.program.orders import Key, orders
from simulator.program.templates import csr, spread, stream_order
from simulator.schedules import SCHEDULES, build


def test_entries_of_lists_are_found_in_the_order_wanted():
    # Lists of 2, 0 and 3 entries stand at 0-1, none and 2-4. The third, then the first, then the
    # empty one.
    owner, entry = spread(np.array([2, 0, 3]), np.array([2, 0, 1]))
    assert (owner.tolist(), entry.tolist()) == ([0, 0, 0, 1, 1], [2, 3, 4, 0, 1])


def test_waits_are_sorted_by_row_and_named_once():
    pointer, wait = csr(
        4, [(np.array([3, 1, 3]), np.array([2, 0, 0])), (np.array([3]), np.array([2]))]
    )
    assert (pointer.tolist(), wait.tolist()) == ([0, 0, 1, 1, 3], [0, 0, 2])


def test_rows_follow_their_stream_except_sends():
    # Rank 0: compute, send, compute, send; rank 1: compute.
    row, before = stream_order(
        np.array([0, 0, 0, 0, 1]), np.array([COMPUTE, SEND, COMPUTE, SEND, COMPUTE])
    )
    assert (row.tolist(), before.tolist()) == ([2], [0])


@pytest.mark.parametrize("name", ["1f1b", "interleaved", "zb-h1", "dualpipe", "dualpipev"])
def test_a_rank_runs_few_different_actions_whatever_the_number_of_micro_batches(name):
    sizes = [
        [
            len(order.keys)
            for order in orders(
                build(name, 4, count, virtual=SCHEDULES[name].virtual or 2), every_pass=True
            )
        ]
        for count in (8, 16)
    ]
    assert sizes[0] == sizes[1]
    assert max(sizes[0]) <= 12


def test_an_action_is_told_apart_by_who_takes_what_it_makes_and_by_being_the_last():
    # F0@0 F1@0 B0@0 B1@0 on rank 0: forwards go to rank 1; the second backward completes the
    # stage's gradients.
    order = orders(build("gpipe", 2, 2), every_pass=False)[0]
    assert (
        order.keys[order.code[0]]
        == order.keys[order.code[1]]
        == Key("F", 0, -1, 1, -1, final=False)
    )
    assert [order.keys[code].final for code in order.code[2:].tolist()] == [False, True]
    assert (order.first, order.final) == ({0: 0}, {0: 3})

"""Index arithmetic that lays the rows of a program: entries, numbers, what waits for what."""

import numpy as np

from simulator.ops.streams import Stream
from simulator.program.numbering import by_appearance, instances, occurrence
from simulator.program.ragged import spread
from simulator.program.waits import Waits, csr, stream_order


def test_entries_of_lists_are_found_in_the_order_wanted():
    # Lists of 2, 0 and 3 entries stand at 0-1, none and 2-4. The third, then the first, then the
    # empty one.
    owner, entry = spread(np.array([2, 0, 3]), np.array([2, 0, 1]))
    assert (owner.tolist(), entry.tolist()) == ([0, 0, 0, 1, 1], [2, 3, 4, 0, 1])


def test_waits_are_sorted_by_row_and_named_once():
    waits = [Waits(np.array([3, 1, 3]), np.array([2, 0, 0])), Waits(np.array([3]), np.array([2]))]
    pointer, on = csr(4, waits)
    assert (pointer.tolist(), on.tolist()) == ([0, 0, 1, 1, 3], [0, 0, 2])


def test_rows_follow_their_stream_except_sends():
    # Rank 0: compute, send, compute, send; rank 1: compute.
    stream = [Stream.COMPUTE, Stream.SEND, Stream.COMPUTE, Stream.SEND, Stream.COMPUTE]
    row, before = stream_order(np.array([0, 0, 0, 0, 1]), np.array(stream))
    assert (row.tolist(), before.tolist()) == ([2], [0])


def test_values_are_numbered_in_the_order_in_which_they_appear():
    values, number = by_appearance(np.array([7, 2, 7, 0, 2]))
    assert (values.tolist(), number.tolist()) == ([7, 2, 0], [0, 1, 0, 2, 1])


def test_occurrence_counts_equal_values_above():
    assert occurrence(np.array([4, 1, 4, 4, 1])).tolist() == [0, 0, 1, 2, 1]


def test_the_nth_calls_of_all_members_are_one_instance_and_every_send_is_one():
    # Coflow 0 is a collective that ranks 0 and 1 call twice each, coflow 1 a class of sends that
    # each rank calls once; a kernel stands between them.
    rank = np.array([0, 0, 0, 0, 1, 1, 1])
    coflow = np.array([0, 1, -1, 0, 0, 1, 0])
    found = instances(rank, coflow, np.array([False, True]))
    assert found.tolist() == [0, 1, -1, 2, 0, 3, 2]

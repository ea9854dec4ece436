"""Intervals of a timeline: unions and differences, piece by piece as a plain loop finds them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.timeline import Intervals, covered, measure, subtract, union

SPANS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=8)
"""(start, length): so few numbers that intervals touch, repeat and have no length."""


def joined(spans):
    start = np.array([begin for begin, _ in spans], dtype=float)
    length = np.array([size for _, size in spans], dtype=float)
    return union(start, start + length)


def pairs(intervals):
    return list(zip(intervals.start.tolist(), intervals.end.tolist(), strict=True))


def inside(point, intervals):
    return any(start <= point < end for start, end in pairs(intervals))


@given(SPANS)
def test_a_union_is_disjoint_and_holds_what_any_of_its_intervals_holds(spans):
    found = joined(spans)
    assert all(end < start for (_, end), (start, _) in pairwise(pairs(found)))
    for point in np.arange(0, 17, 0.5):
        expected = any(begin <= point < begin + size for begin, size in spans)
        assert inside(point, found) == expected


@given(SPANS, SPANS, SPANS)
def test_a_difference_has_the_pieces_between_edges_that_lie_in_the_one_and_not_in_the_other(
    one, other, third
):
    # What is left over from one difference is cut where it was: of it another one is taken.
    for intervals in (joined(one), subtract(joined(one), joined(third))):
        minus = joined(other)
        edges = sorted({edge for span in (*pairs(intervals), *pairs(minus)) for edge in span})
        cuts = [
            (left, right)
            for left, right in pairwise(edges)
            if inside(left, intervals) and not inside(left, minus)
        ]
        assert pairs(subtract(intervals, minus)) == cuts


def test_what_is_covered_is_what_both_hold():
    # [0, 2) and [5, 9) meet [1, 6) and [8, 8) in [1, 2) and [5, 6): 2 s.
    spans = Intervals(np.array([0.0, 5.0]), np.array([2.0, 9.0]))
    other = Intervals(np.array([1.0, 8.0]), np.array([6.0, 8.0]))
    assert covered(spans, other) == pytest.approx(2.0)
    assert measure(spans) == pytest.approx(6.0)
    # An interval of no length covers nothing and cuts in two.
    assert pairs(subtract(spans, other)) == [(0.0, 1.0), (6.0, 8.0), (8.0, 9.0)]

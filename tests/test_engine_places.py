"""Rows lie side by side in memory, and are the same rows."""

from dataclasses import replace

import numpy as np
import pytest
from builders import scenario

from simulator.engine.hosts import NO_GATE
from simulator.engine.places import placed, places_of
from simulator.engine.records import NONE
from simulator.engine.state import state_of
from simulator.program import lower


@pytest.fixture(scope="module")
def program():
    one = lower(scenario(layout__ep=4), folded=False)
    # Every seventh row lets its host wait, so that rows name others of their rank.
    return replace(one, drains=np.arange(len(one.rank)) % 7 == 0)


def test_rows_at_the_same_place_of_each_rank_lie_side_by_side(program):
    places = places_of(program, many=1)
    position = np.concatenate([np.arange(len(rows)) for rows in program.rows_by_rank])
    assert (np.diff(position[places.row]) >= 0).all()
    assert (np.diff(program.rank[places.row])[: program.ranks - 1] > 0).all()


def test_few_rows_stay_where_they_are(program):
    places = places_of(program, many=len(program.rank) + 1)
    state = state_of(program)
    assert placed(state, places) is state
    assert places.listed(state.before) is state.before


def test_rows_that_have_moved_name_each_other_by_where_they_lie(program):
    places = places_of(program, many=1)
    before = state_of(program)
    after = placed(before, places)
    assert (before.since != NONE).any()
    for name in ("since", "gate"):
        old, new = getattr(before, name), getattr(after, name)
        for row in np.flatnonzero((old != NONE) & (old != NO_GATE))[:500].tolist():
            assert new[places.place[row]] == places.place[old[row]]
    for row in range(0, len(program.rank), 97):
        place = places.place[row]
        assert after.before[place] == before.before[row]
        followers = before.follower[before.begin[row] : before.begin[row + 1]]
        moved = after.follower[after.begin[place] : after.begin[place + 1]]
        assert moved.tolist() == places.place[followers].tolist()

"""Ranks that copy the rows of another one have the rows that they would write themselves."""

import numpy as np
import pytest
from builders import configuration_name, configurations, scenario

from simulator.program import lower
from simulator.program.rank_rows import RankBuilder

SMALL = [
    {"layout__ep": 4},
    {"layout__tp": 2, "layout__ep": 1},
    {"layout__zero": 3},
    {"schedule__name": "dualpipe"},
    {"experts": {"distribution": "power_law", "exponent": 0.8}, "layout__ep": 4},
    {"faults": [{"gpu": 3, "speed": 0.7}]},
]


def written(self, rank, speed):
    """Return the rows of a rank as if no other one were like it."""
    member = self.members[self.step.scenario.layout.local_rank(rank)] if self.members else -1
    return self._write(rank, speed, member)


def assert_same_rows(changes, monkeypatch):
    copied = lower(scenario(**changes), folded=False)
    with monkeypatch.context() as patch:
        patch.setattr(RankBuilder, "build", written)
        one_by_one = lower(scenario(**changes), folded=False)
    for column in ("rank", "stream", "label", "seconds", "host", "coflow", "instance", "wait"):
        assert np.array_equal(getattr(copied, column), getattr(one_by_one, column)), column
    assert copied.flops == one_by_one.flops


@pytest.mark.parametrize("changes", SMALL, ids=configuration_name)
def test_rows_that_are_copied_are_those_that_would_be_written(changes, monkeypatch):
    assert_same_rows(changes, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("changes", configurations(), ids=configuration_name)
def test_rows_that_are_copied_are_those_that_would_be_written_everywhere(changes, monkeypatch):
    assert_same_rows(changes, monkeypatch)

"""Orders of published cases: Kendall's tau, effects, and the groups that are compared."""

from dataclasses import replace

import pytest

from simulator.errors import InputError
from simulator.validate import Check, names
from simulator.validate.rankings import GroupConfig, Pair, order, ranking, rankings


def runs(published, simulated):
    """Return checks a/0, a/1, ... of steps of 1 s a unit, one GPU and one token each."""
    return {
        f"a/{number}": Check(
            case=f"a/{number}",
            quantity="step_time_s",
            unit="s",
            published=one,
            simulated=other,
            use="validation",
            source="a paper",
            published_cost=one,
        )
        for number, (one, other) in enumerate(zip(published, simulated, strict=True))
    }


def group(count):
    return GroupConfig(topic="t", name="n", cases=tuple(f"a/{number}" for number in range(count)))


def test_kendalls_tau_of_four_runs():
    # Measured order 1 2 3 4, simulated 1 3 2 4: of six pairs only (2, 3) is turned round, so
    # tau = (5 - 1) / 6.
    found = ranking(group(4), runs([1, 2, 3, 4], [10, 30, 20, 40]), 0.01)
    assert found.order == (6, 5, pytest.approx(4 / 6))


def test_an_order_that_is_upside_down_has_tau_minus_one():
    found = ranking(group(3), runs([1, 2, 3], [3, 2, 1]), 0.01)
    assert found.order == (3, 0, -1.0)


def test_a_published_tie_has_no_order_and_a_simulated_one_is_not_right():
    # 1 and 1.005 are within 1%; of the other two pairs the simulator has one as a tie.
    found = ranking(group(3), runs([1, 1.005, 2], [1, 2, 2]), 0.01)
    assert found.order == (2, 1, 0.5)
    assert ranking(group(2), runs([1, 1.005], [1, 2]), 0.01).order == (0, 0, 0.0)


def test_an_effect_is_the_simulated_difference_over_the_measured_one():
    # +20% measured, +10% simulated.
    first, second = runs([10, 12], [5, 5.5]).values()
    assert Pair(first, second).effect == pytest.approx(0.5)
    # +20% measured, -10% simulated: the wrong sign.
    first, second = runs([10, 12], [5, 4.5]).values()
    assert Pair(first, second).effect == pytest.approx(-0.5)
    assert order([Pair(first, second)]) == (1, 0, -1.0)


def test_a_pair_fits_where_both_of_its_runs_do():
    first, second = runs([10, 12], [5, 5.5]).values()
    assert Pair(first, second).fits  # unknown is not too large
    assert Pair(replace(first, fits=True), second).fits
    assert not Pair(first, replace(second, fits=False)).fits


def test_a_rate_counts_by_the_time_that_it_stands_for():
    # 50 and 100 tokens per second and GPU are 20 and 10 ms; simulated as 80 and 100: 12.5 and 10.
    keys = {"quantity": "tokens_per_second_per_gpu", "unit": "/s", "use": "validation"}
    slow = Check("a/0", published=50, simulated=80, source="", published_cost=0.02, **keys)
    fast = Check("a/1", published=100, simulated=100, source="", published_cost=0.01, **keys)
    assert slow.simulated_cost == pytest.approx(0.0125)
    pair = Pair(fast, slow)
    assert (pair.published, pair.simulated) == (pytest.approx(1.0), pytest.approx(0.25))


@pytest.mark.slow
def test_every_group_names_cases_that_exist_once_each():
    known = set(names())
    for row in rankings().groups:
        assert set(row.cases) <= known
        assert len(set(row.cases)) == len(row.cases)
    titles = [(row.topic, row.name) for row in rankings().groups]
    assert len(set(titles)) == len(titles)


def test_a_group_of_one_is_refused():
    with pytest.raises((ValueError, InputError)):
        GroupConfig(topic="t", name="n", cases=("a/0",))

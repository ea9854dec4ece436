"""How far to trust a result: intervals that hold what they say, and differences that can be told apart."""

import math
from itertools import combinations

import numpy as np
import pytest
from builders import dense, scenario

from simulator.compare import as_dict as compared
from simulator.compare import told_apart
from simulator.trust import Kind, published_runs
from simulator.trust.cases import Factors
from simulator.trust.conformal import (
    LEVEL,
    Likely,
    Sample,
    Sides,
    coverage,
    hypot,
    judged,
    quantiles,
    score,
    width,
)
from simulator.trust.likeness import Likeness
from simulator.trust.parts import off
from simulator.trust.resolution import Closeness, _close, limits
from simulator.validate.case import files
from simulator.validate.rankings import rankings
from simulator.whatif import study

RUNS = published_runs()
H100 = Kind("H100", "dense", "BF16", "megatron")

# The table


def test_every_row_of_the_table_is_a_case_that_counts():
    cases = {case.case: case for file in files().values() for case in file.cases}
    for run in RUNS:
        case = cases[run.case]
        assert case.scored
        assert (case.topology, case.workload) == (run.topology, run.workload)
        assert run.twins == (case.twin_of or case.case)
    assert len(RUNS) == len({run.case for run in RUNS})


def test_factors_hold_the_simulated_step_itself():
    assert all(run.hosts.low <= 1 <= run.hosts.high for run in RUNS)
    assert all(run.assumed.low <= 1 <= run.assumed.high for run in RUNS)


# Coverage


def test_four_of_five_shipped_cases_lie_in_their_intervals_each_publication_left_out():
    assert 0.7 <= coverage(judged(RUNS)) <= 0.9


@pytest.mark.parametrize("power", [0.2, 0.5, 2.0])
def test_intervals_stretch_with_the_errors_so_that_coverage_does_not_depend_on_them(power):
    # A simulator with a fifth of the errors, half of them, or twice as large ones.
    other = [run._replace(ratio=run.ratio**power) for run in RUNS]
    assert 0.7 <= coverage(judged(other)) <= 0.9


def test_errors_that_have_nothing_to_do_with_the_kind_are_covered_as_well():
    random = np.random.default_rng(0)
    other = [run._replace(ratio=math.exp(random.normal(-0.05, 0.08))) for run in RUNS]
    assert 0.7 <= coverage(judged(other)) <= 0.9


def test_the_stretch_is_such_that_the_level_would_have_been_inside():
    sample = Sample(RUNS)
    every = np.ones(len(RUNS), dtype=bool)
    stretch = sample.stretch(every)
    inside = 0.0
    for run in range(len(RUNS)):
        others = sample.publication != sample.publication[run]
        likely = sample.likely(sample.far[run], others)
        sides = width(likely, sample.own[run])
        inside += sample.weight[run] * (score(sample.error[run], likely.middle, sides) <= stretch)
    assert inside / sample.weight.sum() == pytest.approx(LEVEL, abs=0.03)


# Of what an interval is made


def test_parts_add_as_squares_on_each_side():
    assert hypot(Sides(0.03, 0.0), Sides(0.04, 0.1)) == pytest.approx((0.05, 0.1))


def test_a_factor_below_one_reaches_down_and_one_above_it_up():
    assert Sides.of(0.5, 1.0) == pytest.approx((math.log(2), 0.0))
    assert Sides.of(1.0, 2.0) == pytest.approx((0.0, math.log(2)))


def test_the_width_is_that_of_published_errors_and_the_run_s_own():
    likely = Likely(0.1, 0.06, 0.4, (0,))
    # 0.04 and 0.3 next to hosts that may be 0.4 slower.
    assert width(likely, Sides(0.0, 0.4)) == pytest.approx((0.04, 0.5))


def test_weighted_quantiles_stand_in_the_middle_of_their_weights():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0])
    # 1 at 1/8, 2 at 1/2, 3 at 7/8.
    assert quantiles(values, weights, (0.125, 0.5, 0.875, 0.3125)) == pytest.approx((1, 2, 3, 1.5))


def test_unlike_runs_are_farther_away():
    kinds = [
        H100,
        H100._replace(precision="FP8"),
        H100._replace(gpu="H800"),
        H100._replace(gpu="A100"),
        H100._replace(model="MoE", stack="deepseek"),
    ]
    far = Likeness(kinds, [64] * 5).distances(H100, 64)
    assert far.tolist() == [0.0, 0.5, 0.5, 1.0, 2.0]
    assert Likeness([H100], [4096]).distances(H100, 64).tolist() == [1.0]  # six doublings


def test_twelve_nearest_speak_and_twins_count_once():
    sample = Sample(RUNS)
    every = np.ones(len(RUNS), dtype=bool)
    likely = sample.likely(sample.likeness.distances(H100, 64), every)
    assert len(likely.runs) >= 12
    assert RUNS[likely.runs[0]].kind == H100
    assert likely.low <= likely.middle <= likely.high
    assert sample.weight.sum() == pytest.approx(len({run.twins for run in RUNS}))


def test_a_gpu_that_nobody_measured_has_the_error_of_all():
    assert off("gemm", "h100") > 0
    assert 0.02 < off("memory_bound", "gb200") < 0.2


# Differences


def test_a_limit_holds_four_of_five_differences_of_errors_of_publications_left_out():
    for close in Closeness:
        inside, total = 0.0, 0.0
        for publication in {run.publication for run in RUNS}:
            own = [run for run in RUNS if run.publication == publication]
            pairs = [pair for pair in combinations(own, 2) if _close(*pair) == close]
            if not pairs:
                continue
            others = [run for run in RUNS if run.publication != publication]
            size = limits(others)[close].size
            small = [abs(math.log(a.ratio / b.ratio)) <= size for a, b in pairs]
            inside += np.mean(small) * math.sqrt(len(pairs))
            total += math.sqrt(len(pairs))
        assert 0.6 <= inside / total <= 0.95, close


def test_measured_pairs_that_are_told_apart_are_in_the_measured_order():
    runs = {run.case: run for run in RUNS}
    found = limits(RUNS)
    seen, right, near, wrong_near = set(), [], 0, 0
    for group in rankings().groups:
        for names in combinations(group.cases, 2):
            if frozenset(names) in seen or not set(names) <= runs.keys():
                continue
            seen.add(frozenset(names))
            first, other = (runs[name] for name in names)
            measured = math.log(other.cost / first.cost)
            simulated = measured + math.log(other.ratio / first.ratio)
            if abs(simulated) > found[_close(first, other)].size:
                right.append(measured * simulated > 0)
            else:
                near += 1
                wrong_near += measured * simulated < 0
    assert len(right) >= 20
    assert np.mean(right) >= 0.95
    # Nearly all wrong orders are among those of which the simulator says that it cannot tell.
    assert wrong_near >= len(right) - sum(right)
    assert near > 0


def test_what_is_of_one_model_is_told_apart_best():
    found = limits(RUNS)
    assert found[Closeness.SAME_MODEL].size <= found[Closeness.SAME_KIND].size
    assert found[Closeness.SAME_KIND].size <= found[Closeness.OTHER_KIND].size


@pytest.mark.slow
def test_a_comparison_says_what_it_cannot_tell_apart():
    first = study(dense())
    alike = study(dense(training__global_batch_size=16))
    halved = study(dense(layout__pp=1, layout__zero=3, node__nic="1 GB/s per direction"))
    assert not told_apart(first, alike).told_apart
    assert "smaller than what can be told apart" in told_apart(first, alike).sentence
    far = told_apart(first, halved)
    assert far.told_apart
    assert far.low > 0
    tree = compared([first, alike, halved])
    assert [row["told_apart"] for row in tree["resolution"]] == [False, True]


# In a report


@pytest.mark.slow
def test_a_study_has_an_interval_on_the_step_and_on_what_follows_from_it():
    found = study(scenario())
    tree = found.as_dict()["trust"]
    low, high = tree["step_time_s"]
    step = found.report.step_time
    assert 0 < low < high
    hours = tree["gpu_hours"]
    assert hours == pytest.approx([found.report.gpu_hours * end / step for end in (low, high)])
    rates = tree["tokens_per_second"]
    tokens = found.report.scenario.tokens_per_step
    assert rates == pytest.approx([tokens / high, tokens / low])
    names = [part["name"] for part in tree["parts"]]
    assert names == [
        "published runs like this one",
        "kernels",
        "links",
        "hosts",
        "assumed settings",
    ]
    assert len(tree["like_this_run"]["cases"]) >= 12


@pytest.mark.slow
def test_hosts_that_nobody_measured_widen_an_interval():
    known = study(scenario())
    slow = [run._replace(hosts=Factors(1.0, 3.0)) for run in RUNS]
    assert Sample(slow).own[0].up > Sample(RUNS).own[0].up
    assert known.trust.high > known.report.step_time * math.exp(-1)

"""Max-min rates: literals with their derivation, the defining property, and an oracle by linear programs."""

import math
import random
import timeit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from simulator.errors import EngineError
from simulator.fairshare import bundle, max_min, max_min_few, pick

INF = math.inf


def many(capacity, flows, caps):
    """Call `max_min` with the arguments of `max_min_few`."""
    entries = [entry for flow in flows for entry in flow]
    ptr = np.cumsum([0, *(len(flow) for flow in flows)])
    link = np.array([link for link, _ in entries], dtype=np.int64)
    weight = np.array([weight for _, weight in entries], dtype=np.float64)
    return max_min(
        np.array(capacity, dtype=float), ptr, link, weight, np.array(caps, dtype=float)
    ).tolist()


VERSIONS = {"max_min": many, "max_min_few": max_min_few}
each_version = pytest.mark.parametrize("rates", VERSIONS.values(), ids=VERSIONS)


def plain(*routes):
    """Return flows of weight 1 over links."""
    return [[(link, 1.0) for link in route] for route in routes]


# Literals


@each_version
def test_flows_alone_on_a_link_share_it_evenly(rates):
    assert rates([50.0], plain([0], [0], [0], [0]), [INF] * 4) == [12.5] * 4


@each_version
def test_the_long_flow_of_a_line_gets_what_the_fullest_link_leaves(rates):
    # Three links in a row of 10, 6, 10. A long flow crosses all; one short flow on the first, two
    # on the second, one on the third. At 2 the second link is full (3 flows); links 1 and 3 leave
    # their short flows 10 - 2 = 8.
    assert rates([10.0, 6.0, 10.0], plain([0, 1, 2], [0], [1], [1], [2]), [INF] * 5) == [
        2.0,
        8.0,
        2.0,
        2.0,
        8.0,
    ]


@each_version
def test_a_faster_link_can_slow_a_flow(rates):
    # A on links 1 and 2, B on link 2. Link 1 of 2: A gets 2, B 10 - 2 = 8. Link 1 of 10: both get
    # 5.
    flows = plain([0, 1], [1])
    assert rates([2.0, 10.0], flows, [INF, INF]) == [2.0, 8.0]
    assert rates([10.0, 10.0], flows, [INF, INF]) == [5.0, 5.0]


@each_version
def test_what_a_capped_flow_leaves_goes_to_the_others(rates):
    # 12 for three is 4 each; the first stops at 1, and 11 for two is 5.5.
    assert rates([12.0], plain([0], [0], [0]), [1.0, INF, INF]) == [1.0, 5.5, 5.5]


@each_version
def test_a_cap_alone_bounds_a_flow_without_links(rates):
    assert rates([12.0], [[], [(0, 1.0)]], [7.0, INF]) == [7.0, 12.0]


@each_version
def test_a_coflow_takes_of_each_link_in_proportion_to_its_bytes(rates):
    # The coflow moves 4 bytes on link 0 for each byte on link 1 (weights 1 and 1/4). Link 0: y + y
    # = 10, y = 5. Link 1 then carries 5/4 of the coflow and leaves 10 - 1.25 = 8.75 to the plain
    # flow on it.
    coflow = [(0, 1.0), (1, 0.25)]
    assert rates([10.0, 10.0], [coflow, [(0, 1.0)], [(1, 1.0)]], [INF] * 3) == [5.0, 5.0, 8.75]


@each_version
def test_a_weight_above_one_fills_a_link_sooner(rates):
    # 3 y + y = 8: y = 2.
    assert rates([8.0], [[(0, 3.0)], [(0, 1.0)]], [INF, INF]) == [2.0, 2.0]


@each_version
def test_a_link_met_twice_counts_twice(rates):
    assert rates([9.0], plain([0, 0], [0]), [INF, INF]) == [3.0, 3.0]


@each_version
def test_a_link_of_weight_zero_is_not_used(rates):
    assert rates([0.0, 6.0], [[(0, 0.0), (1, 1.0)]], [INF]) == [6.0]


@each_version
def test_a_link_without_capacity_stops_its_flows_and_no_others(rates):
    assert rates([0.0, 6.0], plain([0, 1], [1]), [INF, INF]) == [0.0, 6.0]


@each_version
def test_an_infinite_link_bounds_nothing(rates):
    assert rates([INF, 6.0], plain([0, 1], [1]), [INF, INF]) == [3.0, 3.0]


@each_version
def test_no_flows_have_no_rates(rates):
    assert rates([1.0], [], []) == []


@each_version
@pytest.mark.parametrize("flow", [[], [(0, 0.0)], [(1, 1.0)]])
def test_a_flow_that_nothing_bounds_is_an_error(rates, flow):
    with pytest.raises(EngineError, match=r"rate is unbounded\. Give it a cap"):
        rates([1.0, INF], [flow], [INF])


@each_version
def test_equal_flows_get_the_same_bits_wherever_they_are(rates):
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit, so the two links fill one bit
    # apart.
    assert 1 / (0.1 + 0.2 + 0.3) != 1 / (0.3 + 0.2 + 0.1)
    flows = [[(0, 0.1)], [(0, 0.2)], [(0, 0.3)], [(1, 0.3)], [(1, 0.2)], [(1, 0.1)]]
    result = rates([1.0, 1.0], flows, [INF] * 6)
    assert len(set(result)) == 1
    assert result == pytest.approx([1 / 0.6] * 6)


# Laws


@st.composite
def instances(draw):
    links = draw(st.integers(1, 6))
    speed = st.one_of(st.just(0.0), st.floats(0.5, 1e3))
    capacity = draw(st.lists(speed, min_size=links, max_size=links))
    entry = st.tuples(st.integers(0, links - 1), st.sampled_from([1.0, 1.0, 0.5, 0.3, 1 / 7, 2.0]))
    flows = draw(
        st.lists(
            st.lists(entry, min_size=1, max_size=4, unique_by=lambda e: e[0]),
            min_size=1,
            max_size=8,
        )
    )
    cap = st.one_of(st.just(INF), st.floats(0.01, 1e3))
    return capacity, flows, draw(st.lists(cap, min_size=len(flows), max_size=len(flows)))


def loads(capacity, flows, rates):
    return [
        sum(
            w * rate
            for flow, rate in zip(flows, rates, strict=True)
            for link, w in flow
            if link == this
        )
        for this in range(len(capacity))
    ]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(instances())
def test_no_link_is_over_its_capacity_and_every_flow_has_its_reason(instance):
    # The reason, which defines max-min fairness: the flow is at its cap, or on a full link where
    # none is faster.
    capacity, flows, caps = instance
    rates = max_min_few(*instance)
    load = loads(capacity, flows, rates)
    assert all(used <= limit * (1 + 1e-9) for used, limit in zip(load, capacity, strict=True))
    for flow, rate, cap in zip(flows, rates, caps, strict=True):
        assert rate <= cap
        fastest = {
            link: max(r for other, r in zip(flows, rates, strict=True) if link in dict(other))
            for link, _ in flow
        }
        bottleneck = any(
            load[link] >= capacity[link] * (1 - 1e-9) and fastest[link] <= rate * (1 + 1e-9)
            for link, _ in flow
        )
        assert bottleneck or rate >= cap * (1 - 1e-9)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=True)
@given(instances())
def test_both_versions_return_the_same_bits(instance):
    assert max_min_few(*instance) == many(*instance)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(instances(), st.sampled_from([0.5, 2.0, 1024.0]))
@pytest.mark.slow
def test_links_and_caps_k_times_as_fast_make_rates_k_times_as_high(instance, k):
    # k is a power of two, so that nothing is rounded.
    capacity, flows, caps = instance
    scaled = max_min_few([k * c for c in capacity], flows, [k * c for c in caps])
    assert scaled == [k * rate for rate in max_min_few(*instance)]


@pytest.mark.slow
@settings(max_examples=100, deadline=None, derandomize=True)
@given(instances(), st.randoms(use_true_random=False))
def test_the_order_of_flows_does_not_matter(instance, shuffler):
    capacity, flows, caps = instance
    order = list(range(len(flows)))
    shuffler.shuffle(order)
    shuffled = max_min_few(capacity, [flows[f] for f in order], [caps[f] for f in order])
    rates = max_min_few(*instance)
    assert shuffled == pytest.approx([rates[f] for f in order], rel=1e-9)


# Oracle


def by_linear_programs(capacity, flows, caps):
    """Return max-min rates: raise the lowest rate as far as it goes, fix the flows that cannot go further, repeat."""
    count, fixed = len(flows), {}
    use = np.zeros((len(capacity), count))
    for f, flow in enumerate(flows):
        for link, weight in flow:
            use[link, f] += weight
    while len(fixed) < count:
        rising = [f for f in range(count) if f not in fixed]
        level = solve(use, capacity, caps, fixed, rising, floor=None, goal=None)
        tops = {f: solve(use, capacity, caps, fixed, rising, floor=level, goal=f) for f in rising}
        fixed.update({f: level for f, top in tops.items() if top <= level + 1e-6})
    return [fixed[f] for f in range(count)]


def solve(use, capacity, caps, fixed, rising, floor, goal):
    """Maximise rate `goal` with every rising rate >= floor; without a goal, the floor itself (the last variable)."""
    count = use.shape[1]
    rows = np.hstack([use, np.zeros((len(capacity), 1))])
    above = np.zeros((len(rising), count + 1))
    for row, f in enumerate(rising):
        above[row, f], above[row, count] = -1, 1
    bounds = [(fixed.get(f, 0), fixed.get(f, caps[f])) for f in range(count)] + [
        (floor or 0, floor)
    ]
    aim = np.zeros(count + 1)
    aim[count if goal is None else goal] = -1
    # A hair of room, so that rounding of fixed rates does not make the next program infeasible.
    limits = np.concatenate([np.array(capacity) + 1e-9, np.zeros(len(rising))])
    result = linprog(aim, A_ub=np.vstack([rows, above]), b_ub=limits, bounds=bounds, method="highs")
    assert result.success, result.message
    return -result.fun


@pytest.mark.parametrize("seed", range(40))
def test_rates_agree_with_successive_linear_programs(seed):
    rng = random.Random(seed)
    links, count = rng.randint(1, 5), rng.randint(1, 6)
    capacity = [rng.uniform(1, 10) for _ in range(links)]
    flows = [
        [
            (link, rng.choice([1.0, 1.0, 0.25, 2.0]))
            for link in rng.sample(range(links), rng.randint(1, links))
        ]
        for _ in range(count)
    ]
    caps = [rng.choice([100.0, rng.uniform(0.1, 3)]) for _ in range(count)]
    assert max_min_few(capacity, flows, caps) == pytest.approx(
        by_linear_programs(capacity, flows, caps), abs=1e-4
    )


def by_dual_values(capacity, flows, caps):
    """Return max-min rates by one program a level: flows whose bound on the lowest rate has a price cannot go further.

    Unlike `by_linear_programs` it needs no program a flow, so that thousands of instances take
    seconds.
    """
    count, fixed = len(flows), {}
    use = np.zeros((len(capacity), count + 1))
    for f, flow in enumerate(flows):
        for link, weight in flow:
            use[link, f] += weight
    while len(fixed) < count:
        rising = [f for f in range(count) if f not in fixed]
        above = np.zeros((len(rising), count + 1))
        above[:, count] = 1
        above[range(len(rising)), rising] = -1
        bounds = [(fixed.get(f, 0), fixed.get(f, caps[f])) for f in range(count)] + [(0, None)]
        limits = np.concatenate([np.array(capacity) + 1e-9, np.zeros(len(rising))])
        aim = np.append(np.zeros(count), -1)
        result = linprog(
            aim, A_ub=np.vstack([use, above]), b_ub=limits, bounds=bounds, method="highs"
        )
        assert result.success, result.message
        prices = -result.ineqlin.marginals[len(capacity) :]  # they sum to 1
        fixed.update(
            {f: -result.fun for f, price in zip(rising, prices, strict=True) if price > 1e-9}
        )
    return [fixed[f] for f in range(count)]


@pytest.mark.slow
@settings(max_examples=2000)
@given(instances())
def test_rates_of_thousands_of_instances_agree_with_linear_programs(instance):
    assert many(*instance) == pytest.approx(by_dual_values(*instance), rel=1e-5, abs=1e-5)


# Bundles


@pytest.mark.slow
@settings(max_examples=300)
@given(instances(), st.data())
def test_a_bundle_of_k_equal_flows_is_one_with_k_times_the_weight(instance, data):
    capacity, flows, caps = instance
    copies = data.draw(st.lists(st.integers(0, len(flows) - 1), max_size=12))
    flows, caps = (
        [*flows, *(flows[f][::-1] for f in copies)],
        np.array([*caps, *(caps[f] for f in copies)]),
    )
    ptr = np.cumsum([0, *map(len, flows)])
    link = np.array([link for flow in flows for link, _ in flow])
    weight = np.array([w for flow in flows for _, w in flow])
    first, which = bundle(ptr, link, weight, caps)
    assert len(first) <= len(instance[1])
    assert which[first].tolist() == list(range(len(first)))
    few, entries = pick(ptr, first)
    count = np.repeat(np.bincount(which), np.diff(few))
    rates = max_min(np.array(capacity), few, link[entries], weight[entries] * count, caps[first])
    assert rates[which].tolist() == pytest.approx(many(capacity, flows, caps), rel=1e-9)


def test_flows_that_differ_in_anything_are_not_bundled():
    ptr, link = np.arange(0, 15, 2), np.array([0, 1, 1, 0, 0, 2, 0, 1, 0, 1, 0, 1, 0, 0])
    weight = np.array([1, 2, 2, 1, 1, 2, 2, 1, 1, 2, 1, 2, 1, 2], dtype=float)
    first, which = bundle(ptr, link, weight, np.array([5.0, 5, 5, 5, 6, 5, 5]))
    # The second is the first with its links the other way round; the third has another link, the
    # fourth other weights, the fifth another cap; the sixth is the first again; the last crosses
    # one link twice.
    assert which.tolist() == [0, 0, 1, 2, 3, 0, 4]
    assert first.tolist() == [0, 2, 3, 4, 6]


# Cost


def test_three_flows_over_four_links_take_less_than_a_hundred_microseconds():
    # The aim is 30 us, and about 9 us is usual; the margin is for busy machines. Capacity as long
    # as a cluster's.
    capacity, flows, caps = (
        [50e9] * 8320,
        plain([0, 1, 2, 3], [0, 4, 2, 5], [6, 1, 7, 3]),
        [INF] * 3,
    )
    walls = timeit.repeat(lambda: max_min_few(capacity, flows, caps), number=200, repeat=5)
    assert min(walls) / 200 < 100e-6

"""Flows over time: literals with their derivation, the two executors against each other, and conservation."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import EngineError
from simulator.fairshare import max_min
from simulator.flows import EXECUTORS, compile_classes, compile_rates, drain

INF = math.inf
each_executor = pytest.mark.parametrize("executor", EXECUTORS)


def ends(capacity, routes, size, executor="numpy", weights=None, **own):
    """Return the ends of flows over routes [flow][link]."""
    ptr = np.cumsum([0, *map(len, routes)])
    if weights is not None:
        own["weight"] = [w for flow in weights for w in flow]
    return drain(
        capacity, ptr, [link for route in routes for link in route], size, executor=executor, **own
    ).tolist()


# Literals


@each_executor
def test_a_third_flow_slows_two_that_share_a_nic(executor):
    # 50 GB/s NIC. Two 25 GB flows at 25 GB/s each. At t=0.5 s each has 12.5 GB left; a third of
    # 12.5 GB joins: three at 50/3 GB/s, all end together 12.5 / (50/3) = 0.75 s later.
    found = ends([50e9], [[0], [0], [0]], [25e9, 25e9, 12.5e9], executor, start=[0, 0, 0.5])
    assert found == [1.25, 1.25, 1.25]


@each_executor
def test_what_an_ended_flow_leaves_speeds_up_the_other(executor):
    # 10 B/s for two: 5 each. The first ends its 5 B at 1; the other has 10 of 15 B left and 10 B/s:
    # one more second.
    assert ends([10.0], [[0], [0]], [5.0, 15.0], executor) == [1.0, 2.0]


@each_executor
def test_an_end_is_felt_two_links_away_and_slows_a_flow(executor):
    # Links of 4 and 10 B/s: A and B share the first, B and C the second. A, B at 2, C at 8 until A
    # has moved its 2 B at t=1. Then B takes 4 and C falls to 6: B has 8 of 10 B left, 2 s; C has 16
    # of 24 left, of which it has moved 12 when B ends at t=3; the last 4 go at 10 B/s.
    assert ends([4.0, 10.0], [[0], [0, 1], [1]], [2.0, 10.0, 24.0], executor) == [1.0, 3.0, 3.4]


@each_executor
def test_a_link_that_was_not_full_fills_when_another_is_relieved(executor):
    # Links of 2 and 3 B/s: A and B share the first, B and C the second, C no faster than 1.5. A, B
    # at 1, C at 1.5: the second carries 2.5. A ends at 1; B could take 2, but the second link has 3
    # for both: 1.5 each. B has 3 of 4 B left and C 3 of 4.5: both end 2 s later.
    found = ends([2.0, 3.0], [[0], [0, 1], [1]], [1.0, 4.0, 4.5], executor, cap=[INF, INF, 1.5])
    assert found == [1.0, 3.0, 3.0]


@each_executor
def test_a_coflow_drains_beside_plain_flows(executor):
    # Rates as in test_fairshare: the coflow and the flow on link 0 at 5, the flow on link 1 at 8.75
    # until t=1; then it alone fills link 1 with 10 B/s, 20 - 8.75 = 11.25 B left.
    found = ends(
        [10.0, 10.0], [[0, 1], [0], [1]], [5.0, 5.0, 20.0], executor, weights=[[1, 0.25], [1], [1]]
    )
    assert found == [1.0, 1.0, 2.125]


@each_executor
def test_flows_come_and_go_while_a_link_is_idle_between(executor):
    assert ends([2.0], [[0], [0]], [4.0, 6.0], executor, start=[1.0, 10.0]) == [3.0, 13.0]


@each_executor
def test_a_flow_without_bytes_ends_when_it_starts_whatever_its_way(executor):
    found = ends(
        [0.0, INF, 1.0], [[0], [1], [], [2]], [0.0, 0.0, 0.0, 1.0], executor, start=[0, 1.5, 2.0, 0]
    )
    assert found == [0.0, 1.5, 2.0, 1.0]


@each_executor
def test_no_flows_have_no_ends(executor):
    assert ends([1.0], [], [], executor) == []


@each_executor
def test_a_cap_alone_moves_a_flow(executor):
    assert ends([INF], [[], [0]], [6.0, 6.0], executor, cap=[2.0, 3.0]) == [3.0, 2.0]


@each_executor
def test_ties_end_together_in_every_bit(executor):
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit, and so would the ends of flows on
    # the two links.
    weights = [[0.1], [0.2], [0.3], [0.3], [0.2], [0.1]]
    found = ends([1.0, 1.0], [[0]] * 3 + [[1]] * 3, [1.0] * 6, executor, weights=weights)
    assert len(set(found)) == 1


# Errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"capacity": [0.0, 1.0]},
            r"Flow 0 would never end: a link on its way, or its cap, is 0 B/s",
        ),
        ({"cap": [1.0, 0.0]}, r"Flow 1 would never end"),
        (
            {"capacity": [1.0, INF]},
            r"Flow 1 crosses no link of finite capacity and has no cap.*Give it a cap",
        ),
        ({"weight": [1.0, 0.0]}, r"Flow 1 crosses no link of finite capacity"),
        ({"flow_link": [0, 2]}, r"Links go from 0 to 1"),
        ({"flow_link": [0, -1]}, r"Links go from 0 to 1"),
        ({"flow_ptr": [0, 1]}, r"flow_ptr has 2 values for 2 flows over 2 links\. Give 3"),
        ({"flow_ptr": [0, 3, 2]}, r"flow_ptr must rise from 0 to .* 2"),
        ({"start": [0.0]}, r"start has 1 values"),
        ({"weight": [1.0]}, r"weight has 1 values"),
        ({"size": [-1.0, 1.0]}, r"size -1\.0 is not in range"),
        ({"size": [math.nan, 1.0]}, r"size nan is not in range"),
        ({"start": [0.0, INF]}, r"start inf is not in range"),
        ({"executor": "abacus"}, r"'abacus' is not an executor.*numpy, numba"),
    ],
)
def test_what_cannot_be_drained_is_an_error(change, message):
    good = {"capacity": [1.0, 1.0], "flow_ptr": [0, 1, 2], "flow_link": [0, 1], "size": [1.0, 1.0]}
    assert drain(**good).tolist() == [1.0, 1.0]
    with pytest.raises(EngineError, match=message):
        drain(**(good | change))


@pytest.mark.slow
def test_many_flows_do_without_numba_once_their_code_is_on_disk():
    compile_classes()
    compile_rates()
    code = (
        "import sys, simulator.flows as flows; flows.drain([1.0], [0, 1], [0], [1.0]);"
        "flows.drain([1.0], range(1001), [0] * 1000, [1.0] * 1000);"
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Laws

numbers = st.one_of(st.sampled_from([1.0, 2.0, 3.0]), st.floats(0.1, 10.0))


@st.composite
def instances(draw):
    """Draw up to 12 flows over up to 6 links: duplicates, ties, late starts, caps, weights, flows without bytes."""
    links = draw(st.integers(1, 6))
    capacity = draw(st.lists(numbers, min_size=links, max_size=links))
    weighted = draw(st.booleans())
    entry = st.tuples(
        st.integers(0, links - 1),
        st.sampled_from([1.0, 0.5, 0.3, 1 / 7, 2.0, 0.0]) if weighted else st.just(1.0),
    )
    flow = st.tuples(
        st.lists(entry, min_size=1, max_size=4).filter(lambda route: any(w for _, w in route)),
        st.one_of(st.sampled_from([0.0, 1.0, 1.0, 2.0]), numbers),
        st.one_of(st.sampled_from([0.0, 0.0, 0.0, 0.5]), st.floats(0, 4)),
        st.one_of(st.just(INF), st.just(INF), numbers),
    )
    flows = draw(st.lists(flow, min_size=1, max_size=8))
    flows += draw(st.lists(st.sampled_from(flows), max_size=4))
    routes, size, start, cap = zip(*flows, strict=True)
    entries = [pair for route in routes for pair in route]
    weight = [w for _, w in entries] if weighted else None
    ptr = np.cumsum([0, *map(len, routes)])
    return (capacity, ptr, [link for link, _ in entries], size), {
        "weight": weight,
        "start": start,
        "cap": cap,
    }


@pytest.mark.slow
@settings(max_examples=3000)
@given(instances())
def test_both_executors_agree(instance):
    flows, own = instance
    found, oracle = drain(*flows, **own, executor="numba"), drain(*flows, **own, executor="numpy")
    assert found.tolist() == pytest.approx(oracle.tolist(), rel=1e-9)


@pytest.mark.slow
@each_executor
@settings(max_examples=300)
@given(instance=instances())
def test_bytes_are_conserved_and_links_keep_their_capacity(executor, instance):
    # Between two events the rates are max-min fair over the flows that are under way; `max_min`
    # knows no time and its own tests show that no link is over capacity. What flows move at these
    # rates is their size.
    (capacity, ptr, link, size), own = instance
    capacity, link, size, start = map(np.asarray, (capacity, link, size, own["start"]))
    weight = np.ones(len(link)) if own["weight"] is None else np.asarray(own["weight"])
    end = drain(capacity, ptr, link, size, **own, executor=executor)
    moved = np.zeros(len(size))
    times = np.unique(np.concatenate([start, end]))
    for begin, until in itertools.pairwise(times):
        under_way = (start <= begin) & (end >= until) & (size > 0)
        owner = np.repeat(under_way, np.diff(ptr))
        some = np.cumsum([0, *np.diff(ptr)[under_way]])
        rates = np.zeros(len(size))
        rates[under_way] = max_min(
            capacity, some, link[owner], weight[owner], np.array(own["cap"])[under_way]
        )
        load = np.bincount(link, weight * np.repeat(rates, np.diff(ptr)), len(capacity))
        assert (load <= capacity * (1 + 1e-9)).all()
        moved += rates * (until - begin)
    assert moved == pytest.approx(size, rel=1e-8, abs=1e-8)


@pytest.mark.slow
@each_executor
@settings(max_examples=200)
@given(instance=instances(), k=st.sampled_from([0.25, 2.0, 1024.0]))
def test_links_caps_and_starts_k_times_as_fast_divide_all_ends_by_k(executor, instance, k):
    # k is a power of two, so that nothing is rounded.
    (capacity, ptr, link, size), own = instance
    faster = {
        "weight": own["weight"],
        "cap": k * np.array(own["cap"]),
        "start": np.array(own["start"]) / k,
    }
    scaled = drain(k * np.array(capacity), ptr, link, size, **faster, executor=executor)
    assert scaled.tolist() == (drain(*instance[0], **own, executor=executor) / k).tolist()


@pytest.mark.slow
@settings(max_examples=200)
@given(instances())
def test_copies_of_a_cluster_side_by_side_end_alike(instance):
    # Three copies on links of their own: one of each class stands for all, and the ends are the
    # same bits.
    (capacity, ptr, link, size), own = instance
    count, entries = len(capacity), len(link)
    copies = [np.asarray(link) + count * copy for copy in range(3)]
    wide = {name: None if values is None else np.tile(values, 3) for name, values in own.items()}
    starts = np.concatenate([[0], *(np.asarray(ptr[1:]) + entries * copy for copy in range(3))])
    found = drain(
        np.tile(capacity, 3),
        starts,
        np.concatenate(copies),
        np.tile(size, 3),
        **wide,
        executor="numba",
    )
    assert len(set(map(bytes, found.reshape(3, -1)))) == 1
    assert found[: len(size)] == pytest.approx(drain(*instance[0], **own), rel=1e-9)


# Fabrics


def leaf_spine(nodes=4, gpus=4, *, nodes_per_leaf=2, spines=2, oversubscription=1.0, seed=0):
    """Return links and routes of an all-to-all: GPU, NVSwitch, NIC, leaf, a hashed spine, and down again."""
    ranks, leaves = nodes * gpus, nodes // nodes_per_leaf
    width = nodes_per_leaf * gpus * 50.0 / spines / oversubscription
    capacity = [200.0] * (2 * ranks) + [50.0] * (2 * ranks) + [width] * (2 * leaves * spines)
    source, target = (
        side.ravel() for side in np.meshgrid(np.arange(ranks), np.arange(ranks), indexing="ij")
    )
    far = source // gpus != target // gpus
    here, there = source // gpus // nodes_per_leaf, target // gpus // nodes_per_leaf
    spine = np.random.default_rng(seed).integers(0, spines, len(source))
    up = 4 * ranks + here * spines + spine
    down = 4 * ranks + leaves * spines + there * spines + spine
    hops = [source, 2 * ranks + source, up, down, 3 * ranks + target, ranks + target]
    used = np.column_stack([~far | far, far, here != there, here != there, far, ~far | far])[
        source != target
    ]
    return capacity, np.cumsum([0, *used.sum(1)]), np.column_stack(hops)[source != target][used]


@pytest.mark.parametrize("oversubscription", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.slow
def test_both_executors_agree_on_an_all_to_all_of_unequal_sizes(oversubscription, seed):
    rng = np.random.default_rng(seed)
    capacity, ptr, link = leaf_spine(oversubscription=oversubscription, seed=seed)
    size, start = rng.uniform(1, 100, len(ptr) - 1), rng.choice([0.0, 0.0, 1.0, 5.0], len(ptr) - 1)
    found = drain(capacity, ptr, link, size, start=start, executor="numba")
    assert len(set(found)) == len(found)
    assert found == pytest.approx(
        drain(capacity, ptr, link, size, start=start, executor="numpy"), rel=1e-9
    )


@pytest.mark.parametrize("oversubscription", [1.0, 4.0])
def test_both_executors_agree_on_an_all_to_all_of_equal_sizes(oversubscription):
    capacity, ptr, link = leaf_spine(oversubscription=oversubscription)
    size = np.full(len(ptr) - 1, 10.0)
    found = drain(capacity, ptr, link, size, executor="numba")
    assert found == pytest.approx(drain(capacity, ptr, link, size, executor="numpy"), rel=1e-9)


def test_a_ring_with_one_odd_flow_is_no_ring_of_equals():
    # 64 GPUs pass to the next, over their own NIC up and the other's down; one flow is half as long
    # and more flows share its links. Colours part for many rounds: too many to wait for, and the
    # ends are the oracle's all the same.
    ranks = 64
    nxt = (np.arange(ranks) + 1) % ranks
    routes = np.column_stack([np.arange(ranks), ranks + nxt, nxt]).ravel()
    size = np.full(ranks, 3.0)
    size[7] = 1.0
    ptr = np.arange(ranks + 1) * 3
    found = drain(np.full(2 * ranks, 2.0), ptr, routes, size, executor="numba")
    assert found == pytest.approx(
        drain(np.full(2 * ranks, 2.0), ptr, routes, size, executor="numpy"), rel=1e-9
    )

"""The executor's rules as literal timelines; every number is derived in the comment above it."""

import numpy as np
import pytest
from builders import configuration_name, configurations, flow, kernel, program, scenario, transfer
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import engine
from simulator.engine import EXECUTORS, compiled
from simulator.errors import EngineError
from simulator.program import lower
from simulator.schedules import SCHEDULES

GB = 1e9


@pytest.fixture(params=EXECUTORS, scope="module")
def run(request):
    """Return `run` with each executor in turn: what these tests say holds for all."""
    return lambda one: engine.run(one, request.param)


@pytest.fixture(scope="module")
def spans(run):
    def spans(*given_rows, **keys):
        """Return (start, end) of every row of a program by hand, rounded to the picosecond."""
        timeline = run(program(*given_rows, **keys))
        ends = zip(timeline.start.tolist(), timeline.end.tolist(), strict=True)
        return [(round(start, 12), round(end, 12)) for start, end in ends]

    return spans


@pytest.fixture(scope="module")
def arrivals(run):
    return lambda *given_rows, **keys: run(program(*given_rows, **keys)).arrive.tolist()


# Streams and SMs


def test_a_stream_runs_its_rows_in_order(spans):
    # The second row waits for nothing but the first, which takes 1 s.
    assert spans([kernel(0, 1.0), kernel(0, 2.0)]) == [(0, 1), (1, 3)]


def test_ranks_do_not_wait_for_each_other_unless_told(spans):
    assert spans([kernel(0, 1.0), kernel(1, 2.0), kernel(1, 1.0, 0)]) == [(0, 1), (0, 2), (2, 3)]


def test_a_row_starts_when_the_last_of_all_rows_that_it_waits_for_ends(spans):
    # Rows 0 and 1 end at 1 and 2 s on other ranks; row 2's own stream is free from the start.
    assert spans([kernel(0, 1.0), kernel(1, 2.0), kernel(2, 1.0, 0, 1)]) == [(0, 1), (0, 2), (2, 3)]


def test_compute_and_side_stream_share_the_sms_first_come_first_served(spans, arrivals):
    # Both streams are ready at 0. The first kernel of 3 s has the SMs; the side kernel has waited
    # since 0 when it ends, the next compute kernel is ready only then: side first, from 3 to 4,
    # then compute.
    rows = [kernel(0, 3.0), kernel(0, 1.0, stream="side"), kernel(0, 1.0)]
    assert spans(rows) == [(0, 3), (3, 4), (4, 5)]
    assert arrivals(rows) == [0, 0, 3]


def test_kernels_are_not_preempted_and_those_that_wait_keep_their_order(spans):
    # The side stream's first kernel of 1 s alternates with compute: each finds the other one
    # waiting when it ends.
    rows = [
        kernel(0, 2.0),
        kernel(0, 2.0),
        kernel(0, 1.0, stream="side"),
        kernel(0, 1.0, stream="side"),
    ]
    assert spans(rows) == [(0, 2), (3, 5), (2, 3), (5, 6)]


def test_the_side_stream_starts_at_once_while_compute_waits_for_communication(spans):
    # 50 GB at 50 GB/s take 1 s, during which the SMs are free for a side kernel of 1.5 s; compute
    # waits for both.
    rows = [transfer(0, 0), kernel(0, 1.0, 0), kernel(0, 1.5, stream="side")]
    assert spans(rows, (flow(50 * GB, 0),)) == [(0, 1), (1.5, 2.5), (0, 1.5)]


# Coflows


def test_one_transfer_alone_moves_at_line_rate(spans):
    assert spans([transfer(0, 0)], (flow(25 * GB, 0),)) == [(0, 0.5)]


def test_a_third_flow_slows_two_that_share_a_nic(spans):
    # 50 GB/s NIC. Two 25 GB flows at 25 GB/s each. At t=0.5 s each has 12.5 GB left; a third of
    # 12.5 GB joins: three at 50/3 GB/s, all end together 12.5 / (50/3) = 0.75 s later.
    rows = [transfer(0, 0), transfer(1, 1), kernel(2, 0.5), transfer(2, 2, 2)]
    flows = (flow(25 * GB, 0), flow(25 * GB, 1), flow(12.5 * GB, 2))
    assert spans(rows, flows) == [(0, 1.25), (0, 1.25), (0, 0.5), (0.5, 1.25)]


def test_a_flow_that_ends_gives_its_share_to_the_other(spans):
    # 10 and 30 GB at 25 GB/s each: the short one ends at 0.4 s; the long one has 20 GB left, alone
    # at 50 GB/s.
    assert spans([transfer(0, 0), transfer(1, 1)], (flow(10 * GB, 0), flow(30 * GB, 1))) == [
        (0, 0.4),
        (0, 0.8),
    ]


def test_a_flow_bound_elsewhere_leaves_its_share_to_the_others(spans):
    # Flow 0 crosses link 1 of 10 GB/s too. On link 0 of 50 GB/s it leaves 40: 40 GB in 1 s. Then
    # nothing changes for flow 0: 20 GB at 10 GB/s take 2 s.
    flows = (flow(20 * GB, 0, links=((0, 1.0), (1, 1.0)), rate=10 * GB), flow(40 * GB, 1))
    assert spans([transfer(0, 0), transfer(1, 1)], flows, capacity=(50 * GB, 10 * GB)) == [
        (0, 2),
        (0, 1),
    ]


def test_flows_that_meet_only_through_a_third_still_slow_each_other(spans):
    # A on link 0, B on links 0 and 1, C on link 1, 50 GB/s each: 25 GB/s for all; 25 GB take 1 s.
    flows = (
        flow(25 * GB, 0),
        flow(25 * GB, 1, links=((0, 1.0), (1, 1.0))),
        flow(25 * GB, 2, links=((1, 1.0),)),
    )
    rows = [transfer(0, 0), transfer(1, 1), transfer(2, 2)]
    assert spans(rows, flows, capacity=(50 * GB, 50 * GB)) == [(0, 1), (0, 1), (0, 1)]


def test_a_weight_is_the_share_of_the_slowest_links_bytes_that_a_link_carries(spans):
    # The coflow puts half as much on link 1 of 10 GB/s: its rate y obeys 0.5 y <= 10, so y = 20
    # GB/s; 20 GB take 1 s.
    flows = (flow(20 * GB, 0, links=((0, 1.0), (1, 0.5))),)
    assert spans([transfer(0, 0)], flows, capacity=(50 * GB, 10 * GB)) == [(0, 1)]


def test_a_coflow_starts_when_its_last_member_arrives(spans, arrivals):
    # Rank 1 is ready at 3 s; 25 GB take 0.5 s for both. Rank 0 was ready at 1 s.
    rows = [kernel(0, 1.0), kernel(1, 3.0), transfer(0, 0, 0), transfer(1, 0, 1)]
    assert spans(rows, (flow(25 * GB, 0, 1),))[2:] == [(3, 3.5), (3, 3.5)]
    assert arrivals(rows, (flow(25 * GB, 0, 1),))[2:] == [1, 3]


def test_two_calls_of_one_coflow_are_told_apart_by_their_instance(spans):
    # Each rank calls twice; the second call starts when both have ended the first: 25 GB, 0.5 s
    # each.
    rows = [
        transfer(0, 0, instance=0),
        transfer(1, 0, instance=0),
        transfer(0, 0, instance=1),
        transfer(1, 0, instance=1),
    ]
    assert spans(rows, (flow(25 * GB, 0, 1),)) == [(0, 0.5), (0, 0.5), (0.5, 1), (0.5, 1)]


def test_latency_comes_before_the_bytes_and_takes_no_bandwidth(spans):
    # A: 50 GB after 0.25 s. B: 50 GB at once. B moves 12.5 GB alone, then 25 GB/s each: B has 37.5
    # GB left and ends 1.5 s later; by then A has 12.5 GB left, alone at 50 GB/s: 0.25 s. Together
    # 100 GB in 2 s: the link never idles.
    flows = (flow(50 * GB, 0, latency=0.25), flow(50 * GB, 1))
    assert spans([transfer(0, 0), transfer(1, 1)], flows) == [(0, 2), (0, 1.75)]


def test_what_crosses_no_link_takes_its_latency(spans):
    assert spans([transfer(0, 0)], (flow(0.0, 0, links=(), latency=1e-3),)) == [(0, 1e-3)]


def test_sends_of_one_rank_run_side_by_side(spans):
    # Rows of the send stream are unordered: two of 25 GB share 50 GB/s, 1 s each.
    rows = [transfer(0, 0, stream="send"), transfer(0, 1, stream="send")]
    assert spans(rows, (flow(25 * GB, 0), flow(25 * GB, 0))) == [(0, 1), (0, 1)]


# Beside compute


def test_a_communication_kernel_is_slower_while_a_member_computes_and_speeds_up_when_it_stops(
    spans,
):
    # Factor 2: 25 GB/s for the first second, in which 25 of 50 GB move; the rest at 50 GB/s: 0.5 s.
    assert spans([kernel(0, 1.0), transfer(0, 0)], (flow(50 * GB, 0, beside=2.0),)) == [
        (0, 1),
        (0, 1.5),
    ]


def test_it_slows_down_the_moment_that_a_member_begins_to_compute(spans):
    # Rank 1 computes from 0.5 to 1 s. 25 GB before, 12.5 GB at half rate, 12.5 GB at 50 GB/s: 0.25
    # s more.
    rows = [kernel(2, 0.5), kernel(1, 0.5, 0), transfer(0, 0), transfer(1, 0)]
    assert spans(rows, (flow(50 * GB, 0, 1, beside=2.0),))[2:] == [(0, 1.25), (0, 1.25)]


def test_what_other_ranks_compute_does_not_slow_it(spans):
    assert spans([kernel(1, 5.0), transfer(0, 0)], (flow(50 * GB, 0, beside=2.0),))[1] == (0, 1)


def test_kernels_back_to_back_are_computing_all_the_time(spans):
    # 2 x 0.5 s and 1 side kernel of 0.5 s keep the SMs busy for 1.5 s: 37.5 GB at half rate, 12.5
    # GB in 0.25 s.
    rows = [kernel(0, 0.5), kernel(0, 0.5), kernel(0, 0.5, stream="side"), transfer(0, 0)]
    assert spans(rows, (flow(50 * GB, 0, beside=2.0),))[3] == (0, 1.75)


def test_what_a_slowed_kernel_leaves_goes_to_others_on_its_link(spans):
    # Flow 0 beside compute: 50 / 2.5 = 20 GB/s at most; flow 1 gets 30: 30 GB in 1 s, then flow 0
    # stays at 20 GB/s.
    rows = [kernel(0, 2.0), transfer(0, 0), transfer(1, 1)]
    flows = (flow(40 * GB, 0, beside=2.5), flow(30 * GB, 1))
    assert spans(rows, flows) == [(0, 2), (0, 2), (0, 1)]


def test_compute_does_not_slow_down_beside_a_transfer(spans):
    # That is in the kernel's own time, which the program gives.
    assert spans([kernel(0, 1.0), transfer(0, 0)], (flow(500 * GB, 0, beside=2.0),))[0] == (0, 1)


# Ends


def test_rows_that_wait_for_each_other_are_named(run):
    rows = [kernel(0, 1.0), kernel(0, 1.0, 2, label="attn(F)"), kernel(1, 1.0, 1, label="mlp(B)")]
    with pytest.raises(EngineError, match=r"2 ops wait for each other, first attn\(F\), mlp\(B\)"):
        run(program(rows))


def test_a_coflow_of_which_one_member_never_arrives_is_named(run):
    rows = [transfer(0, 0, label="dispatch(F)"), kernel(1, 1.0)]
    with pytest.raises(EngineError, match=r"dispatch\(F\)"):
        run(program(rows, (flow(GB, 0, 1),)))


def test_streams_that_call_two_collectives_in_opposite_order_are_a_deadlock(run):
    rows = [transfer(0, 0), transfer(0, 1), transfer(1, 1), transfer(1, 0)]
    with pytest.raises(EngineError, match="4 ops"):
        run(program(rows, (flow(GB, 0, 1), flow(GB, 0, 1))))


def test_the_step_ends_with_the_last_row_not_with_the_clock(run):
    # Flow 0's wake-up at 2 s was replaced by one at 1 s when the kernel beside it ended; the old
    # one stays queued.
    rows = [kernel(0, 0.5), transfer(0, 0)]
    assert run(program(rows, (flow(37.5 * GB, 0, beside=2.0),))).step_time == pytest.approx(
        1.0, rel=1e-12
    )


def test_an_event_is_counted_per_row(run):
    assert (
        run(program([kernel(0, 1.0), transfer(0, 0), kernel(1, 1.0)], (flow(GB, 0),))).events == 3
    )


# Laws


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.slow
def test_two_runs_give_the_same_bytes(run, name):
    first, second = (run(lower(scenario(schedule__name=name, layout__ep=4))) for _ in range(2))
    for column in ("arrive", "start", "end"):
        assert getattr(first, column).tobytes() == getattr(second, column).tobytes()
    assert first.program.wait.tobytes() == second.program.wait.tobytes()
    assert first.events == second.events


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(1, 50), st.integers(0, 10)),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=100, deadline=None)
@pytest.mark.slow
def test_a_link_that_has_work_never_idles(run, flows):
    # Conservation: whatever the shares are, a busy link moves 50 GB/s, so it empties when a queue
    # that serves one transfer after another would: end = max(end, arrival) + size / 50 over the
    # transfers in order of arrival.
    rows, kinds = [], []
    for rank, (delay, size, latency) in enumerate(flows):
        rows += [kernel(rank, delay / 10), transfer(rank, rank, 2 * rank)]
        kinds.append(flow(size * GB, rank, latency=latency / 10))
    empty = 0.0
    for delay, size, latency in sorted(flows, key=lambda one: one[0] + one[2]):
        empty = max(empty, (delay + latency) / 10) + size / 50
    timeline = run(program(rows, tuple(kinds)))
    assert timeline.end[1::2].max() == pytest.approx(empty, rel=1e-9)


@given(st.lists(st.floats(0.1, 2.0), min_size=1, max_size=6), st.floats(1.0, 3.0))
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_a_slowed_transfer_moves_its_bytes_and_no_more(run, kernels, beside):
    # Kernels keep the SMs for their sum T. Of 100 GB, 50 T / beside move meanwhile, the rest at 50
    # GB/s.
    busy = sum(kernels)
    meanwhile = 50 * busy / beside
    due = 100 * beside / 50 if meanwhile >= 100 else busy + (100 - meanwhile) / 50
    rows = [*(kernel(0, seconds) for seconds in kernels), transfer(0, 0)]
    timeline = run(program(rows, (flow(100 * GB, 0, beside=beside),)))
    assert timeline.end[-1] == pytest.approx(due, rel=1e-9)


@pytest.mark.parametrize(
    "changes", [{}, {"layout__ep": 4}, {"schedule__name": "dualpipe"}, {"layout__pp": 4}]
)
@pytest.mark.slow
def test_no_two_kernels_have_the_sms_of_a_rank_at_once_and_no_row_overtakes_what_it_waits_for(
    run, changes
):
    one = lower(scenario(**changes))
    timeline = run(one)
    for rank in range(one.ranks):
        own = (one.rank == rank) & (one.coflow < 0)
        order = np.argsort(timeline.start[own], kind="stable")
        assert (timeline.start[own][order][1:] >= timeline.end[own][order][:-1]).all()
    rows = np.repeat(np.arange(len(one.rank)), np.diff(one.wait_ptr))
    assert (timeline.start[rows] >= timeline.end[one.wait]).all()
    assert (timeline.start >= timeline.arrive).all()
    assert (timeline.end >= timeline.start).all()


# Executors


def assert_alike(one):
    """Assert that all executors give one program the same bits, wherever its rows lie in memory."""
    first, *others = (engine.run(one, executor) for executor in EXECUTORS)
    side_by_side = compiled.run(one, many=1)
    for other in (*others, side_by_side):
        assert other.events == first.events
        for column in ("issue", "due", "arrive", "start", "end", "slowed"):
            assert np.array_equal(getattr(other, column), getattr(first, column)), column


@pytest.mark.slow
@pytest.mark.parametrize("changes", configurations(), ids=configuration_name)
def test_executors_agree_on_every_row(changes):
    assert_alike(lower(scenario(**changes)))


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "custom"])
def test_executors_agree_on_every_schedule(name):
    assert_alike(lower(scenario(schedule__name=name, layout__vpp=SCHEDULES[name].virtual or 2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"layout__tp": 2, "layout__ep": 1},
        {"layout__cp": 2},
        {"layout__zero": 2, "layout__overlap_grad_reduce": False},
        {"layout__zero": 3},
        {"layout__zero": 3, "layout__ep": 4},
        {"training__recompute": ["full"]},
        {"experts": {"distribution": "power_law", "exponent": 0.8}, "layout__ep": 4},
        {"faults": [{"gpu": 3, "speed": 0.7}], "schedule__name": "dualpipe"},
        {"jitter": {"deviation": 0.1}},
    ],
    ids=configuration_name,
)
@pytest.mark.slow
def test_executors_agree_unfolded(changes):
    assert_alike(lower(scenario(**changes), folded=False))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["compute", "side", "communication", "send"]),
            st.integers(0, 30),
            st.integers(0, 3),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=200, deadline=None)
@pytest.mark.slow
def test_executors_agree_on_any_program(given_rows):
    # Transfers of one member, on two links of which a kernel may leave some, beside kernels that
    # slow them.
    rows, kinds = [], []
    for number, (rank, stream, size, shape, back) in enumerate(given_rows):
        after = [number - back] if 0 < back <= number else []
        if stream in ("compute", "side"):
            rows.append(kernel(rank, size / 10, *after, stream=stream))
            continue
        rows.append(transfer(rank, len(kinds), *after, stream=stream))
        links = [((0, 1.0),), ((0, 0.5), (1, 1.0)), ((1, 1.0),), ()][shape]
        kinds.append(
            flow(
                size * GB if links else 0.0,
                rank,
                links=links,
                rate=(20 + 10 * shape) * GB,
                beside=1.0 + shape / 2,
                latency=back / 10,
            )
        )
    assert_alike(program(rows, tuple(kinds), capacity=(50 * GB, 30 * GB)))


def test_an_executor_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(
        EngineError,
        match=r"'fast' is not an executor of programs. Choose from: auto, simpy, compiled.",
    ):
        engine.run(program([kernel(0, 1.0)]), "fast")


@pytest.mark.parametrize(
    ("on_disk", "many", "taken"),
    [(False, 3, "simpy"), (False, 2, "compiled"), (True, 3, "compiled")],
)
def test_auto_takes_compiled_code_where_it_is_there_or_pays_at_once(
    monkeypatch, on_disk, many, taken
):
    ran = []
    for name, execute in EXECUTORS.items():
        noted = lambda given, name=name, execute=execute: ran.append(name) or execute(given)  # noqa: E731
        monkeypatch.setitem(EXECUTORS, name, noted)
    monkeypatch.setattr(engine.CODE, "on_disk", lambda: on_disk)
    monkeypatch.setattr("simulator.engine._MANY", many)
    timeline = engine.run(program([kernel(0, 1.0), kernel(0, 1.0)]))
    # What a report says must not hang on what is on disk.
    assert (ran, timeline.executor) == ([taken], "auto")


def test_an_executor_that_is_named_says_so():
    one = program([kernel(0, 1.0)])
    for name in EXECUTORS:
        assert engine.run(one, name).executor == name

"""Hosts launch what GPUs run: literal timelines of launches, and laws over schedules."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from builders import (
    configuration_name,
    configurations,
    flow,
    hosted,
    kernel,
    lag,
    program,
    scenario,
    transfer,
)

from simulator import engine
from simulator.costs import Busy, Launches
from simulator.costs.columns import timing
from simulator.costs.hosts import AT_ONCE, Hosts
from simulator.engine import EXECUTORS
from simulator.ops import Op, Phase
from simulator.program import lower
from simulator.program.step_columns import lags
from simulator.report import summarise
from simulator.scenario import load
from simulator.schedules import SCHEDULES
from simulator.trace.hosts import host_events
from simulator.whatif import host_interval, simulate

GB = 1e9


@pytest.fixture(params=EXECUTORS, scope="module")
def run(request):
    return lambda one: engine.run(one, request.param)


def launched(row, host, *kernels, drains=False):
    """Return a row whose kernels are launched one by one, `host` seconds apiece."""
    seconds = kernels or (row["seconds"],)
    launches = Launches((host,) * len(seconds), seconds)
    return row | {
        "host": launches.total,
        "lead": launches.first,
        "lag": lag(launches, 1.0),
        "drains": drains,
    }


def spans(timeline):
    pairs = zip(timeline.start.tolist(), timeline.end.tolist(), strict=True)
    return [(round(start, 12), round(end, 12)) for start, end in pairs]


# Timelines


def test_a_gpu_waits_for_a_host_that_takes_longer_than_its_kernels(run):
    # The first kernel begins at 0, launched 2 s after the host began at -2. The next launches are
    # at 2 and 4 s; kernels of 1 s have ended by then.
    rows = [launched(kernel(0, 1.0), 2.0) for _ in range(3)]
    assert spans(run(program(rows))) == [(0, 1), (2, 3), (4, 5)]


def test_a_host_that_is_ahead_is_not_noticed(run):
    # Launches at 0, 1 and 2 s, kernels of 3 s.
    rows = [launched(kernel(0, 3.0), 1.0) for _ in range(3)]
    timeline = run(program(rows))
    assert spans(timeline) == [(0, 3), (3, 6), (6, 9)]
    assert timeline.issue.tolist() == [-1, 0, 1]


def test_a_host_that_has_come_ahead_hides_a_burst_of_short_kernels(run):
    # A kernel of 10 s, then three of 1 s that are launched at 2, 4 and 6 s: all wait for the first.
    rows = [launched(kernel(0, seconds), 2.0) for seconds in (10.0, 1.0, 1.0, 1.0)]
    assert spans(run(program(rows))) == [(0, 10), (10, 11), (11, 12), (12, 13)]


def test_a_row_of_several_kernels_ends_with_the_last_launch_and_what_is_behind_it(run):
    # Kernels of 1, 1 and 4 s, launched at 0, 3 and 6 s: the last ends at 10 s, and not after 6 s.
    row = launched(kernel(0, 6.0), 3.0, 1.0, 1.0, 4.0)
    assert row["lag"] == 3 + 6 + 4
    assert spans(run(program([row]))) == [(0, 10)]


def test_a_slow_rank_hides_more_of_its_host():
    # At half the speed the kernels take 2, 2 and 8 s, and launches at 3, 6 and 9 s: 9 + 8.
    launches = Launches((3.0, 3.0, 3.0), (1.0, 1.0, 4.0))
    columns = timing([Busy(6.0, launches)])
    assert lags(columns, np.array([0]), np.array([0.5])).tolist() == [17.0]


def test_a_transfer_is_launched_too(run):
    # The kernel of 1 s ends at 1, the host launches the transfer at 3: 50 GB at 50 GB/s.
    rows = [launched(kernel(0, 1.0), 3.0), launched(transfer(0, 0, 0), 3.0, 0.0)]
    assert spans(run(program(rows, (flow(50 * GB, 0),)))) == [(0, 1), (3, 4)]


def test_a_drained_host_launches_only_when_what_it_waits_for_has_ended(run):
    # The host would launch row 1 at 1 s, while the kernel runs until 5 s. Drained, it begins at 5 s,
    # launches row 1 at 6 s and row 2 at 7 s.
    rows = [
        launched(kernel(0, 5.0), 1.0),
        launched(kernel(0, 0.5), 1.0, drains=True),
        launched(kernel(0, 0.5), 1.0),
    ]
    assert spans(run(program(rows))) == [(0, 5), (6, 6.5), (7, 7.5)]


def test_a_drain_holds_the_other_streams_of_its_rank_and_no_other_rank(run):
    # The side kernel waits for nothing, but comes behind the row that drains the host at 5 s:
    # launched at 7 s. Rank 1 has a host of its own.
    rows = [
        launched(kernel(0, 5.0), 1.0),
        launched(kernel(0, 3.0), 1.0, drains=True),
        launched(kernel(0, 1.0, stream="side"), 1.0),
        launched(kernel(1, 1.0), 1.0),
    ]
    timeline = run(program(rows))
    assert spans(timeline) == [(0, 5), (6, 9), (9, 10), (0, 1)]
    assert timeline.arrive.tolist() == [0, 6, 7, 0]
    assert timeline.due.tolist() == [0, 5, 0, 0]


def test_a_row_that_becomes_ready_late_was_launched_when_its_turn_came(run):
    # Row 1 is launched at 0 s, and waits for rank 1 until 8 s. Meanwhile the host has been drained
    # at 5 s by row 2, behind it: that delays rows behind row 2, not row 1.
    rows = [
        launched(kernel(0, 5.0), 1.0),
        launched(kernel(0, 1.0, 3, stream="side"), 4.0),
        launched(kernel(0, 1.0, 0), 1.0, drains=True),
        kernel(1, 8.0),
    ]
    timeline = run(program(rows))
    assert timeline.issue.tolist() == [-1, 0, 5, 0]
    assert spans(timeline) == [(0, 5), (8, 9), (6, 7), (0, 8)]


def test_two_drains_follow_each_other(run):
    # The second row that drains waits for rank 1 alone, until 2 s: the host asks for it only after
    # the first one, at 5 s, has been launched at 6 s.
    rows = [
        launched(kernel(0, 5.0), 1.0),
        launched(kernel(0, 1.0), 1.0, drains=True),
        kernel(1, 2.0),
        launched(kernel(0, 1.0, 2, stream="side"), 1.0, drains=True),
    ]
    timeline = run(program(rows))
    assert timeline.arrive.tolist() == [0, 6, 0, 7]


@pytest.mark.slow
def test_a_host_that_takes_no_time_changes_no_bit(run):
    one = lower(scenario())
    nothing = np.zeros(len(one.rank))
    free = replace(one, host=nothing, lead=nothing, lag=nothing, drains=nothing > 0)
    ahead = replace(free, host=free.seconds * 0, lag=free.seconds)
    assert run(free).end.tobytes() == run(ahead).end.tobytes()


# What is launched


def test_a_captured_phase_costs_one_launch():
    hosts = Hosts(
        AT_ONCE.config.model_copy(
            update={"graph": 1e-5, "forward": dict.fromkeys(AT_ONCE.config.forward, 5e-5)}
        ),
        (),
        "attention",
    )
    op = Op("a GEMM", "gemm", flops=1.0)
    attention = [hosts.seconds(op, Phase.ATTENTION_F, first=first) for first in (True, False)]
    mlp = [hosts.seconds(op, Phase.MLP_F, first=first) for first in (True, False)]
    assert attention == [1e-5, 0.0]
    assert mlp == [5e-5, 5e-5]


def test_graphs_of_whole_layers_leave_no_exchange_to_launch():
    hosts = replace(AT_ONCE, graphs="full")
    assert hosts.exchange(counts=True) == Busy(0.0)


def slowed(one, k):
    """Return a scenario whose hosts take k times as long for everything, and wait for nothing."""
    host = one.host
    update = {
        "forward": {name: k * seconds for name, seconds in host.forward.items()},
        "backward": {name: k * seconds for name, seconds in host.backward.items()},
        "communication": k * host.communication,
    }
    waits = one.stack.host.model_copy(update={"drains": ()})
    stack = one.stack.model_copy(update={"host": waits})
    return replace(one, host=host.model_copy(update=update), stack=stack)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "custom"])
def test_a_slower_host_never_makes_a_step_faster(name):
    # Two transfers on one link may change places, so the law holds where none is shared: one expert
    # rank, and parameters that stay where they are.
    one = hosted(
        schedule__name=name,
        layout__vpp=SCHEDULES[name].virtual or 2,
        layout__ep=1,
        layout__zero=0,
        nodes=1,
        node__gpus=2,
        node__nics=2,
    )
    steps = []
    for k in (0.0, 0.1, 1.0, 3.0):
        steps.append(engine.run(lower(slowed(one, k))).step_time)
    assert steps == sorted(steps)
    assert steps[-1] > steps[0]


@pytest.mark.slow
@pytest.mark.parametrize("changes", configurations(), ids=configuration_name)
def test_the_parts_of_a_step_add_up_where_hosts_are_slow(changes):
    one = hosted(**changes)
    report = summarise(engine.run(lower(one)))
    assert sum(report.breakdown.values()) == pytest.approx(report.step_time, rel=1e-9)
    assert report.breakdown["host_exposed"] >= 0


def test_a_step_of_small_kernels_is_bound_by_its_host():
    report = summarise(engine.run(lower(hosted(training__seq_length=128))))
    assert report.breakdown["host_exposed"] > 0.5 * report.step_time


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "custom"])
def test_hosts_that_never_bind_change_no_bit(name):
    # A launch takes some tens of nanoseconds, less than the gap between two kernels.
    one = hosted(schedule__name=name, layout__vpp=SCHEDULES[name].virtual or 2)
    free, quick = (engine.run(lower(slowed(one, k))) for k in (0.0, 1e-3))
    # What is posted before the first pass is due at once, and launched a few nanoseconds later.
    later = free.due > 0
    for column in ("start", "end"):
        assert getattr(quick, column).tobytes() == getattr(free, column).tobytes(), column
    assert quick.arrive[later].tobytes() == free.arrive[later].tobytes()


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "custom"])
@pytest.mark.slow
def test_executors_agree_on_hosts_to_the_bit(name):
    one = lower(hosted(schedule__name=name, layout__vpp=SCHEDULES[name].virtual or 2))
    first, second = (engine.run(one, executor) for executor in EXECUTORS)
    for column in ("issue", "due", "arrive", "start", "end"):
        assert getattr(first, column).tobytes() == getattr(second, column).tobytes(), column


@pytest.mark.parametrize("changes", [{}, {"layout__ep": 4}, {"stack": "deepseek"}])
@pytest.mark.slow
def test_ranks_that_are_alike_have_hosts_that_are_alike(changes):
    one = hosted(**changes)
    folded, whole = (engine.run(lower(one, folded=each)) for each in (True, False))
    assert folded.step_time == pytest.approx(whole.step_time, rel=1e-9)
    assert summarise(folded).breakdown == pytest.approx(summarise(whole).breakdown, rel=1e-6)


# The interval


def test_a_stack_without_a_profile_gets_the_step_at_every_pace():
    report = simulate(hosted(training__seq_length=512))
    interval = host_interval(report)
    assert interval.pace == "lean"
    assert interval.steps["lean"] == report.step_time
    assert interval.steps["ordinary"] > report.step_time


def test_a_stack_with_a_profile_of_its_own_gets_none():
    assert host_interval(simulate(hosted(stack="deepseek"))) is None


@pytest.mark.parametrize("graphs", ["attention", "full"])
@pytest.mark.slow
def test_graphs_make_a_host_bound_step_faster(graphs):
    eager = simulate(hosted(training__seq_length=512))
    captured = simulate(hosted(training__seq_length=512, training__cuda_graphs=graphs))
    assert captured.step_time < eager.step_time
    assert captured.breakdown["host_exposed"] < eager.breakdown["host_exposed"]


@pytest.mark.slow
def test_the_interval_holds_what_was_measured_on_a_host_bound_run():
    # Validation only: no figure of hosts is from a step. 457 ms lie between 190 and 493, but the top
    # hangs on DeepSeek's count of a router's small kernels (35 and 35), which stands for Megatron's.
    # With its code's own 26 and 11 the interval ends at 400 ms and misses, and with some 24 more that
    # count and map tokens at 459 ms.
    one = load("h100-node", "moonlight-16b-a3b")
    interval = host_interval(simulate(one))
    (measured,) = (row for row in one.workload.reference if row.quantity == "step_time_s")
    assert interval.steps["lean"] < measured.value < interval.steps["ordinary"]


# What drains


def drained(one):
    """Return the labels of the rows that drain the first rank's host, sorted, each once."""
    own = one.drains & (one.rank == 0)
    return sorted({one.labels[label] for label in one.label[own]})


def test_megatrons_hosts_wait_for_norms_counts_and_receives():
    # Compute waits for what was posted, and Megatron synchronises the host there.
    assert drained(lower(hosted())) == ["dispatch(F)", "optimizer", "wait"]


def test_nothing_blocks_on_receives_where_ranks_hold_virtual_stages():
    one = hosted(schedule__name="interleaved", layout__vpp=2)
    assert drained(lower(one)) == ["dispatch(F)", "optimizer"]


def test_deepseeks_hosts_wait_for_counts_alone():
    assert drained(lower(hosted(stack="deepseek"))) == ["dispatch(F)"]


@pytest.mark.slow
def test_a_dispatcher_whose_buffers_hold_everything_drains_no_host():
    # DeepEP's low-latency kernels return before tokens have come, and nobody asks how many.
    one = hosted(experts__dispatcher="deepep_low_latency")
    assert drained(lower(one)) == ["optimizer", "wait"]


def test_graphs_of_whole_layers_leave_only_the_norm_to_wait_for():
    assert drained(lower(hosted(training__cuda_graphs="full"))) == ["optimizer"]


# The trace


def host_slices(timeline):
    for rank in range(timeline.program.ranks):
        yield [event for event in host_events(timeline, rank) if event["ph"] == "X"]


def test_a_trace_has_a_host_that_launches_one_action_after_another():
    timeline = engine.run(lower(hosted()))
    for slices in host_slices(timeline):
        for before, after in itertools.pairwise(slices):
            assert after["ts"] >= before["ts"] + before["dur"] - 1e-3
        assert slices[-1]["name"] == "launch update"
        # Parameters are gathered before the first action.
        assert slices[1]["name"].startswith("launch F0@")


def test_a_trace_has_no_host_where_launching_takes_no_time():
    assert list(host_slices(engine.run(lower(scenario())))) == [[], []]

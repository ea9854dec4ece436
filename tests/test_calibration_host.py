"""Calibration of hosts: their paces, recomputed from launches in `simulator/data/measured/host_launches.yaml`."""

import pytest
from calibration import measured

from simulator.costs import loads, work
from simulator.hardware import LAUNCHES
from simulator.ops import Op, Phase, block_ops
from simulator.scenario import host_pace, load

FIGURES = measured("host_launches")
TRACES = {"lean": ("deepseek",), "ordinary": ("hta_nccl_data", "hta_sampled")}
"""Pace -> the profiles that it is from."""


def mean_gap(pace, threads, classes):
    """Return the mean gap over the launches of some classes on some threads [s]."""
    rows = [
        FIGURES["traces"][trace][thread][name]
        for trace in TRACES[pace]
        for thread in threads
        for name in classes
        if name in FIGURES["traces"][trace][thread]
    ]
    count = sum(row["launches"] for row in rows)
    return sum(row["launches"] * row["gap_us"] for row in rows) / count * 1e-6


@pytest.mark.parametrize("pace", TRACES)
@pytest.mark.parametrize("thread", ["forward", "backward"])
@pytest.mark.parametrize("name", LAUNCHES)
def test_a_launch_takes_the_mean_gap_of_its_class(pace, thread, name):
    seconds = getattr(host_pace(pace), thread)[name]
    assert seconds == pytest.approx(mean_gap(pace, (thread,), (name,)), rel=1e-3)


@pytest.mark.parametrize("pace", TRACES)
def test_a_graph_is_launched_as_a_mean_kernel(pace):
    everything = (*LAUNCHES, "communication")
    gap = mean_gap(pace, ("forward", "backward"), everything)
    assert host_pace(pace).graph == pytest.approx(gap, rel=2e-3)


def test_a_collective_takes_the_gap_of_collectives_where_a_profile_tells_them_apart():
    gap = mean_gap("ordinary", ("forward", "backward"), ("communication",))
    assert host_pace("ordinary").communication == pytest.approx(gap, rel=1e-3)
    assert host_pace("lean").communication == host_pace("lean").graph


@pytest.mark.parametrize("pace", TRACES)
def test_another_launch_from_the_same_call_takes_the_tenth_percentile_of_gaps(pace):
    rows = [
        FIGURES["tenth_percentile_us"][trace][thread]
        for trace in TRACES[pace]
        for thread in ("forward", "backward")
    ]
    launches = sum(row["launches"] for row in rows)
    mean = sum(row["launches"] * row["gap"] for row in rows) / launches
    assert host_pace(pace).repeat == pytest.approx(mean * 1e-6, rel=5e-3)


@pytest.mark.slow
def test_a_stack_launches_so_many_kernels_for_each_op():
    # An MoE layer of V3, forward and backward, with its two exchanges in each direction.
    one = load("h800-2048")
    given = loads(one)
    layer = block_ops("moe", work(one, given.even))[0]
    ops = [op for phase in Phase for op in layer[phase] if isinstance(op, Op)]
    launched = sum(op.launches for op in ops if op.flops or op.bytes) + 4
    profile = FIGURES["traces"]["deepseek"]
    launches = profile["kernels"] / (profile["layers"] * launched)
    assert host_pace("lean").launches == pytest.approx(launches, rel=0.02)
    assert host_pace("ordinary").launches == host_pace("lean").launches


@pytest.mark.parametrize("pace", TRACES)
def test_the_profiler_makes_a_host_bound_step_longer_by_what_is_taken_off(pace):
    row = FIGURES["profiler"]["host_bound_ms"]
    assert host_pace(pace).profiler == pytest.approx(row["with"] / row["without"], rel=1e-3)


def test_what_the_profiler_adds_to_a_cpu_op_makes_as_much():
    # A check on a figure that was quoted only: 4,387 CPU ops of 4 us each over 963 launches are
    # 18 us of a mean gap of 45 us.
    profile = FIGURES["traces"]["deepseek"]
    added = profile["cpu_ops"] / profile["kernels"] * FIGURES["profiler"]["cpu_op_us"]["value"]
    gap = host_pace("lean").graph * 1e6
    assert gap / (gap - added) == pytest.approx(host_pace("lean").profiler, rel=0.05)


def test_what_modules_take_without_a_profiler_is_the_lean_pace():
    # Transformer Engine's Linear over PyTorch's on the same hosts, and so on an x86 host: 36.5 us.
    # A lean launch of a GEMM takes 63.5 us with the profiler on, 37.1 us without.
    row = FIGURES["modules"][0]
    ratios = [row["transformer_engine"][host] / row["torch"][host] for host in ("gh200", "gb200")]
    linear = row["torch"]["h100_dgx"] * sum(ratios) / 2 * 1e-6
    assert linear == pytest.approx(36.5e-6, rel=0.01)
    lean = host_pace("lean")
    assert linear == pytest.approx(lean.forward["gemm"] / lean.profiler, rel=0.05)

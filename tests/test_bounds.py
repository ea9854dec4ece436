"""No step is shorter than any bound, over many configurations; and each bound is met where nothing else binds."""

from dataclasses import replace

import pytest
from builders import (
    configuration_name,
    configurations,
    dense,
    faster,
    flow,
    hosted,
    kernel,
    lone,
    program,
    scenario,
    simulated,
)
from builders import transfer as moves

from simulator.bounds import CODE, critical_path
from simulator.compiled import MachineCode
from simulator.engine import run
from simulator.hardware import Benchmark
from simulator.program import lower
from simulator.report import Report, summarise

EVERY = configurations()
NAMES = ("compute at peak", "compute as profiled", "NIC", "busiest link", "hosts", "critical path")


def report(one) -> Report:
    return summarise(simulated(one))


def bound(one: Report, name: str) -> float:
    return next(bound.seconds for bound in one.bounds if bound.name == name)


def test_there_are_enough_configurations_for_a_law():
    assert len(EVERY) >= 40
    assert len({configuration_name(changes) for changes in EVERY}) == len(EVERY)


@pytest.mark.slow
@pytest.mark.parametrize("changes", EVERY, ids=configuration_name)
def test_no_step_is_shorter_than_any_bound(changes):
    one = report(scenario(**changes))
    assert [b.name for b in one.bounds] == list(NAMES)
    for b in one.bounds:
        assert 0 <= b.seconds <= one.step_time * (1 + 1e-12), b.name
        assert b.formula


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.parametrize("unfolded", [False, True])
@pytest.mark.slow
def test_bounds_hold_whether_ranks_are_folded_or_not(name, unfolded):
    one = summarise(
        simulated(
            scenario(schedule__name=name, node__nic="2 GB/s per direction"), folded=not unfolded
        )
    )
    assert all(b.seconds <= one.step_time * (1 + 1e-12) for b in one.bounds)


@pytest.mark.slow
@pytest.mark.parametrize("changes", EVERY[::3], ids=configuration_name)
def test_no_step_with_the_hosts_of_its_stack_is_shorter_than_any_bound(changes):
    # On so small a model hosts bind: their bound is near the step.
    one = report(hosted(**changes))
    for b in one.bounds:
        assert 0 <= b.seconds <= one.step_time * (1 + 1e-12), b.name
    assert bound(one, "hosts") > bound(one, "compute at peak")


# Each bound is tight somewhere


def test_where_the_host_alone_binds_its_launches_are_the_step():
    # One GPU whose kernels wait for nothing but their launches, of a second each.
    one = lone()
    slow = dict.fromkeys(one.host.forward, 1.0)
    host = one.host.model_copy(
        update={"forward": slow, "backward": slow, "repeat": 1.0, "communication": 1.0}
    )
    found = report(replace(one, host=host))
    assert found.step_time > 100
    assert bound(found, "hosts") == pytest.approx(found.step_time, rel=1e-9)


def test_hosts_that_take_no_time_bound_by_their_longest_row():
    one = lower(lone())
    assert bound(report(lone()), "hosts") == pytest.approx(one.seconds.max(), rel=1e-12)


def test_one_gpu_takes_what_its_kernels_take():
    one = report(lone())
    assert bound(one, "compute as profiled") == pytest.approx(one.step_time, rel=1e-12)
    assert bound(one, "critical path") == pytest.approx(one.step_time, rel=1e-12)
    assert bound(one, "NIC") == bound(one, "busiest link") == 0


def test_kernels_at_their_peak_meet_the_bound_of_the_peak():
    # Perfect kernels: no fixed times, no memory traffic, one output per tile on every SM at peak.
    # 2,112 tokens are 16 x 132 SMs. What is left: waves of weight gradients that do not fill.
    one = lone(training__seq_length=2112)
    peak = one.gpu.peak["bf16"]
    perfect = {"mainloop": 1.0, "tile": 0.0, "ramp": 0.0, "tiles": ((1, 1, 1.0),), "measured": {}}
    perfect |= {"sustained": 1.0}
    rates = {128: {4096: peak}}
    # At peak with as many heads as the model has: nobody waits for a tail more than there.
    heads = {128: Benchmark(heads=one.model.num_attention_heads)}
    unlimited = {"sustained": 1.0, "sustained_of": {}}
    attention = one.kernels.attention["cudnn"].model_copy(
        update={"forward": rates, "backward": rates, "measured": heads} | unlimited
    )
    kernels = one.kernels.model_copy(
        update={
            "gap": 0.0,
            "shortest": 0.0,
            "attention": {"cudnn": attention},
            "gemm": {"bf16": one.kernels.gemm["bf16"].model_copy(update=perfect)},
            "wgrad": {"bf16": one.kernels.wgrad["bf16"].model_copy(update=perfect)},
        }
    )
    gpu = one.gpu.model_copy(
        update={
            "peak": {"bf16": peak},
            "memory": one.gpu.memory.model_copy(update={"bandwidth": 1e30}),
        }
    )
    ideal = report(replace(one, gpu=gpu, kernels=kernels))
    assert bound(ideal, "compute at peak") == pytest.approx(ideal.step_time, rel=2e-4)


def rate_alone(table, nic):
    """Return communication kernels of NCCL that take nothing but their bytes over a share of the NIC."""
    bare = {"nic": nic, "setup": 0.0, "own_part": 0.0, "nic_overhead": 0.0}
    return {
        name: row.model_copy(update=bare) if name.startswith("nccl") else row
        for name, row in table.items()
    }


def test_where_computing_takes_no_time_the_gradients_way_over_the_nic_is_the_step():
    # Two nodes of one GPU, no pipeline: a reduce-scatter, then an all-gather, over an ideal NIC
    # without latency.
    one = faster(
        dense(
            node__gpus=1,
            node__nics=1,
            layout__pp=1,
            fabric__latency="0 s",
            fabric__leaf_latency="0 s",
        ),
        1e15,
        links=False,
    )
    perfect = rate_alone(one.kernels.communication, 1.0)
    ideal = report(replace(one, kernels=one.kernels.model_copy(update={"communication": perfect})))
    assert bound(ideal, "NIC") == pytest.approx(ideal.step_time, rel=1e-6)


def test_a_kernels_share_of_the_line_rate_is_in_the_busiest_links_bound():
    # The same with NCCL's own share of the NIC.
    one = faster(
        dense(
            node__gpus=1,
            node__nics=1,
            layout__pp=1,
            fabric__latency="0 s",
            fabric__leaf_latency="0 s",
        ),
        1e15,
        links=False,
    )
    share = one.kernels.communication["nccl_simple"].nic
    table = rate_alone(one.kernels.communication, share)
    found = report(replace(one, kernels=one.kernels.model_copy(update={"communication": table})))
    assert bound(found, "busiest link") == pytest.approx(found.step_time, rel=1e-6)
    assert bound(found, "NIC") == pytest.approx(share * found.step_time, rel=1e-6)


def test_without_a_pipeline_nothing_shares_links_and_the_critical_path_is_the_step():
    # One stage of 1F1B alternates compute and exchanges; no two ops ever meet, unless gradients
    # travel beside them.
    one = report(
        scenario(
            layout__pp=1,
            layout__ep=8,
            layout__overlap_grad_reduce=False,
            layout__overlap_param_gather=False,
        )
    )
    assert bound(one, "critical path") == pytest.approx(one.step_time, rel=1e-12)


def test_the_critical_path_leaves_out_what_ops_do_to_each_other():
    # Two transfers of 50 GB share 50 GB/s, and two kernels of 1 s share the SMs: 2 s; each alone
    # would take 1 s.
    rows = [moves(0, 0), moves(1, 1), kernel(0, 1.0), kernel(0, 1.0, stream="side")]
    one = program(rows, (flow(50e9, 0), flow(50e9, 1)))
    assert (critical_path(one), run(one).step_time) == (1.0, 2.0)


def test_the_critical_path_follows_a_coflow_through_its_last_member():
    # Rank 1 is ready at 3 s; 0.25 s latency and 25 GB; then rank 0 goes on for 1 s: 3 + 0.25 + 0.5
    # + 1.
    rows = [kernel(0, 1.0), kernel(1, 3.0), moves(0, 0, 0), moves(1, 0, 1), kernel(0, 1.0, 2)]
    assert critical_path(program(rows, (flow(25e9, 0, 1, latency=0.25),))) == 4.75


@pytest.mark.parametrize(
    "changes", [{}, {"layout__ep": 4}, {"schedule__name": "dualpipe"}, {"layout__zero": 3}]
)
@pytest.mark.slow
def test_the_critical_path_has_the_same_bits_compiled_and_in_python(monkeypatch, changes):
    one = lower(scenario(**changes))
    CODE.ready()
    compiled = critical_path(one)
    monkeypatch.setattr(MachineCode, "on_disk", lambda _: False)
    assert critical_path(one) == compiled


@pytest.mark.slow
def test_the_nic_bound_reads_the_nics_that_there_are():
    # The bound divides by what all NICs carry: 8 of 50 GB/s, one of them slowed to 5: 355 / 8 =
    # 44.375 for each GPU.
    slow = [{"nic": [0, 0], "bandwidth": "5 GB/s per direction"}]
    healthy, ill = report(scenario(layout__ep=4)), report(scenario(layout__ep=4, faults=slow))
    assert bound(ill, "NIC") == pytest.approx(bound(healthy, "NIC") * 50 / 44.375)
    assert bound(ill, "NIC") <= ill.step_time

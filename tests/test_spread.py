"""Unequal GPUs: expected slowest of those that wait for each other, in a step and in its report."""

import math

import numpy as np
import pytest
from builders import dense, lone, scenario

from simulator import inputs
from simulator.engine import run
from simulator.errors import InputError
from simulator.layout import Layout
from simulator.program import lower
from simulator.program.pace import expected_paces, group_size
from simulator.topology import Crowd, deviation_of_largest, expected_largest, expected_slowest
from simulator.whatif import spread_cost, study
from simulator.whatif.waits import WaitTable


def step(one):
    return run(lower(one)).step_time


def layout(**changes):
    return Layout(**{"gpus": 64, "tp": 1, "pp": 4, "ep": 1, "dp": 16, "zero": 1, **changes})


# Order statistics


# Of one normal 0, of two 1 / sqrt(pi), of three 3 / (2 sqrt(pi)); of 10 and 100 Harter's table
# (Biometrika 48, 1961).
@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, 0.0),
        (2, 1 / math.sqrt(math.pi)),
        (3, 1.5 / math.sqrt(math.pi)),
        (10, 1.53875),
        (100, 2.50759),
    ],
)
def test_the_expected_largest_of_n_normals(count, expected):
    assert expected_largest(count) == pytest.approx(expected, abs=2e-5)


def test_the_largest_of_two_normals_deviates_by_the_root_of_one_less_one_over_pi():
    assert deviation_of_largest(1) == pytest.approx(1.0, abs=1e-5)
    assert deviation_of_largest(2) == pytest.approx(math.sqrt(1 - 1 / math.pi), abs=1e-5)


def test_of_equal_crowds_the_slowest_is_that_of_all_their_gpus():
    crowds = [Crowd(2.0, 4)] * 4
    assert expected_slowest(crowds, 0.01) == pytest.approx(
        2.0 * (1 + 0.01 * expected_largest(16)), rel=1e-6
    )


def test_gpus_with_much_less_to_do_are_never_the_last():
    # Half the work would have to be 50 deviations slower.
    alone = expected_slowest([Crowd(2.0, 4)], 0.01)
    assert expected_slowest([Crowd(2.0, 4), Crowd(1.0, 1000)], 0.01) == pytest.approx(alone)


# Who waits for whom


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, 1),
        ({"tp": 4, "dp": 4}, 4),
        ({"ep": 8}, 8),
        ({"cp": 2, "dp": 8}, 2),
        ({"tp": 2, "dp": 8, "ep": 4}, 4),  # expert groups of 4 hold two tensor parallel groups
        ({"zero": 3}, 16),  # parameters are gathered from all replicas in every layer
    ],
)
def test_members_of_tensor_expert_and_context_groups_wait_in_every_layer(changes, size):
    assert group_size(layout(**changes)) == size


def test_without_a_ramp_only_the_slowest_gpu_of_all_counts():
    paces = expected_paces(layout(), [1.0] * 4, 0.0, 0.02)
    assert paces.busiest == pytest.approx(1 + 0.02 * expected_largest(64), rel=1e-6)
    assert paces.others == 1.0  # a group of one: as fast as a GPU of mean speed


def test_what_fills_a_pipeline_differs_between_replicas_too():
    # Two replicas of X + r Y, both normal with one deviation: the larger is ahead by sqrt(1 + r^2)
    # times as much as of X alone. One stage next to the busiest, half its work.
    pair = layout(gpus=4, pp=2, dp=2)
    paces = expected_paces(pair, [1.0, 0.5], 0.5, 0.01)
    both = (paces.busiest - 1.0) + 0.5 * (paces.others - 1.0)
    assert both == pytest.approx(0.01 * expected_largest(2) * math.sqrt(1.25), rel=0.02)


# In a step


@pytest.mark.slow
def test_a_lone_gpu_is_of_mean_speed_whatever_the_spread():
    assert step(lone(spread=0.05)) == pytest.approx(step(lone()), rel=1e-9)


LARGE = {
    "model__hidden_size": 4096,
    "model__intermediate_size": 14336,
    "model__num_attention_heads": 32,
    "model__vocab_size": 32000,
    "model__num_hidden_layers": 8,
    "training__seq_length": 4096,
}
"""Kernels of a real model, next to which what 8 GPUs send is short."""
CASES = {
    "replicas": (dense, {"layout__pp": 1}),
    "fully sharded": (dense, {"layout__pp": 1, "layout__zero": 3}),
    "pipeline": (dense, {"training__global_batch_size": 32}),
    "deep pipeline": (dense, {"layout__pp": 4, "training__global_batch_size": 32}),
    "tensor parallel": (dense, {"layout__tp": 2}),
    "experts": (scenario, {"model__moe_intermediate_size": 2048}),
    "dualpipe": (scenario, {"schedule__name": "dualpipe", "training__global_batch_size": 32}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_a_spread_costs_what_exact_jitter_costs_on_average(name):
    # 8 GPUs drawn 16 times: each draw's loss deviates by about half a deviation, their mean by an
    # eighth. Closer than 0.3 deviations of 3% is 0.9% of the step.
    make, changes = CASES[name]
    changes = {**LARGE, **changes}
    equal, deviation = step(make(**changes)), 0.03
    drawn = []
    for seed in range(16):
        jitter = {"deviation": deviation, "seed": seed, "distribution": "normal"}
        drawn.append(step(make(jitter=jitter, **changes)) / equal - 1)
    found = lower(make(spread=deviation, **changes))
    assert found.ranks == lower(make(**changes)).ranks  # nothing unfolds
    lost = run(found).step_time / equal - 1
    assert lost == pytest.approx(np.mean(drawn), abs=0.3 * deviation)
    # What the report says without a run is near both.
    timeline = run(lower(make(**changes)))
    report = study(make(**changes), penalties=False).report
    of_three = spread_cost(timeline, report).costs[-1]
    assert of_three.deviation == deviation
    assert of_three.lost / equal == pytest.approx(lost, abs=0.15 * deviation)


@pytest.mark.slow
def test_more_spread_costs_more_and_the_cluster_s_own_is_found_by_another_run():
    found = study(scenario())
    assert found.spread.own is None
    lost = [cost.lost for cost in found.spread.costs]
    assert lost == sorted(lost)
    assert lost[0] > 0
    own = study(scenario(spread=0.02))
    assert own.spread.costs == ()
    assert own.spread.own.lost == pytest.approx(
        own.report.step_time - found.report.step_time, rel=1e-9
    )
    assert own.as_dict()["spread"]["own"]["deviation"] == 0.02


def test_a_spread_next_to_jitter_is_refused():
    with pytest.raises(InputError, match=r"spread: 0\.01 is what jitter draws GPU by GPU"):
        scenario(spread=0.01, jitter={"deviation": 0.02})


# Waits at exchanges


def test_measured_waits_are_those_of_their_sources():
    rows = inputs.validate(inputs.data("trust", "waits"), WaitTable).rows
    within, few, many = rows
    notified = []
    for row in inputs.table("deepep_normal_h100"):
        kernels = (float(row["dispatch_notify_us"]), float(row["combine_notify_us"]))
        if row["nodes"] == "1":
            assert kernels == (0.0, 0.0)
        elif int(row["nodes"]) <= few.nodes and int(row["tokens"]) <= 4096:
            notified += kernels
    assert within.most == 0.0
    assert few.most == pytest.approx(max(notified) * 1e-6)
    calls = inputs.data("measured", "deepseek_v3_chunk").data["communication_us"].values()
    notify = [us for call in calls for us in call["notify"]]
    assert many.most == pytest.approx(np.mean(notify) * 1e-6, rel=1e-3)


@pytest.mark.slow
def test_waits_are_an_interval_beside_the_step():
    # Two nodes of 4 GPUs, experts over both; three MoE layers on the two stages, 4 exchanges a layer and
    # micro-batch (2 forward, 2 backward): 1.5 layers a rank x 4 x micro-batches.
    found = study(scenario(layout__ep=4, layout__pp=2))
    waits = found.waits
    if waits is None:  # expert groups of 4 within a node do not wait
        assert found.as_dict()["waits"] is None
    across = study(scenario(layout__ep=8, layout__pp=1))
    assert across.waits.nodes == 2
    assert across.waits.exchanges == 3 * 4 * across.report.scenario.micro_batches
    assert across.waits.added == pytest.approx(across.waits.exchanges * 329.7e-6)
    assert study(dense()).waits is None

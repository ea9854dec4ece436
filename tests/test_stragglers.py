"""GPUs slower than the rest, by name or by chance: what a step loses to them, and how the report says it."""

import json

import numpy as np
import pytest
from builders import dense, lone, scenario

from simulator.cli.commands import _main
from simulator.engine import run
from simulator.errors import InputError
from simulator.program import lower
from simulator.scenario import load
from simulator.topology import Jitter, network
from simulator.whatif import Stragglers, simulate, study


def step(one, *, folded=True):
    return run(lower(one, folded=folded)).step_time


def test_kernels_of_a_gpu_take_one_plus_a_half_normal_times_as_long():
    # The draw, written a second time: which GPUs, then how much slower each is.
    random = np.random.default_rng(7)
    chosen, slower = random.permutation(16)[:4], 1 + np.abs(random.normal(0.0, 0.05, 4))
    expected = np.ones(16)
    expected[chosen] = 1 / slower
    assert Jitter(deviation=0.05, gpus=4, seed=7).speeds(16).tolist() == expected.tolist()


def test_the_draw_is_half_normal():
    slower = 1 / Jitter(deviation=0.02).speeds(100_000) - 1
    assert slower.min() >= 0
    assert slower.mean() == pytest.approx(0.02 * np.sqrt(2 / np.pi), rel=0.01)  # 0.8 deviations
    assert (slower > 0.04).mean() == pytest.approx(1 / 22, rel=0.05)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_cluster_and_another_seed_another():
    speeds = [
        network(scenario(jitter={"deviation": 0.02, "seed": seed}).topology).speed.tolist()
        for seed in (3, 3, 4)
    ]
    assert speeds[0] == speeds[1] != speeds[2]
    assert all(0.9 < speed < 1 for speed in speeds[0])


def test_only_so_many_gpus_are_slower():
    speed = network(scenario(jitter={"deviation": 0.02, "gpus": 3}).topology).speed
    assert (speed < 1).sum() == 3


def test_a_fault_and_jitter_multiply():
    ill = scenario(faults=[{"gpu": 5, "speed": 0.5}], jitter={"deviation": 0.02})
    assert network(ill.topology).speed[5] == 0.5 * Jitter(deviation=0.02).speeds(8)[5]


# In a step


@pytest.mark.slow
def test_a_lone_gpu_loses_what_its_kernels_lose():
    # No communication: the step is 1 + |x| times that of a healthy GPU.
    ill = lone(jitter={"deviation": 0.1, "seed": 2})
    speed = Jitter(deviation=0.1, seed=2).speeds(1)[0]
    healthy = step(lone())
    assert step(ill) == pytest.approx(healthy / speed, rel=1e-12)
    found = study(ill).stragglers
    assert found == Stragglers(pytest.approx(healthy / speed - healthy, rel=1e-9), speed, 1)


@pytest.mark.slow
def test_replicas_wait_for_the_slowest_of_them():
    # Two replicas, no pipeline: both end with the gradients' reduce-scatter, so that one GPU at 0.8
    # makes everybody's kernels before it a quarter longer; what follows it (the optimizer,
    # communication) is not.
    common = {
        "nodes": 1,
        "node__gpus": 2,
        "node__nics": 2,
        "fabric__kind": "single_node",
        "layout__pp": 1,
        "layout__overlap_param_gather": False,
        "layout__overlap_grad_reduce": False,
    }
    report = study(dense(**common, faults=[{"gpu": 1, "speed": 0.8}]))
    both = study(dense(**common, faults=[{"gpu": 0, "speed": 0.8}, {"gpu": 1, "speed": 0.8}]))
    healthy = simulate(dense(**common))
    assert report.stragglers.slowest == 0.8
    assert report.stragglers.lost == pytest.approx(
        report.report.step_time - healthy.step_time, rel=1e-9
    )
    assert report.report.step_time == pytest.approx(both.report.step_time, rel=1e-3)
    # All kernels of both a quarter longer: what the links take is the same.
    compute = sum(
        healthy.breakdown[name]
        for name in ("gemm", "attention", "memory_bound", "kernel_gaps", "optimizer")
    )
    assert both.stragglers.lost == pytest.approx(compute / 4, rel=1e-6)


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.parametrize("jitter", [{"deviation": 0.03}, {"deviation": 0.03, "gpus": 3, "seed": 1}])
@pytest.mark.slow
def test_folded_and_unfolded_agree_with_jitter(name, jitter):
    ill = scenario(schedule__name=name, jitter=jitter)
    assert step(ill) == pytest.approx(step(ill, folded=False), rel=1e-9)


@pytest.mark.slow
def test_jitter_on_few_gpus_unfolds_only_what_they_make_different():
    batch = {"training.global_batch_size": 4096}
    ill = lower(load("h800-2048", sets={**batch, "jitter": {"deviation": 0.02, "gpus": 1}}))
    assert 8 < ill.ranks < 200
    assert ill.multiplicity.sum() == 2048
    everywhere = lower(scenario(jitter={"deviation": 0.02}))
    assert everywhere.ranks == 8  # nobody is like anybody


@pytest.mark.slow
def test_a_step_never_gains_by_a_slower_gpu():
    healthy = step(scenario())
    for seed in range(5):
        assert step(scenario(jitter={"deviation": 0.05, "seed": seed})) > healthy


@pytest.mark.slow
def test_more_deviation_costs_more():
    lost = [
        study(scenario(jitter={"deviation": deviation})).stragglers.lost
        for deviation in (0.01, 0.02, 0.04)
    ]
    assert lost == sorted(lost)
    assert lost[0] > 0


# What the report says


def test_a_cluster_at_full_speed_has_no_stragglers():
    report = study(scenario())
    assert report.stragglers is None
    assert report.as_dict()["stragglers"] is None


@pytest.mark.slow
def test_what_is_down_or_cut_stays_so_when_stragglers_are_taken_out():
    # Only speed is set to full: the NIC that is down and the slower NVLink stay.
    other = [{"nic": [1, 0], "down": True}, {"gpu": 2, "nvlink": "100 GB/s bidirectional"}]
    ill = scenario(faults=[*other, {"gpu": 2, "speed": 0.7}], jitter={"deviation": 0.02})
    healthy = network(ill.topology.at_full_speed)
    assert (healthy.speed == 1.0).all()
    assert healthy.capacity.tolist() == network(scenario(faults=other).topology).capacity.tolist()


@pytest.mark.slow
def test_json_and_text_name_what_stragglers_cost(capsys):
    common = [
        "run",
        "h800-512",
        "--no-alternatives",
        "--set",
        "layout.ep=32",
        "--set",
        "training.global_batch_size=1024",
        "--set",
        "faults=[{gpu: 17, speed: 0.9}]",
    ]
    assert _main([*common, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)["stragglers"]
    assert set(found) == {"lost_s", "slowest_speed", "gpus_slow"}
    assert (found["slowest_speed"], found["gpus_slow"]) == (0.9, 1)
    assert found["lost_s"] > 0
    assert _main(common) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Stragglers cost" in text
    assert "1 of 512 GPUs are slow, the slowest runs at 0.900 of full speed" in text


@pytest.mark.parametrize(
    ("jitter", "message"),
    [
        ({"deviation": 0.0}, "jitter.deviation"),
        ({"deviation": 1.5}, "jitter.deviation"),
        (
            {"deviation": 0.02, "gpus": 9},
            "jitter.gpus: 9 exceeds the 8 GPUs of the cluster. Write at most 8",
        ),
        (
            {"deviation": 0.02, "gpus": "3"},
            "jitter.gpus: '3' is not an integer. Write 3 without quotes.",
        ),
        ({"deviation": 0.02, "speed": 0.9}, "jitter.speed"),
        ({"gpus": 3}, "jitter.deviation: is missing"),
    ],
)
def test_wrong_jitter_is_told_value_rule_and_remedy(jitter, message):
    with pytest.raises(InputError) as caught:
        scenario(jitter=jitter)
    assert message in str(caught.value)

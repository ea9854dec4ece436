"""Unequal experts in a step: the worst of every phase of every layer paces its group."""

from dataclasses import replace

import numpy as np
import pytest
from builders import scenario, simulated

from simulator.bounds import traffic
from simulator.costs import loads
from simulator.engine import run
from simulator.experts import Load, survey
from simulator.program import lower
from simulator.whatif import simulate, study
from simulator.whatif.sentences import cost_sentence

UNEQUAL = {"experts__distribution": "log_normal", "experts__max_violation": 0.5}

UNLIKE = {"distribution": "log_normal", "sigma": 0.5, "seed": 3}


@pytest.mark.slow
def test_even_experts_have_one_load_and_no_penalty():
    found = loads(scenario())
    assert len(found.distinct) == 1
    assert found.distinct[0] == found.even
    assert study(scenario()).imbalance is None


def test_each_layer_has_its_own_busiest_gpu():
    one = scenario(**UNEQUAL)
    found = loads(one)
    visits = survey(
        one.model,
        one.workload.experts,
        one.layout.ep,
        one.topology.node.gpus,
        one.tokens_per_micro_batch,
    )
    for layer, place in zip(visits, found.layers, strict=True):
        load = found.distinct[place]
        assert load.rows == pytest.approx(layer.rows(1.0).max())
        assert load.received == pytest.approx(layer.received(1.0).max())
        assert load.rows >= layer.rows(1.0).mean()
    assert found.worst_share == pytest.approx(
        max(layer.pairs.max() / layer.pairs.mean() for layer in visits)
    )


def test_rows_of_all_gpus_are_the_choices_of_all_tokens():
    # 4 GPUs of 100 tokens, each choosing top_k experts: whatever the popularity, nothing is lost on
    # the way.
    one = scenario(**UNEQUAL)
    for layer in survey(one.model, one.workload.experts, 4, 2, 100):
        assert np.sum(layer.rows(100.0)) == pytest.approx(4 * 100 * one.model.num_experts_per_tok)


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.slow
def test_unequal_experts_make_the_step_longer_and_the_report_names_the_penalty(name):
    report = study(scenario(schedule__name=name, **UNEQUAL))
    even = run(lower(scenario(schedule__name=name))).step_time
    assert report.imbalance.lost == pytest.approx(report.report.step_time - even)
    assert report.imbalance.lost > 0
    assert report.imbalance.worst_share >= report.imbalance.mean_share > 1
    assert report.as_dict()["imbalance"]["lost_s"] == report.imbalance.lost


def test_what_happens_to_make_a_step_shorter_is_said_to_cost_nothing():
    one = simulate(scenario())
    cost = cost_sentence(one, "Expert imbalance costs", one.step_time / 4)
    assert cost.startswith("Expert imbalance costs ")
    assert cost.endswith(" (25.0% of the step)")
    gain = cost_sentence(one, "Expert imbalance costs", -one.step_time / 4)
    assert "-" not in gain
    assert gain.startswith("Expert imbalance costs nothing: the step happens to be ")
    assert gain.endswith(" (25.0% of the step) shorter with it than without")


@pytest.mark.slow
def test_more_violation_costs_more():
    steps = [
        run(lower(scenario(**{**UNEQUAL, "experts__max_violation": limit}))).step_time
        for limit in (0.1, 0.5, 2)
    ]
    assert steps == sorted(steps)


@pytest.mark.slow
def test_levelled_loads_are_those_of_even_experts():
    assert loads(scenario(**UNEQUAL)).levelled() == loads(scenario())


@pytest.mark.slow
def test_an_unequal_step_still_folds():
    assert lower(scenario(**UNEQUAL)).ranks == lower(scenario()).ranks
    one = scenario(**UNEQUAL)
    folded, whole = (run(lower(one, folded=folded)).step_time for folded in (True, False))
    assert folded == pytest.approx(whole, rel=1e-9)


@pytest.mark.slow
def test_capacity_drops_choices_and_shortens_the_step():
    full = simulate(scenario(**{**UNEQUAL, "experts__max_violation": 2}))
    capped = study(
        scenario(**{**UNEQUAL, "experts__max_violation": 2}, experts__capacity_factor=1.0)
    )
    assert capped.imbalance.dropped > 0
    assert capped.report.step_time < full.step_time


def test_recorded_counts_are_read_beside_the_workload(tmp_path):
    counts = "layer,expert,count\n" + "".join(
        f"{layer},{expert},{1 + expert}\n" for layer in range(3) for expert in range(8)
    )
    path = tmp_path / "counts.csv"
    path.write_text(counts, encoding="utf-8")
    found = loads(scenario(experts__distribution="recorded", experts__file=str(path)))
    assert found.worst_share > 1.2


@pytest.mark.slow
def test_unequal_experts_compute_and_move_no_more_only_less_evenly():
    # The same tokens choose as many experts, so what runs is the same; the rest of the time is
    # waiting. Kernels of so few rows may take less time for more of them: those count as they are.
    even, unequal = simulate(scenario()), simulate(scenario(**UNEQUAL))
    assert unequal.executed_flops == pytest.approx(even.executed_flops, rel=1e-9)
    assert unequal.breakdown["attention"] == pytest.approx(even.breakdown["attention"], rel=1e-9)
    before, after = (
        report.breakdown["gemm"] + report.breakdown["memory_bound"] for report in (even, unequal)
    )
    assert 0.98 * before < after <= before * (1 + 1e-9)
    assert unequal.breakdown["expert_waiting"] > even.breakdown["expert_waiting"]
    assert sum(unequal.breakdown.values()) == pytest.approx(unequal.step_time, rel=1e-9)
    assert all(bound.seconds <= unequal.step_time * (1 + 1e-12) for bound in unequal.bounds)


@pytest.mark.slow
def test_the_buffers_hold_what_the_busiest_gpu_receives():
    even, unequal = simulate(scenario()), simulate(scenario(**UNEQUAL))
    most = max(load.received for load in loads(scenario(**UNEQUAL)).distinct)
    grown = unequal.worst_memory.by_category["buffers"] - even.worst_memory.by_category["buffers"]
    width = scenario().model.hidden_size * 2.0
    assert grown == pytest.approx(2 * 2048 * width * (most - loads(scenario()).even.received))


def test_one_of_the_copies_stays_on_its_gpu():
    # Two nodes of 4 GPUs: of copies to all 8 alike, 2 and 1.5 that leave are 7/8, so that 4 are made.
    load = Load(
        rows=6.0,
        received=5.0,
        over_nic=3.0,
        over_nvlink=2.0,
        mean_nic=2.0,
        mean_nvlink=1.5,
        ep_nodes=2,
        gpus_per_node=4,
    )
    assert load.copies == 4.0
    # On one GPU nothing leaves, and it gets all: once, or once per expert.
    alone = replace(load, mean_nic=0.0, mean_nvlink=0.0, ep_nodes=1, gpus_per_node=1)
    assert alone.copies == 5.0


@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.slow
def test_bytes_sent_are_those_of_all_gpus_and_not_of_the_busiest_one(pp):
    # Where the busiest GPU represents its group, what it moves is scaled down to the mean over each
    # kind of link, which is what all GPUs with their own loads send. On one node or on both.
    worst, each = (
        traffic(lower(scenario(layout__pp=pp, layout__ep=8 // pp, experts=experts)))["expert"]
        for experts in ({**UNLIKE, "resolve": how} for how in ("worst", "each"))
    )
    assert worst == pytest.approx(each, rel=1e-9)


@pytest.mark.parametrize("ep", [2, 4])
@pytest.mark.slow
def test_outside_of_pairs_the_busiest_gpu_stands_for_all_exactly(ep):
    # Every phase ends with an exchange of the whole group: whoever is done first waits for the
    # busiest.
    worst, each = (
        simulated(scenario(layout__ep=ep, experts={**UNLIKE, "resolve": how}))
        for how in ("worst", "each")
    )
    assert each.step_time == pytest.approx(worst.step_time, rel=1e-12)
    assert each.program.ranks == worst.program.ranks * ep


@pytest.mark.parametrize("schedule", ["1f1b", "dualpipe", "zb-v"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_loads_of_their_own_fold_exactly(schedule, seed):
    # Two replicas of an expert group of 2 at each of 2 pipeline indices: the replicas fold, the
    # members do not.
    one = scenario(
        layout__ep=2,
        schedule__name=schedule,
        experts={
            "distribution": "dirichlet",
            "concentration": 1.0,
            "seed": seed,
            "resolve": "each",
        },
    )
    folded, whole = simulated(one), simulated(one, folded=False)
    assert folded.step_time == pytest.approx(whole.step_time, rel=1e-9)
    assert folded.program.ranks < whole.program.ranks


@pytest.mark.slow
def test_in_pairs_the_busiest_of_every_phase_is_an_estimate():
    # A GPU that is late in one phase can catch up in the next, but exchanges are slow while any
    # member computes.
    def one(how):
        return simulated(
            scenario(layout__ep=4, schedule__name="dualpipe", experts={**UNLIKE, "resolve": how})
        )

    assert one("each").step_time == pytest.approx(one("worst").step_time, rel=0.03)

"""The folded run is exact, and folds no more than symmetry allows."""

import itertools

import numpy as np
import pytest
from builders import configuration_name, configurations, lone, scenario, simulated
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator.collectives import Communication
from simulator.engine import run
from simulator.errors import InputError
from simulator.program import lower
from simulator.program.coflows import Coflows
from simulator.program.folding import fold, program_colours
from simulator.program.tiles import whole
from simulator.report import summarise
from simulator.scenario import load
from simulator.schedules import Action, Schedule, build

# 400 us across leaves, 30 us within one: ranks that cross leaves and ranks that do not differ
# visibly.
UNEQUAL = {
    "fabric__latency": "400 us",
    "fabric__leaf_latency": "30 us",
    "node__nic": "10 GB/s per direction",
}


def agree(changes: dict[str, object]) -> tuple[int, int]:
    """Assert that the folded and the unfolded run agree; return how many classes each had."""
    one = scenario(**changes)
    folded, whole = (summarise(simulated(one, folded=folded)) for folded in (True, False))
    assert whole.rank_classes == one.topology.gpus
    assert folded.step_time == pytest.approx(whole.step_time, rel=1e-9)
    for part in ("breakdown", "phases", "utilisation"):
        assert getattr(folded, part) == pytest.approx(
            getattr(whole, part), rel=1e-9, abs=1e-9 * whole.step_time
        )
    bounds = [{bound.name: bound.seconds for bound in report.bounds} for report in (folded, whole)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)
    assert list(folded.traffic) == list(whole.traffic)
    for kind, sent in whole.traffic.items():
        assert folded.traffic[kind] == pytest.approx(sent, rel=1e-9)
    assert folded.executed_flops == pytest.approx(whole.executed_flops, rel=1e-9)
    assert {rank.pipeline_index: rank.peak for rank in folded.memory}.items() <= {
        rank.pipeline_index: rank.peak for rank in whole.memory
    }.items()
    return folded.rank_classes, whole.rank_classes


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", configurations()[::2] + configurations()[1::4], ids=configuration_name
)
def test_the_folded_run_is_the_unfolded_one(changes):
    classes, ranks = agree(changes)
    assert classes < ranks


@pytest.mark.parametrize(
    "layout",
    [
        # pp 2 on 4 nodes of 1 GPU: replica 0 crosses leaves where replica 1 does not.
        {"nodes": 4, "node__gpus": 1, "node__nics": 1, "fabric__switch_ports": 6, "layout__ep": 1},
        {"nodes": 4, "node__gpus": 1, "node__nics": 1, "fabric__switch_ports": 6, "layout__ep": 2},
        {
            "nodes": 6,
            "node__gpus": 2,
            "node__nics": 1,
            "fabric__switch_ports": 8,
            "layout__ep": 2,
            "training__global_batch_size": 48,
        },
        {
            "nodes": 3,
            "node__gpus": 2,
            "node__nics": 2,
            "fabric__switch_ports": 4,
            "layout__pp": 3,
            "layout__ep": 2,
            "training__global_batch_size": 12,
            "model__num_hidden_layers": 6,
        },
        {
            "nodes": 8,
            "node__gpus": 1,
            "node__nics": 1,
            "fabric__switch_ports": 4,
            "layout__pp": 4,
            "layout__ep": 2,
        },
        {"nodes": 8, "node__gpus": 1, "node__nics": 1, "fabric__switch_ports": 10, "layout__ep": 4},
    ],
    ids=configuration_name,
)
@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.slow
def test_leaves_that_part_the_replicas_do_not_part_folded_from_unfolded(layout, name):
    if name == "dualpipe" and layout.get("layout__pp") == 3:
        pytest.skip("DualPipe needs an even number of stages")
    agree({**UNEQUAL, "training__global_batch_size": 32, **layout, "schedule__name": name})


@pytest.mark.slow
@given(
    nodes=st.integers(1, 6),
    gpus=st.sampled_from([1, 2, 4]),
    shared=st.booleans(),
    ports=st.sampled_from([4, 6, 8, 10, 16]),
    pp=st.sampled_from([1, 2, 3, 4]),
    ep=st.sampled_from([1, 2, 4, 8]),
    name=st.sampled_from(["1f1b", "dualpipe"]),
    zero=st.sampled_from([0, 1]),
    experts=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_layout_folds_exactly(*, nodes, gpus, shared, ports, pp, ep, name, zero, experts):
    assume(nodes * gpus % pp == 0)
    replicas = nodes * gpus // pp
    changes = {
        **UNEQUAL,
        "nodes": nodes,
        "node__gpus": gpus,
        "node__nics": max(1, gpus // 2) if shared else gpus,
        "fabric__switch_ports": ports,
        "layout__pp": pp,
        "layout__ep": ep if experts else 1,
        "layout__zero": zero,
        "schedule__name": name,
        "training__global_batch_size": 2 * pp * replicas,
    }
    if not experts:
        changes |= {"model__n_routed_experts": 0, "model__num_experts_per_tok": 0}
    try:
        agree(changes)
    except InputError:
        assume(False)


# How far it folds


@pytest.mark.slow
def test_deepseek_v3_on_2048_gpus_folds_to_8_classes_of_256():
    # DualPipe's rank r runs the stages of rank 15 - r in the same order: 8 pairs of 2 x 128 ranks.
    one = lower(load("h800-2048"))
    assert one.multiplicity.tolist() == [256] * 8


def test_a_symmetric_cluster_folds_to_one_class_per_stage_of_1f1b():
    assert lower(scenario(layout__pp=4)).multiplicity.tolist() == [2] * 4


def test_a_dense_model_whose_replicas_lie_alike_folds_too():
    changes = {"layout__ep": 1, "model__n_routed_experts": 0, "model__num_experts_per_tok": 0}
    assert lower(scenario(**changes)).multiplicity.tolist() == [4, 4]


def test_replicas_of_which_one_crosses_the_spines_are_not_folded():
    # 4 nodes of 1 GPU, 3 to a leaf: replica 0 goes from node 0 to 2 in a leaf, replica 1 from 1 to
    # 3 across.
    one = scenario(nodes=4, node__gpus=1, node__nics=1, fabric__switch_ports=6, layout__ep=1)
    assert lower(one).multiplicity.tolist() == [1, 1, 1, 1]


def test_the_same_nodes_under_leaves_that_part_them_alike_are_folded():
    # With 2 nodes to a leaf both replicas cross: nodes 0 to 2 and 1 to 3.
    one = scenario(nodes=4, node__gpus=1, node__nics=1, fabric__switch_ports=4, layout__ep=1)
    assert lower(one).multiplicity.tolist() == [2, 2]


def test_all_under_one_leaf_are_alike():
    one = scenario(nodes=4, node__gpus=1, node__nics=1, fabric__switch_ports=8, layout__ep=1)
    assert lower(one).multiplicity.tolist() == [2, 2]


@pytest.mark.slow
def test_classes_cover_every_rank_once():
    for changes in configurations()[::5]:
        one = lower(scenario(**changes))
        assert one.multiplicity.sum() == one.scenario.topology.gpus
        assert len(set(one.first_rank.tolist())) == one.ranks


@pytest.mark.parametrize(
    ("stages", "micro_batches"), list(itertools.product([2, 4, 6, 8], [16, 20]))
)
def test_dualpipes_two_ends_are_alike_and_1f1bs_are_not(stages, micro_batches):
    both = program_colours(build("dualpipe", stages, micro_batches))
    assert both == both[::-1]
    assert len(set(both)) == stages // 2
    assert len(set(program_colours(build("1f1b", stages, micro_batches)))) == stages


def test_ranks_that_run_the_same_stage_in_another_order_are_not_alike():
    # One stage on each of three ranks: the first two run F B F B, the third F F B B.
    def in_turn(first: int) -> tuple[Action, ...]:
        return tuple(Action(kind, first + n, 0) for n in (0, 1) for kind in ("F", "B"))

    apart = (Action("F", 4, 0), Action("F", 5, 0), Action("B", 4, 0), Action("B", 5, 0))
    first, second, third = program_colours(Schedule("", 1, 6, (in_turn(0), in_turn(2), apart)))
    assert first == second != third


@pytest.mark.parametrize(
    ("loads", "classes"), [((), [0, 0, 0, 1, 2, 2, 2, 2]), ((0, 1, 0, 1), [0, 1, 0, 2, 3, 4, 3, 4])]
)
@pytest.mark.slow
def test_ranks_are_alike_that_run_the_same_as_fast_under_the_same_load(loads, classes):
    # Two stages of 4 ranks, rank 3 slow; without transfers nothing else tells ranks apart. Nor does a
    # slow one on the first stage look like one of the second, or a loaded one.
    one = scenario(faults=[{"gpu": 3, "speed": 0.5}])
    nothing_moves = Coflows(Communication.of(one), one.layout, whole(one.network, one.layout))
    parts = fold(one.network, build("1f1b", 2, 4), nothing_moves, one.layout, loads)
    assert parts.rank.tolist() == classes


@pytest.mark.slow
def test_folding_takes_the_same_classes_twice():
    first, second = (lower(scenario(layout__pp=4, layout__ep=2)) for _ in range(2))
    assert np.array_equal(first.first_rank, second.first_rank)
    assert first.coflows == second.coflows


# Unlike GPUs


@pytest.mark.slow
def test_a_slow_gpu_unfolds_only_what_it_makes_different():
    # 16 pipeline indices, no longer mirrored. On each, what differs: the slow GPU's replica; on its
    # node and rail the ranks that share links with it; the rest of its expert group; the other
    # expert group.
    batch = {"training.global_batch_size": 4096}
    ill = lower(load("h800-2048", sets={**batch, "faults": [{"gpu": 17, "speed": 0.9}]}))
    healthy = lower(load("h800-2048", sets=batch))
    assert (healthy.ranks, ill.ranks) == (8, 96)
    assert ill.multiplicity.sum() == 2048
    assert run(ill).step_time > run(healthy).step_time


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.parametrize("gpu", [0, 3, 7])
@pytest.mark.slow
def test_folded_and_unfolded_agree_with_a_slow_gpu(name, gpu):
    ill = scenario(schedule__name=name, faults=[{"gpu": gpu, "speed": 0.8}])
    one, all_ = run(lower(ill)), run(lower(ill, folded=False))
    assert one.step_time == pytest.approx(all_.step_time, rel=1e-9)


@pytest.mark.slow
def test_a_lone_gpu_at_half_speed_takes_twice_as_long():
    # No communication: kernels and the gaps between them take twice as long.
    ill = lone(faults=[{"gpu": 0, "speed": 0.5}])
    assert run(lower(ill)).step_time == pytest.approx(2 * run(lower(lone())).step_time, rel=1e-12)

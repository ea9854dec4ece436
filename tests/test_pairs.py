"""Pairs of a forward and a backward pass in 1F1B and interleaved, as Megatron-LM overlaps expert parallelism."""

from dataclasses import replace

import numpy as np
import pytest
from builders import configuration_name, scenario, simulated

from simulator.costs import price
from simulator.engine import compiled, reference
from simulator.errors import InputError, ScheduleError
from simulator.memory import memory_of
from simulator.program import STREAMS, lower, lower_schedule
from simulator.report import summarise
from simulator.schedules import (
    PipelineOverlap,
    build,
    check,
    check_posts,
    grid,
    peak_in_flight,
    posts,
)

PAIRS = {"schedule__overlap_moe_expert_parallel_comm": True}
DELAYED = {**PAIRS, "schedule__delay_wgrad_compute": True}
INTERLEAVED = {
    "layout__pp": 2,
    "layout__vpp": 2,
    "layout__ep": 4,
    "schedule__name": "interleaved",
    "training__global_batch_size": 64,
}


def paired(name: str, ranks: int, micro_batches: int, **options: int):
    return build(name, ranks, micro_batches, overlap_moe_expert_parallel_comm=True, **options)


# Schedules


def test_one_rank_runs_each_backward_with_the_forward_of_the_next_micro_batch():
    # As combined_1f1b_schedule_for_no_pipelining writes its phases down.
    assert grid(paired("1f1b", 1, 4)) == ["F0@0      F1@0&B0@0 F2@0&B1@0 F3@0&B2@0 B3@0"]


def test_interleaved_ranks_run_one_more_forward_before_they_pair():
    # Without pairs rank 1 runs 2 forwards of its first stage, then one and one in turn.
    assert grid(paired("interleaved", 2, 2, virtual=2)) == [
        "F0@0      F1@0      F0@2      F1@2      .         B0@2      B1@2      B0@0      B1@0",
        ".         F0@1      F1@1      F0@3      F1@3&B0@3 B1@3      B0@1      B1@1",
    ]


@pytest.mark.parametrize("ranks", [2, 3, 4, 6])
@pytest.mark.parametrize("virtual", [2, 3])
def test_pairs_hold_one_more_chunk_run_to_their_end_and_meet(ranks, virtual):
    for rounds in (1, 2, 5):
        plain = build("interleaved", ranks, rounds * ranks, virtual=virtual)
        schedule = paired("interleaved", ranks, rounds * ranks, virtual=virtual)
        check(schedule)
        chunks = rounds * ranks * virtual
        more = [min(held + 1, chunks) for held in peak_in_flight(plain)]
        assert peak_in_flight(schedule) == more
        for overlap in (PipelineOverlap.NONE, PipelineOverlap.STEADY):
            check_posts(schedule, posts(schedule, overlap))


def test_without_virtual_stages_ranks_would_wait_for_each_other_pair_by_pair():
    with pytest.raises(ScheduleError, match="needs virtual stages"):
        paired("1f1b", 2, 4)
    with pytest.raises(ScheduleError, match="is nothing that zb-h1 does"):
        paired("zb-h1", 2, 4)


# One pair


def pair_rows(kinds: tuple[str, ...], **changes: object):
    """Return the program of F, F&B and B on one rank whose stage has these blocks."""
    one = scenario(
        layout__pp=1, layout__ep=4, training__global_batch_size=16, **{**PAIRS, **changes}
    )
    costs = price(one)
    program = lower_schedule(one, paired("1f1b", 1, 2), replace(costs, stages=(kinds,)))
    return program, next(n for n, action in enumerate(program.actions) if action.kind == "FB")


def labels(program, name: str, action: int) -> list[str]:
    rows = (program.stream == STREAMS.index(name)) & (program.action == action)
    return [program.labels[label] for label in program.label[rows]]


def test_layers_of_a_pair_run_in_megatrons_order():
    # core/models/common/model_chunk_schedule_plan.py:
    #   comm_stream: combine_bwd            | dispatch_fwd->dispatch_bwd   | combine_fwd
    #   comp_stream: attn_fwd->post_attn_fwd| mlp_bwd->mlp_bwd_dw->mlp_fwd | post_attn_bwd->attn_bwd
    program, pair = pair_rows(("moe",))
    assert labels(program, "compute", pair) == [
        "attn(F)",
        "mlp(B)",
        "mlp(W)",
        "mlp(F)",
        "attn(B)",
        "attn(W)",
    ]
    exchanges = ["combine(B)", "dispatch(F)", "dispatch(B)", "combine(F)"]
    assert labels(program, "communication", pair) == exchanges


def test_a_dense_layer_is_paired_with_a_layer_of_experts():
    # The forward's first layer is dense, the backward's first one has experts: its exchanges overlap
    # the dense layer, which DualPipe would run alone.
    program, pair = pair_rows(("dense", "moe"))
    layer = ["attn(F)", "mlp(B)", "mlp(W)", "mlp(F)", "attn(B)", "attn(W)"]
    assert labels(program, "compute", pair) == 2 * layer
    assert labels(program, "communication", pair) == [
        "combine(B)",
        "dispatch(B)",
        "dispatch(F)",
        "combine(F)",
    ]


def test_embedding_and_head_stand_around_the_layers_of_a_pair():
    program, pair = pair_rows(("embedding", "moe", "head"))
    layer = ["attn(F)", "mlp(B)", "mlp(W)", "mlp(F)", "attn(B)", "attn(W)"]
    # Embedding forward, head backward; layers; head forward, embedding backward.
    assert labels(program, "compute", pair) == [
        "attn(F)",
        "attn(B)",
        "attn(W)",
        *layer,
        "attn(F)",
        "attn(W)",
    ]


@pytest.mark.parametrize(("changes", "behind"), [({}, {"mlp(W)"}), (DELAYED, {"mlp(B)"})])
def test_delayed_weight_gradients_let_the_exchange_begin_before_them(changes, behind):
    program, pair = pair_rows(("moe",), **changes)
    rows = np.flatnonzero(program.action == pair)
    name = {int(row): program.labels[program.label[row]] for row in rows}
    home = next(row for row, label in name.items() if label == "dispatch(B)")
    waits = program.wait[program.wait_ptr[home] : program.wait_ptr[home + 1]].tolist()
    assert {name[row] for row in waits} - {"dispatch(F)"} >= behind
    assert ("mlp(W)" in {name[row] for row in waits}) == (behind == {"mlp(W)"})


def waits_of(program, row: int) -> set[int]:
    return set(program.wait[program.wait_ptr[row] : program.wait_ptr[row + 1]].tolist())


def launched(program, action: int) -> list[tuple[str, int]]:
    """Return the rows of an action in the order in which the host launches them, with their numbers."""
    rows = np.flatnonzero(program.action == action)
    return [(program.labels[program.label[row]], int(row)) for row in rows]


def test_one_thread_launches_both_halves_in_the_order_of_megatrons_plan():
    # TransformerLayerSchedulePlan.run: b.moe_combine, f.attn, b.mlp, f.moe_dispatch, b.mlp.backward_dw,
    # b.moe_dispatch, f.mlp, f.moe_combine, b.attn, b.attn.backward_dw.
    program, pair = pair_rows(("moe",), **DELAYED)
    assert [label for label, _ in launched(program, pair)] == [
        "combine(B)",
        "attn(F)",
        "mlp(B)",
        "dispatch(F)",
        "mlp(W)",
        "dispatch(B)",
        "mlp(F)",
        "combine(F)",
        "attn(B)",
        "attn(W)",
    ]


def test_the_next_layers_exchange_runs_beside_delayed_weight_gradients_of_attention():
    # An event is recorded behind attn.backward, not behind backward_dw: the next layer's combine(B)
    # waits for the former.
    program, pair = pair_rows(("moe", "moe"), **DELAYED)
    rows = launched(program, pair)
    second = [row for label, row in rows if label == "combine(B)"][1]
    first = {label: row for label, row in rows if row < second}
    waits = waits_of(program, second)
    assert first["attn(B)"] in waits
    assert first["attn(W)"] not in waits


@pytest.mark.parametrize(("changes", "in_place"), [(PAIRS, True), (DELAYED, False)])
def test_a_delayed_weight_gradient_leaves_a_tensor_parallel_sum_nothing_to_hide_behind(
    changes, in_place
):
    # The norm's gradient, the second attn(B), waits for the sum over the group; in place the weight
    # gradients run in front of it.
    program, pair = pair_rows(("moe",), layout__tp=2, layout__sequence_parallel=True, **changes)
    attention = [label for label, _ in launched(program, pair) if label in ("attn(B)", "attn(W)")]
    first_weights = attention.index("attn(W)")
    assert ("attn(B)" in attention[first_weights:]) == in_place


@pytest.mark.parametrize(("changes", "behind"), [(PAIRS, True), (DELAYED, False)])
def test_a_backward_pass_alone_delays_its_weight_gradients_too(changes, behind):
    # In the cool-down no forward is left to overlap, but backward_dw still runs beside dispatch(B).
    program, pair = pair_rows(("moe",), **changes)
    rows = dict(launched(program, pair + 1))
    assert program.actions[pair + 1].kind == "B"
    assert (rows["mlp(W)"] in waits_of(program, rows["dispatch(B)"])) == behind


# Steps


@pytest.mark.slow
@pytest.mark.parametrize("overlap", ["none", "steady", "all"])
@pytest.mark.parametrize("changes", [PAIRS, DELAYED], ids=configuration_name)
def test_executors_folding_and_bounds_agree_about_pairs(changes, overlap):
    one = scenario(**INTERLEAVED, **changes, communication__pipeline__overlap=overlap)
    program = lower(one)
    timeline, other = compiled.run(program), reference.run(program)
    for column in ("arrive", "start", "end"):
        assert getattr(timeline, column).tobytes() == getattr(other, column).tobytes()
    assert (timeline.end >= 0).all()
    report = summarise(timeline)
    assert all(bound.seconds <= report.step_time * (1 + 1e-12) for bound in report.bounds)
    assert simulated(one, folded=False).step_time == pytest.approx(timeline.step_time, rel=1e-9)


@pytest.mark.slow
def test_pairs_hide_exchanges_and_hold_one_more_chunk():
    plain, pairs = (scenario(**INTERLEAVED, **changes) for changes in ({}, PAIRS))
    before, after = (summarise(simulated(one)) for one in (plain, pairs))
    assert after.step_time < before.step_time
    assert after.breakdown["expert_exposed"] < 0.3 * before.breakdown["expert_exposed"]
    held = [
        max(
            rank.by_category["activations"]
            for rank in memory_of(one, price(one), one.pipeline.fixed)
        )
        for one in (plain, pairs)
    ]
    assert held[1] > held[0]


# Keys


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout__ep": 1}, "has no exchange to overlap with ep 1"),
        ({"stack": "fsdp2"}, "is nothing that the stack 'fsdp2' does"),
        ({"training__recompute": ["full"]}, "does not go with full recompute"),
        ({"layout__vpp": 1, "schedule__name": "1f1b"}, "needs virtual stages"),
        ({"schedule__name": "zb-h1", "layout__vpp": 1}, "is nothing that zb-h1 does"),
    ],
)
def test_pairs_that_nothing_runs_are_refused(changes, message):
    with pytest.raises(InputError, match=message) as error:
        scenario(**{**INTERLEAVED, **PAIRS, **changes})
    assert error.value.key == "schedule.overlap_moe_expert_parallel_comm"


def test_delayed_weight_gradients_need_pairs():
    with pytest.raises(InputError, match="does nothing without overlap_moe_expert_parallel_comm"):
        scenario(schedule__delay_wgrad_compute=True)

"""Bytes per rank, counted by hand for a tiny model."""

from dataclasses import replace

import numpy as np
import pytest
from builders import configuration_name, configurations, dense, lone, scenario

from simulator.costs import price
from simulator.memory import CATEGORIES, activations, memory, over_time
from simulator.program import lower, lower_schedule
from simulator.report import as_dict, summarise
from simulator.scenario import load
from simulator.schedules import Action, Schedule, peak_in_flight

# Attention: (8 + 2 x 4) heads x 128 x 1,024 for Q, K, V; 1,024 x 1,024; a norm. FFN: a norm, 3 x
# 1,024 x 4,096.
LAYER = 16 * 128 * 1024 + 1024 * 1024 + 2 * 1024 + 3 * 1024 * 4096
ENDS = (4096 * 1024, 4096 * 1024 + 1024)  # embedding; head and its norm
EXPERT = 3 * 1024 * 1024
# Without its FFN, with router of 8 experts and one shared expert.
MOE_DENSE = LAYER - 3 * 1024 * 4096 + 8 * 1024 + EXPERT


def by_index(one) -> dict[int, dict[str, float]]:
    return {rank.pipeline_index: rank.by_category for rank in memory(lower(one, folded=False))}


def test_parameters_gradients_and_optimizer_of_a_dense_model_on_one_gpu():
    # 71,312,384 parameters: BF16, FP32 gradients, FP32 master and two FP32 moments.
    (held,) = by_index(lone()).values()
    count = 4 * LAYER + sum(ENDS)
    assert count == 71_312_384
    assert [held[name] for name in CATEGORIES[:3]] == [2 * count, 4 * count, 12 * count]


def test_each_stage_holds_its_own_blocks():
    # pp 2: embedding and two layers, two layers and head; 4 replicas shard the optimizer.
    held = by_index(dense())
    for index in (0, 1):
        count = 2 * LAYER + ENDS[index]
        assert held[index]["parameters"] == 2 * count
        assert held[index]["gradients"] == 4 * count
        assert held[index]["optimizer"] == 12 * count / 4


@pytest.mark.slow
def test_without_zero_every_replica_keeps_all_optimizer_states():
    sharded, whole = by_index(dense()), by_index(dense(layout__zero=0))
    for index in (0, 1):
        assert whole[index]["optimizer"] == 4 * sharded[index]["optimizer"]
        assert {**whole[index], "optimizer": 0} == {**sharded[index], "optimizer": 0}


def test_routed_experts_are_spread_over_ep_and_their_optimizer_over_what_is_left():
    # pp 2 x dp 4, ep 2: stage 1 has two MoE layers and the head. 4 of 8 experts per GPU; 4 replicas
    # shard the dense optimizer states, 4 / 2 those of the routed experts.
    held = by_index(scenario())[1]
    rest, routed = 2 * MOE_DENSE + ENDS[1], 2 * 8 * EXPERT / 2
    assert held["parameters"] == 2 * (rest + routed)
    assert held["optimizer"] == pytest.approx(12 * (rest / 4 + routed / 2))


def test_dualpipe_holds_every_stage_twice():
    # Rank 0 and rank 1 both hold stages 0 and 1: all parameters, and 2 x 4 replicas shard the
    # optimizer.
    held = by_index(dense(schedule__name="dualpipe"))
    count = 4 * LAYER + sum(ENDS)
    assert [held[index]["parameters"] for index in (0, 1)] == [2 * count] * 2
    assert [held[index]["optimizer"] for index in (0, 1)] == [12 * count / 8] * 2


def test_fp8_training_keeps_bf16_moments():
    # Master weights in FP32, two moments in BF16: 8 B per parameter (arXiv 2412.19437, section
    # 3.3.3).
    (held,) = by_index(lone(precision__recipe="fp8_block")).values()
    assert held["optimizer"] == 8 * 71_312_384


# Activations

# What a layer needs while its backward pass runs: two residual streams of 2,048 x 1,024 and the
# gradients of gate and up, 2 x 4,096 wide, in BF16.
WORKING = 2048 * 2 * (2 * 1024 + 2 * 4096)


def test_what_a_dense_layer_keeps_for_its_backward_pass():
    # BF16, per token: two residual streams and two norm outputs, 4 x 1,024; Q of 8 heads, K and V
    # of 4, 128 wide, 2,048 in all; the softmax's sums, 8 in FP32; the attention's output, 1,024;
    # gate and up, and SwiGLU's output, 3 x 4,096. 2,048 tokens.
    per_token = 2 * (4 * 1024 + 2048 + 1024 + 3 * 4096) + 4 * 8
    assert price(dense(layout__pp=4)).saved(1) == 2048 * per_token


@pytest.mark.slow
def test_recompute_keeps_neither_norms_nor_swiglu():
    kept = price(dense(layout__pp=4)).saved(1) - price(
        dense(layout__pp=4, training__recompute=["norm", "swiglu"])
    ).saved(1)
    assert kept == 2048 * 2 * (2 * 1024 + 4096)


@pytest.mark.parametrize(("batch", "micro_batches"), [(16, 8), (32, 16), (4, 2)])
@pytest.mark.slow
def test_1f1b_keeps_as_many_micro_batches_as_stages_are_left(batch, micro_batches):
    # pp 4 x dp 2: rank r keeps min(4 - r, micro-batches) micro-batches of its one layer. While a
    # backward pass runs, two residual streams and the gradients of gate and up are there besides,
    # less what the head behind the last layer has freed by then.
    head = 2048 * (4 * 1024 + 2 * 4096)
    one = dense(layout__pp=4, training__global_batch_size=batch)
    costs, held = price(one), by_index(one)
    assert one.micro_batches == micro_batches
    for rank in range(4):
        besides = WORKING - (head if rank == 3 else 0)
        assert held[rank]["activations"] == (
            min(4 - rank, micro_batches) * costs.saved(rank) + besides
        )


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.slow
def test_dualpipe_keeps_one_chunk_more_than_it_has_ranks(stages):
    # With equal stages: P + 1 chunks on every rank (github.com/deepseek-ai/DualPipe: PP + 1 times
    # the activations), and what the passes of the last pair need besides.
    one = scenario(schedule__name="dualpipe", layout__pp=stages, training__global_batch_size=32)
    equal = replace(price(one), stages=(("moe",),) * stages)
    held = memory(lower_schedule(one, one.pipeline.fixed, equal, folded=False))
    assert peak_in_flight(one.pipeline.fixed) == [stages + 1] * stages
    (memory_,) = (block.memory for block in equal.stage(0))
    most = max(memory_.forward, memory_.transient)
    for rank in held:
        chunks = rank.by_category["activations"] / equal.saved(0)
        assert stages + 1 <= chunks <= stages + 1 + most / equal.saved(0)


@pytest.mark.parametrize("name", ["1f1b", "dualpipe", "zb-h1"])
def test_activations_of_all_ranks_at_once_are_those_of_one_action_after_another(name):
    one = scenario(schedule__name=name)
    costs, schedule = price(one), one.pipeline.fixed
    passes = {kind: run for kind, run in zip("FBIW", activations._PASSES, strict=True)}
    for rank, change in enumerate(activations.changes(costs, schedule)):
        now = most = 0.0
        halves = [half for action in schedule.ranks[rank] for half in action.halves()]
        for kind, _, stage in halves:
            taken, extra = passes[kind](costs.memories(stage))
            while_it_runs = now + extra
            now += taken
            most = max(most, while_it_runs, now)
        assert change.peak == most
        assert len(change.taken) == len(halves)


def test_a_split_backward_pass_keeps_what_its_weight_gradients_read():
    # F0 I0 F1 I1 W0 W1. Per token and layer, in BF16, W reads the inputs of qkv (1,024), o (1,024),
    # gate and up (1,024), down (4,096), and the gradients of their outputs: 2,048, 1,024, 8,192,
    # 1,024; of the head 1,024 and 4,096 logits; of the embedding nothing.
    one = lone(training__global_batch_size=2)
    costs = price(one)
    for_weights = 2048 * 2 * (4 * (7168 + 12288) + 1024 + 4096)

    def peak(*texts: str) -> float:
        schedule = Schedule("by hand", 1, 2, (tuple(Action.parse(text) for text in texts),))
        return memory(lower_schedule(one, schedule, costs))[0].by_category["activations"]

    # W frees what is left of a micro-batch, so the second one is alone.
    alone = peak("F0@0", "I0@0", "W0@0")
    assert peak("F0@0", "I0@0", "W0@0", "F1@0", "I1@0", "W1@0") == alone
    assert peak("F0@0", "I0@0", "F1@0", "I1@0", "W0@0", "W1@0") == alone + for_weights
    assert peak("F0@0", "I0@0", "W0@0", "F1@0", "B1@0") == alone


def test_buffers_are_for_what_an_exchange_brings_and_for_the_sends():
    # Dispatch and combine: received tokens x 1,024 x 2 B each; 4 residual streams of 2,048 x 1,024
    # x 2 B.
    one = scenario()
    costs = price(one)
    due = 2 * costs.work.received * 1024 * 2 + 4 * 2048 * 1024 * 2
    assert by_index(one)[0]["buffers"] == pytest.approx(due)
    assert (
        1 < costs.work.received / 2048 < 2
    )  # ep 2: a token's 2 experts lie on both GPUs more often than not


# Reports


@pytest.mark.parametrize("changes", configurations()[::3], ids=configuration_name)
@pytest.mark.slow
def test_every_pipeline_index_is_reported_with_every_category(changes):
    held = memory(lower(scenario(**changes), folded=False))
    assert [rank.pipeline_index for rank in held] == list(range(len(held)))
    for rank in held:
        assert tuple(rank.by_category) == CATEGORIES
        # FP32 moments are updated in place: the update needs nothing besides.
        assert [name for name, size in rank.by_category.items() if size <= 0] == ["update"]
        assert rank.peak == pytest.approx(sum(rank.by_category.values()))


@pytest.mark.slow
def test_a_longer_sequence_and_a_larger_micro_batch_take_more():
    base = max(sum(held.values()) for held in by_index(scenario()).values())
    for changes in ({"training__seq_length": 4096}, {"training__micro_batch_size": 2}):
        assert max(sum(held.values()) for held in by_index(scenario(**changes)).values()) > base


@pytest.mark.slow
def test_deepseek_v3_fits_its_gpu():
    one = lower(load("h800-2048"))
    worst = max(memory(one), key=lambda rank: rank.peak)
    assert 0.5 < worst.peak / one.scenario.gpu.memory.capacity < 1


def test_the_report_says_the_same():
    from simulator.engine import run

    one = lower(scenario())
    tree = as_dict(summarise(run(one)))["memory"]
    held = memory(one)
    assert tree["peak_bytes"] == max(rank.peak for rank in held)
    assert [row["peak_bytes"] for row in tree["by_stage"]] == [rank.peak for rank in held]
    assert sum(tree["by_category"].values()) == pytest.approx(tree["peak_bytes"])
    assert tree["capacity_bytes"] == one.scenario.gpu.memory.capacity


# Peaks of activations, and what ZeRO's collectives take


def test_full_recompute_peaks_while_the_backward_pass_has_a_layer_whole_again():
    # 2,048 tokens, one micro-batch. Kept: the inputs of 4 layers, 2,048 x 1,024 x 2 B = 4,194,304
    # each. A layer that is recomputed has all 38,944 B per token (see above) but its input,
    # 75,563,008 more, and its gradients; by then the head has freed its norm and its logits.
    one = lone(training__global_batch_size=1, training__recompute=["full"])
    (held,) = by_index(one).values()
    assert held["activations"] == 4 * 4_194_304 + 75_563_008 + WORKING


def test_activations_are_taken_when_a_forward_pass_starts_and_freed_when_a_backward_pass_ends():
    # F0 0-1, F1 1-2, B0 2-4, B1 4-6 s. Each keeps 38,944 B per token and layer and the head's 12 x
    # 1,024 (see above).
    one = lone(training__global_batch_size=2)
    kept = 2048 * (4 * 38_944 + 12 * 1024)
    order = tuple(Action.parse(text) for text in ("F0@0", "F1@0", "B0@0", "B1@0"))
    run_ = lower_schedule(one, Schedule("by hand", 1, 2, (order,)), price(one))
    times, held = over_time(run_, 0, np.array([0.0, 1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0, 6.0]))
    assert times.tolist() == [0.0, 1.0, 4.0, 6.0]
    assert held.tolist() == [kept, 2 * kept, kept, 0.0]


@pytest.mark.parametrize(("zero", "whole"), [(0, 0), (1, 0), (2, 4), (3, 4 + 2 * 2)])
@pytest.mark.slow
def test_sharded_gradients_and_parameters_are_whole_for_a_block_at_a_time(zero, whole):
    # The largest block is a layer. ZeRO 2 sums its FP32 gradients before it keeps a shard of them;
    # ZeRO 3 has a layer's BF16 parameters whole while it computes, and gathers the next one's. Four
    # residual streams of 2,048 x 1,024 x 2 B for the sends.
    for held in by_index(dense(layout__zero=zero)).values():
        assert held["buffers"] == 4 * 2048 * 1024 * 2 + whole * LAYER


@pytest.mark.parametrize("tp", [2, 4])
@pytest.mark.slow
def test_tensor_parallel_ranks_have_room_for_a_whole_input_and_a_whole_partial_sum(tp):
    # 2,048 x 1,024 x 2 B each, whatever the degree; the sends' four streams are cut over the group.
    (whole, *_), stream = by_index(dense(layout__tp=tp)).values(), 2048 * 1024 * 2
    assert whole["buffers"] == 2 * stream + 4 * stream / tp

"""Sharded data parallelism as PyTorch runs it: copies, prefetches, buffers, and when gradients are summed."""

from dataclasses import replace

import numpy as np
import pytest
from builders import dense, scenario, simulated
from calibration import measured, processor
from parallel_cases import SHORT

from simulator import inputs
from simulator.bounds import traffic
from simulator.costs import buckets
from simulator.errors import InputError
from simulator.hardware import StackConfig
from simulator.memory import memory
from simulator.ops.optimizer import update
from simulator.ops.sharding import cast_shard
from simulator.ops.streams import Stream
from simulator.precision import RECIPES
from simulator.program import Program, lower
from simulator.scenario import Scenario

NODE = {
    **SHORT,
    "nodes": 1,
    "fabric__kind": "single_node",
    "layout__pp": 1,
    "layout__zero": 3,
    "training__global_batch_size": 4,
    "stack": "fsdp2",
}
"""One micro-batch on each of 4 replicas: embedding, 4 layers, head."""
FIGURES = measured("sharded_copies")


def rows(one: Program, label: str) -> list[int]:
    """Return the rows of a label on the first rank."""
    number = one.labels.index(label)
    return np.flatnonzero((one.label == number) & (one.rank == 0)).tolist()


def waits(one: Program, row: int) -> list[int]:
    return one.wait[one.wait_ptr[row] : one.wait_ptr[row + 1]].tolist()


def stack(name: str) -> StackConfig:
    return inputs.validate(inputs.data("stacks", name), StackConfig)


# Calibration


@pytest.mark.parametrize(
    ("kind", "to", "width"), [("shard_copy", "bf16", 4), ("shard_cast", "fp32", 6)]
)
def test_a_copy_reaches_what_chunk_cat_does_on_an_h100(kind, to, width):
    # Billions of elements per second, each read as 2 bytes and written as 2 or 4; measured alone,
    # while the table's shares stand for a busy link.
    row = next(
        row for row in FIGURES["chunk_cat"]["rows"] if (row["from"], row["to"]) == ("bf16", to)
    )
    kernels = processor("h100").kernels
    share = row["after"] * 1e9 * width / 3.35e12 / kernels.overlap_slowdown.memory
    assert kernels.memory[kind] == pytest.approx(share, abs=5e-4)


def test_copying_out_moves_as_much_on_a_gpu_that_is_not_named():
    # A check, which sets nothing: parameters read and written, 1.44 to 1.58 TB/s. An A100 of 80 GB
    # has 2.04 TB/s: 0.71 to 0.78 of it; an H100 3.35: 0.43 to 0.47. The share lies between.
    rates = [2 * row["size_gb"] / row["gpu_ms"] for row in FIGURES["split_with_sizes_copy"]["rows"]]
    kernels = processor("h100").kernels
    share = kernels.memory["shard_copy"] * kernels.overlap_slowdown.memory
    assert max(rates) / 3.35 < share < min(rates) / 2.039


@pytest.mark.parametrize("name", ["fsdp1", "fsdp2"])
def test_a_gather_takes_the_host_what_a_profile_shows(name):
    assert stack(name).sharding.host == pytest.approx(FIGURES["host"][0]["after"] * 1e-6)


# Master weights as shards


def of_shards(one: Scenario, masters: bool) -> Scenario:
    """Return a scenario whose stack shards master weights, or has a copy of its own to gather."""
    sharding = one.stack.sharding.model_copy(update={"masters": masters})
    return replace(one, stack=one.stack.model_copy(update={"sharding": sharding}))


def latencies(one: Program, kind: str) -> dict[int, float]:
    return {flow.label.what: flow.latency for flow in one.coflows if flow.label.kind.value == kind}


@pytest.mark.parametrize("name", ["fsdp1", "fsdp2"])
def test_each_gather_waits_for_the_cast_of_its_shard(name):
    one = dense(**{**NODE, "stack": name})
    cast, whole = (lower(of_shards(one, masters)) for masters in (True, False))
    more, less = (latencies(program, "all_gather") for program in (cast, whole))
    # A layer on 4 replicas: a shard of 1/4, each read in 4 bytes and written in 2.
    layer = one.model.attention_parameters + one.model.ffn_parameters(4096)
    layer += one.model.norm_parameters
    alone = processor("h100").seconds((cast_shard(one.recipe, layer / 4),), overlapped=False)
    differences = [more[what] - less[what] for what in more]
    assert any(difference == pytest.approx(alone, rel=1e-6) for difference in differences)
    assert min(differences) > 0
    assert latencies(cast, "reduce_scatter") == latencies(whole, "reduce_scatter")


def test_the_update_then_writes_master_weights_alone():
    recipe, kernels = RECIPES["bf16"], stack("fsdp2").optimizer
    copies = {
        gathered: sum(
            op.bytes
            for op in update(recipe, kernels, 10, 10, gathered=gathered)
            if op.name == "copy parameters"
        )
        for gathered in (0, 4, 10)
    }
    assert copies == {0: 60, 4: 36, 10: 0}


def test_only_parameters_with_peers_are_cast_in_gathers():
    one = lower(scenario(layout__pp=1, layout__ep=8, layout__zero=3, stack="fsdp2"))
    hosts = {0: (0,)}
    held = buckets.updated(one.costs, one.scenario.layout, hosts, [0])
    assert held.routed > 0
    assert buckets.gathered(one.costs, one.scenario.layout, hosts, [0]) == held.dense


# FSDP2


@pytest.mark.slow
def test_every_block_is_copied_out_and_its_gradients_in():
    # Forward: embedding, 4 layers, head. Backward: the layers, since the root has stayed whole.
    one = lower(dense(**NODE))
    assert len(rows(one, "copy out")) == len(rows(one, "all-gather")) == 6 + 4
    assert len(rows(one, "copy in")) == len(rows(one, "reduce-scatter")) == 6
    # A layer has 15,730,688 parameters (test_zero). Out: 2 + 2 bytes of each at 0.548 x 1.089 of
    # 3.35 TB/s and a gap of 2 us: 33.47 us. In: 2 + 4 bytes at 0.457 x 1.089: 58.61 us.
    assert one.seconds[rows(one, "copy out")[1]] == pytest.approx(33.47e-6, rel=1e-3)
    assert one.seconds[rows(one, "copy in")[1]] == pytest.approx(58.61e-6, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsdp1", "fsdp2", "deepspeed", "megatron"])
def test_copies_are_among_the_seconds_of_a_rank(name):
    one = lower(dense(**{**NODE, "stack": name}))
    kernels = (one.coflow < 0) & (one.rank == 0)
    assert sum(one.class_seconds[0].values()) == pytest.approx(
        one.seconds[kernels].sum(), rel=1e-12
    )


@pytest.mark.slow
def test_two_buffers_live_in_a_forward_pass_and_one_in_a_backward_pass():
    # A gather waits for the copy that empties its buffer, and for the gather in front of it.
    one = lower(dense(**NODE))
    gathers, copies = rows(one, "all-gather"), rows(one, "copy out")
    for number in range(2, 6):
        assert sorted(waits(one, gathers[number])) == sorted(
            [gathers[number - 1], copies[number - 2]]
        )
    for number in range(7, 10):
        assert sorted(waits(one, gathers[number])) == [gathers[number - 1], copies[number - 1]]


@pytest.mark.slow
def test_gathers_are_launched_behind_the_block_before_in_forward_passes_and_before_it_in_backward_passes():
    # Rows are launched in their order. The head, which is whole, has the first backward prefetch.
    one = lower(dense(**NODE))
    gathers, copies = rows(one, "all-gather"), rows(one, "copy out")
    for number in range(6):
        assert one.label[gathers[number] + 1] == one.labels.index("copy out")
        assert gathers[number] + 1 == copies[number]
    first_kernel = rows(one, "mlp(B)")[0]
    assert gathers[6] < first_kernel
    for number in range(6, 9):
        assert gathers[number + 1] == copies[number] + 1


@pytest.mark.slow
def test_torchtitan_prefetches_forward_with_expert_parallelism():
    one = lower(scenario(**{**NODE, "layout__ep": 2}))
    gathers = rows(one, "all-gather")
    # The second block's gather is launched before the first block runs.
    assert gathers[1] < rows(one, "attn(F)")[0]


@pytest.mark.slow
def test_gradients_are_copied_in_once_the_block_before_has_been_reduced():
    one = lower(dense(**NODE))
    scatters, copies = rows(one, "reduce-scatter"), rows(one, "copy in")
    for number in range(6):
        assert copies[number] in waits(one, scatters[number])
        if number:
            assert scatters[number - 1] in waits(one, copies[number])


@pytest.mark.slow
def test_a_slow_reduction_stops_the_backward_pass_of_the_block_behind_the_next():
    # 1 GB/s: reductions take far longer than blocks, and kernels stand still for them.
    slow = dense(**{**NODE, "node__nvlink": "2 GB/s bidirectional"})
    timeline = simulated(slow)
    one = timeline.program
    scatters, copies = rows(one, "reduce-scatter"), rows(one, "copy in")
    for before, after in zip(scatters[:-1], copies[1:], strict=True):
        assert timeline.start[after] >= timeline.end[before]
    free = slow.stack.sharding.model_copy(update={"reductions": 0})
    unlimited = replace(slow, stack=slow.stack.model_copy(update={"sharding": free}))
    begins = simulated(unlimited).start[copies]
    assert (begins[2:] < timeline.start[copies][2:]).all()


# FSDP1


@pytest.mark.slow
def test_the_first_fsdp_gathers_behind_the_reduction_on_one_stream():
    one = lower(dense(**{**NODE, "stack": "fsdp1"}))
    assert "copy out" not in one.labels
    assert not (one.stream == Stream.GRADIENT).any()
    gathers, scatters = rows(one, "all-gather"), rows(one, "reduce-scatter")
    # Backward: the head's and then each layer's gradients travel before the next layer is gathered.
    for number in range(6, 10):
        assert scatters[number - 6] in waits(one, gathers[number])


@pytest.mark.slow
def test_prefetching_behind_the_reduction_costs_a_backward_pass_its_overlap():
    slow = {**NODE, "node__nvlink": "20 GB/s bidirectional", "precision__gradients": "bf16"}
    first, second = (
        simulated(dense(**{**slow, "stack": name})).step_time for name in ("fsdp1", "fsdp2")
    )
    assert first > second


# When gradients are summed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zero", "sync", "sums"),
    [(1, None, 1), (1, "every_micro_batch", 4), (2, None, 4), (2, "last", 1), (3, "last", 1)],
)
def test_gradients_are_summed_after_every_micro_batch_or_after_the_last(zero, sync, sums):
    # 4 micro-batches, gradients of 4 bytes, 3/4 of which leave each of 4 GPUs; parameters of 2,
    # gathered once, or under ZeRO 3 twice for each micro-batch.
    changes = {**NODE, "stack": "megatron", "layout__zero": zero, "layout__grad_sync": sync}
    one = dense(**{**changes, "training__global_batch_size": 16})
    gathers = 1 if zero < 3 else 2 * 4
    sent = traffic(lower(one))["data"]
    assert sent == (0.0, pytest.approx(3 / 4 * (4 * sums + 2 * gathers) * one.model.parameters))


@pytest.mark.slow
def test_gradients_that_wait_for_the_last_micro_batch_stay_whole():
    held = [
        memory(lower(dense(**NODE, layout__grad_sync=sync)))[0].by_category["gradients"]
        for sync in ("every_micro_batch", "last")
    ]
    assert held[1] == pytest.approx(4 * held[0])


def test_no_other_moment_is_known():
    with pytest.raises(InputError, match="grad_sync"):
        dense(**NODE, layout__grad_sync="never")

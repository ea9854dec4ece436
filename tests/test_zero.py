"""ZeRO stages: bytes of gathers and scatters, who waits for what, what stays in memory."""

import numpy as np
import pytest
from builders import dense, scenario, simulated
from parallel_cases import SHORT

from simulator.bounds import traffic
from simulator.costs import price
from simulator.memory import memory, memory_of
from simulator.program import STREAMS, Program, lower
from simulator.timeline import Timeline

FOUR = {**SHORT, "nodes": 1, "fabric__kind": "single_node", "layout__pp": 1}
"""4 replicas on a node, 4 micro-batches each."""


def data(**changes: object) -> tuple[float, float]:
    return traffic(lower(dense(**{**SHORT, **changes})))["data"]


# Bytes


@pytest.mark.parametrize(
    ("changes", "each"),
    [
        # Bytes per parameter that pass: gradients FP32, parameters BF16; 4 micro-batches.
        ({"layout__zero": 0}, 4 + 4),  # a reduce-scatter and an all-gather of gradients
        ({"layout__zero": 1}, 4 + 2),  # gradients scattered, parameters gathered
        ({"layout__zero": 2}, 4 * 4 + 2),  # gradients scattered after every backward pass
        ({"layout__zero": 3}, 4 * (4 + 2 * 2)),  # and parameters gathered before every pass
        ({"layout__zero": 3, "layout__reshard_after_forward": False}, 4 * 4 + 2),  # gathered once
    ],
    ids=["0", "1", "2", "3", "3 without resharding"],
)
@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.slow
def test_gathers_and_scatters_by_hand(changes, each, overlap):
    # Over NVLink of one node: 3/4 of what passes.
    count = dense(**FOUR).model.parameters
    given = {
        **FOUR,
        **changes,
        "layout__overlap_grad_reduce": overlap,
        "layout__overlap_param_gather": overlap,
    }
    assert data(**given) == (0.0, pytest.approx(3 / 4 * each * count, rel=1e-12))


@pytest.mark.parametrize(("zero", "scatters", "gathers"), [(1, 1, 1), (2, 2, 1), (3, 2, 4)])
@pytest.mark.slow
def test_hybrid_sharding_by_hand(zero, scatters, gathers):
    # 2 nodes of 4, shards within a node: what is scattered and gathered stays on NVLink; a quarter
    # of the gradients is then summed with the other node's over the NIC, an all-reduce of 2 GPUs: 2
    # x 1/2. 2 micro-batches.
    count = dense(layout__pp=1).model.parameters
    nic, nvlink = data(layout__pp=1, layout__zero=zero, layout__shard=4)
    assert nvlink == pytest.approx(3 / 4 * (4 * scatters + 2 * gathers) * count, rel=1e-12)
    assert nic == pytest.approx(scatters * 2 * 1 / 2 * count / 4 * 4, rel=1e-12)


@pytest.mark.slow
def test_context_parallel_ranks_share_parameters_too():
    # cp 2 x dp 2: 4 GPUs hold the same parameters, as without cp; the micro-batches are 8, and
    # gradients wait for all.
    count = dense(**FOUR).model.parameters
    assert data(**FOUR, layout__cp=2) == (0.0, pytest.approx(3 / 4 * 6 * count, rel=1e-12))


@pytest.mark.slow
def test_tensor_parallel_ranks_share_nothing():
    # tp 2 x dp 2: half of the parameters among 2.
    count = dense(**FOUR).model.parameters
    assert data(**FOUR, layout__tp=2) == (0.0, pytest.approx(1 / 2 * 6 * count / 2, rel=1e-12))


# Who waits for what


def rows(one: Program, stream: str) -> list[int]:
    return np.flatnonzero((one.stream == STREAMS.index(stream)) & (one.rank == 0)).tolist()


def step(**changes: object) -> Timeline:
    """Return a step of one micro-batch per replica: embedding, 4 layers, head."""
    return simulated(dense(**{**FOUR, "training__global_batch_size": 4, **changes}))


def blocks(timeline: Timeline, kind: str) -> list[tuple[float, float]]:
    """Return when each block of a pass computes, by the parameters that it waits for."""
    one = timeline.program
    gathers = set(rows(one, "data"))
    action = next(number for number, action in enumerate(one.actions) if action[2] == kind)
    kernels = [row for row in rows(one, "compute") if one.action[row] == action]
    begins = [
        row
        for row in kernels
        if gathers & set(one.wait[one.wait_ptr[row] : one.wait_ptr[row + 1]].tolist())
    ]
    ends = [*begins[1:], kernels[-1] + 1]
    return [
        (timeline.start[first], timeline.end[[k for k in kernels if k < after][-1]])
        for first, after in zip(begins, ends, strict=True)
    ]


@pytest.mark.parametrize("nvlink", ["400 GB/s bidirectional", "20 GB/s bidirectional"])
@pytest.mark.slow
def test_zero_3_gathers_one_block_ahead(nvlink):
    # A block's gather begins when the block before the one before it has computed, or when the last
    # gather is done: forward passes embedding, 4 layers, head, then the same backwards.
    timeline = step(layout__zero=3, node__nvlink=nvlink)
    one = timeline.program
    gathers = rows(one, "data")
    assert len(gathers) == 2 * 6
    ahead, back = blocks(timeline, "F"), blocks(timeline, "B")
    assert len(ahead) == len(back) == 6
    for computes, own in ((ahead, gathers[:6]), (back, gathers[6:])):
        for number, row in enumerate(own):
            assert timeline.end[row] <= computes[number][0]
            before = timeline.end[own[number - 1]] if number else 0.0
            due = computes[number - 2][1] if number > 1 else 0.0
            if number > 1:
                assert timeline.start[row] == pytest.approx(max(before, due), rel=1e-12)


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.slow
def test_a_blocks_gradients_travel_beside_the_backward_pass_of_the_block_before_it(zero):
    # Fast links, long sequences: each reduce-scatter begins when its block's weight gradients are
    # there, and is done before the next. The embedding's, which take 4 us, come before the last
    # layer's have travelled.
    timeline = step(
        layout__zero=zero, node__nvlink="40 TB/s bidirectional", training__seq_length=8192
    )
    one = timeline.program
    reduces = [
        row for row in rows(one, "gradient") if one.labels[one.label[row]] == "reduce-scatter"
    ]
    assert len(reduces) == 6
    weights = [row for row in rows(one, "compute") if one.labels[one.label[row]] == "attn(W)"]
    assert len(weights) == 6  # of the head, 4 layers, the embedding
    for row, made in zip(reduces, weights, strict=True):
        travelling = rows(one, "gradient")
        free = timeline.end[travelling[travelling.index(row) - 1]] if row == reduces[-1] else 0.0
        assert timeline.start[row] == pytest.approx(max(timeline.end[made], free), rel=1e-12)
    for row, after in zip(reduces[:-2], weights[1:-1], strict=True):
        assert timeline.end[row] < timeline.end[after]


@pytest.mark.slow
def test_overlap_shortens_the_step():
    times = {
        (grad, param): step(
            layout__overlap_grad_reduce=grad, layout__overlap_param_gather=param
        ).step_time
        for grad in (True, False)
        for param in (True, False)
    }
    assert times[True, True] < min(times[True, False], times[False, True])
    assert max(times[True, False], times[False, True]) < times[False, False]


@pytest.mark.slow
def test_gradients_that_do_not_overlap_are_exposed_in_full():
    # Without overlap everything that the data parallel ranks share lies outside of compute.
    timeline = step(layout__overlap_grad_reduce=False, layout__overlap_param_gather=False)
    one = timeline.program
    shared = [row for name in ("data", "gradient") for row in rows(one, name)]
    kernels = [row for row in rows(one, "compute") if one.labels[one.label[row]] != "optimizer"]
    assert timeline.start[shared].min() >= timeline.end[kernels].max()


# Memory


@pytest.mark.parametrize(
    ("zero", "shares"), [(0, (1, 1, 1)), (1, (1, 1, 4)), (2, (1, 4, 4)), (3, (4, 4, 4))]
)
@pytest.mark.parametrize("shard", [0, 2])
@pytest.mark.slow
def test_each_stage_shards_one_thing_more(zero, shares, shard):
    # Parameters in BF16, gradients in FP32, three optimizer states in FP32, over 4 replicas or
    # hybrid groups of 2.
    one = dense(**FOUR, layout__zero=zero, layout__shard=shard)
    held = memory(lower(one))[0].by_category
    parts = [min(share, shard) if shard else share for share in shares]
    due = [size * one.model.parameters / part for size, part in zip((2, 4, 12), parts, strict=True)]
    assert [held[name] for name in ("parameters", "gradients", "optimizer")] == pytest.approx(due)


def test_experts_are_sharded_among_those_who_hold_the_same():
    # ep 2 on 4 GPUs: routed parameters are held by 2, and every GPU has a half of its half.
    one = scenario(**FOUR, layout__ep=2, layout__zero=3)
    routed = one.model.moe_layers * one.model.n_routed_experts * one.model.expert_parameters
    held = memory(lower(one))[0].by_category
    assert held["parameters"] == pytest.approx(
        2 * ((one.model.parameters - routed) / 4 + routed / 2 / 2)
    )


def test_parameters_that_are_not_sharded_again_stay_whole_for_the_step():
    one = dense(**FOUR, layout__zero=3, layout__reshard_after_forward=False)
    assert memory(lower(one))[0].by_category["parameters"] == pytest.approx(
        2 * one.model.parameters
    )


def test_zero_3_has_two_blocks_parameters_whole_at_a_time():
    # Of the dense model's blocks a layer is the largest: 15,730,688 parameters of 2 B.
    layer = 16 * 128 * 1024 + 1024 * 1024 + 2 * 1024 + 3 * 1024 * 4096
    whole, shards = (
        memory_of(one, price(one), one.pipeline.fixed)[0].by_category["buffers"]
        for one in (dense(layout__zero=3), dense(layout__zero=2))
    )
    assert whole - shards == 2 * layer * 2

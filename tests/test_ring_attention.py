"""Context parallel attention as PyTorch runs it: kernels, merges and gradients in FP32."""

import pytest
from builders import dense
from parallel_cases import SHORT

from simulator.bounds import traffic
from simulator.costs.pricing import work
from simulator.errors import InputError
from simulator.ops import Op, Transfer, Work
from simulator.ops.attention import forward, input_gradient
from simulator.ops.attention_core import core, core_backward
from simulator.program import lower

RING = {**SHORT, "layout__pp": 1, "layout__cp": 4, "stack": "fsdp2"}
"""Sequences of 512 tokens over 4 ranks: 128 each, 8 query heads of 128 and 4 of keys and values."""


def given(**changes: object) -> Work:
    return work(dense(**{**RING, **changes}), None)


def names(ops: tuple[Op | Transfer, ...]) -> list[str]:
    return [op.name for op in ops]


def test_keys_and_values_are_gathered_once_while_the_first_kernel_runs():
    ops = core(given())
    assert names(ops) == [
        "join keys and values",
        "gather keys and values",
        "core",
        *("core", "merge outputs") * 3,
    ]
    (gather,) = (op for op in ops if isinstance(op, Transfer))
    # Of all 4 ranks: 128 tokens with 8 heads of keys and of values, 128 wide, in BF16.
    assert (gather.bytes, gather.concurrent) == (4 * 128 * 8 * 256 * 2, 1)


def test_asked_for_sends_each_kernel_but_the_last_overlaps_one():
    ops = core(given(layout__cp_comm="p2p"))
    sends = [op for op in ops if isinstance(op, Transfer)]
    assert [op.group for op in sends] == ["cp_ring"] * 3
    # What one rank sends is 3/4 of the buffer.
    assert [op.bytes * 3 / 4 for op in sends] == pytest.approx([128 * 8 * 256 * 2] * 3)


def test_outputs_are_merged_in_fp32():
    # 128 tokens x 8 heads x 128. The first merge reads two BF16 outputs and writes FP32; the second
    # reads and writes FP32, with a BF16 output; the last writes BF16: 8 + 10 + 8 bytes.
    merges = [op for op in core(given()) if op.name == "merge outputs"]
    assert [op.bytes / (128 * 8 * 128) for op in merges] == [8, 10, 8]


def test_gradients_are_added_in_fp32_and_passed_on_behind_each_kernel():
    ops = core_backward(given())
    assert names(ops) == [
        "join keys and values",
        "gather keys and values",
        *("core backward", "add gradients", "pass key-value gradients") * 4,
        "cast key-value gradients",
    ]
    passes = [op for op in ops if isinstance(op, Transfer) and op.group == "cp_ring"]
    # FP32. The next kernel overlaps a pass; behind the last kernel nothing does.
    assert [op.bytes * 3 / 4 for op in passes] == pytest.approx([128 * 8 * 256 * 4] * 4)
    assert [op.concurrent for op in passes] == [1, 1, 1, 0]
    # Per element of queries (1), keys and values (2): BF16 in; FP32 read, but first; FP32 written,
    # in the end BF16 for queries.
    sums = [op.bytes / (128 * 8 * 128) for op in ops if op.name == "add gradients"]
    assert sums == [3 * 6, 3 * 10, 3 * 10, 8 + 2 * 10]


def test_a_ring_has_the_flops_of_one_kernel_and_keeps_as_much():
    ring, whole = core(given()), core(given(stack="megatron", layout__cp_comm="all_gather"))
    (kernel,) = (op for op in whole if isinstance(op, Op))
    kernels = [op for op in ring if isinstance(op, Op) and op.kind == "attention"]
    assert sum(op.flops for op in kernels) == pytest.approx(kernel.flops)
    # Keys and values have been repeated: 4 heads more of both, 128 wide, in BF16.
    assert sum(op.saved for op in kernels) == kernel.saved + 128 * 4 * 256 * 2
    assert {op.seq_length for op in kernels} == {128}


def test_each_kernel_of_a_balanced_ring_has_as_many_pairs():
    # Chunks of c = 64 from both ends. The first kernel is causal over 2 c x 2 c; the others are
    # whole: 2 c queries with c keys, or c with 2 c. All are 2 c^2 pairs (the causal one but for
    # half of its diagonal), with 2 FLOPs for each of 128 products twice, on 8 heads.
    flops = [op.flops for op in core(given()) if isinstance(op, Op) and op.kind == "attention"]
    assert flops == [2 * 64**2 * 8 * 2 * (128 + 128)] * 4


def test_heads_are_repeated_and_positions_are_complex_products():
    ahead = {op.name: op for op in forward(given()) if isinstance(op, Op)}
    back = {op.name: op for op in input_gradient(given())[0] if isinstance(op, Op)}
    # Keys and values: 4 heads read, 8 written, 256 wide together, in BF16; backward the other way.
    assert ahead["repeat heads"].bytes == 128 * (4 + 8) * 256 * 2
    assert back["sum repeated heads"].bytes == ahead["repeat heads"].bytes
    # Queries and keys: 12 heads of 128. BF16 to FP32 (6), the product (8), to BF16 (6).
    assert ahead["rope"].bytes == back["rope backward"].bytes == 128 * 12 * 128 * 20
    fused = [op.name for op in forward(given(stack="megatron"))]
    assert "repeat heads" not in fused


@pytest.mark.slow
def test_without_context_parallelism_there_is_no_ring():
    assert names(core(given(layout__cp=1))) == ["core"]


@pytest.mark.slow
def test_traffic_of_a_ring():
    # On each of 4 GPUs: keys and values forward and backward, 3/4 of 512 tokens x 8 heads x 256 in
    # BF16; 4 passes of FP32 gradients of 128 tokens. 4 layers, 8 micro-batches for each of 2 replicas.
    gathers = 2 * 3 / 4 * 512 * 8 * 256 * 2
    passes = 4 * 128 * 8 * 256 * 4
    nic, nvlink = traffic(lower(dense(**RING)))["context"]
    assert (nic, nvlink) == (0.0, pytest.approx((gathers + passes) * 4 * 8))


def test_an_algorithm_of_gathers_is_refused_where_ranks_send():
    one = dense(**RING, layout__cp_comm="p2p", communication__context__algorithm="ring")
    with pytest.raises(InputError, match="which runs sends"):
        lower(one)


def test_a_stack_has_its_own_default():
    assert given().cp_gather
    assert not given(stack="megatron").cp_gather
    assert dense(**RING).cp_comm == "all_gather"

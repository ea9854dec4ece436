"""Linear layers of plain PyTorch: modules apart, FP8 weights cast in every pass, AdamW by operation."""

import pytest
from builders import dense
from parallel_cases import SHORT

from simulator import inputs
from simulator.costs.pricing import work
from simulator.hardware import StackConfig
from simulator.ops import Op, Work, block_ops
from simulator.ops.optimizer import update
from simulator.precision import RECIPES

H, WIDE, KV = 1024, 4096, 4 * 128


def given(**changes: object) -> Work:
    return work(dense(**{**SHORT, "layout__pp": 1, **changes}), None)


def kernels(name: str, **changes: object) -> list[Op]:
    (block,) = block_ops("dense", given(**changes))
    both = (*block.forward, *block.backward)
    return [op for op in both if isinstance(op, Op) and op.name == name]


def test_layers_that_read_one_input_are_apart():
    assert [op.shape.n for op in kernels("qkv", stack="fsdp2")] == [H, KV, KV]
    assert [op.shape.n for op in kernels("gate+up", stack="fsdp2")] == [WIDE, WIDE]
    assert [op.shape.n for op in kernels("gate+up", stack="megatron")] == [2 * WIDE]
    # Three gradients of 512 x 1,024 are added, and two: each read, the sum written, in BF16.
    sums = sorted(op.bytes / (512 * H) for op in kernels("add input gradients", stack="fsdp2"))
    assert sums == [6, 8]


@pytest.mark.parametrize("name", ["qkv", "gate+up", "qkv dgrad", "gate+up wgrad"])
def test_apart_they_have_as_many_flops(name):
    apart, joined = (kernels(name, stack=stack) for stack in ("fsdp2", "megatron"))
    assert sum(op.flops for op in apart) == sum(op.flops for op in joined)


def test_weights_are_cast_in_each_pass_and_transposed_backward():
    weights = (H + 2 * KV) * H + H * H + 3 * WIDE * H
    fp8 = {"stack": "fsdp2", "precision__recipe": "fp8_current"}
    # BF16 read and FP8 written; the transpose reads and writes FP8.
    casts = [op for op in kernels("cast", **fp8) if op.bytes % 3 == 0 and op.bytes / 3 >= H * H]
    assert sum(op.bytes for op in casts) == 3 * weights
    assert sum(op.bytes for op in kernels("weight transpose", **fp8)) == 2 * weights
    assert not kernels("weight transpose", stack="megatron", precision__recipe="fp8_current")


def test_adamw_by_operation_moves_88_bytes():
    fsdp1 = inputs.validate(inputs.data("stacks", "fsdp1"), StackConfig)
    (adamw,) = (op for op in update(RECIPES["bf16"], fsdp1.optimizer, 10, 10) if op.name == "adamw")
    assert adamw.bytes == 880

"""Linear layers of plain PyTorch: modules apart, FP8 weights cast in every pass, AdamW by operation."""

import pytest
from builders import dense
from parallel_cases import SHORT

from simulator import inputs
from simulator.costs.pricing import work
from simulator.hardware import StackConfig
from simulator.ops import Op, Work, block_ops
from simulator.ops.optimizer import update
from simulator.ops.sharding import copy_in
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


def test_adamw_by_operation_moves_80_bytes():
    fsdp1 = inputs.validate(inputs.data("stacks", "fsdp1"), StackConfig)
    (adamw,) = (op for op in update(RECIPES["bf16"], fsdp1.optimizer, 10, 10) if op.name == "adamw")
    assert adamw.bytes == 800


MPT = {"model__gated": False, "model__layer_norm": True, "stack": "fsdp1"}
BIASES = {"model__attention_bias": True, "model__mlp_bias": True}


def test_layer_norm_says_nothing_of_dropout():
    # Two additions per layer of 512 x 1,024: two reads and a write of 2 B; a mask of 1 B with dropout.
    assert [op.bytes / (512 * H) for op in kernels("residual", **MPT)] == [6, 6]
    assert not kernels("dropout backward", **MPT)
    masked = {**MPT, "model__dropout": True}
    assert [op.bytes / (512 * H) for op in kernels("residual", **masked)] == [7, 7]
    assert len(kernels("dropout backward", **masked)) == 2


def test_autograd_sums_the_gradients_of_biases():
    assert not kernels("bias gradient", **MPT)
    assert not kernels("add bias", **MPT, **BIASES)
    # In BF16: queries, keys and values, the output, the first layer of the FFN, and the second.
    widths = sorted(op.bytes / (512 * 2) for op in kernels("bias gradient", **MPT, **BIASES))
    assert widths == sorted([H + 2 * KV, H, WIDE, H])


@pytest.mark.parametrize(("stack", "copied"), [("fsdp2", 1), ("fsdp1", 0), ("megatron", 0)])
def test_heads_are_repeated_where_the_code_of_the_stack_does(stack, copied):
    # torchtitan's repeat_kv, in Llama of December 2024, the date of its published runs. Others pass
    # grouped heads on to attention, as torchtitan itself does since enable_gqa.
    assert len(kernels("repeat heads", stack=stack)) == copied
    assert not kernels("repeat heads", stack=stack, model__num_key_value_heads=8)


def test_gradients_are_joined_and_then_cast_where_kernels_are_apart():
    # BF16 to BF16, then BF16 to FP32; FSDP2's chunk_cat does both at once.
    sums = RECIPES["bf16"]
    assert [op.bytes for op in copy_in(sums, 10, casts_apart=True)] == [40, 60]
    assert [op.bytes for op in copy_in(sums, 10)] == [60]

"""Megatron-LM's own linear layers: biases, sums of gradients and of input gradients, by hand."""

from collections import Counter
from dataclasses import replace

import pytest

from simulator import load
from simulator.collectives import Communication
from simulator.costs.pricing import work
from simulator.ops import LATE, Phase, Transfer, block_ops
from simulator.ops.optimizer import update
from simulator.precision import RECIPES
from simulator.program.coflows import _gather_behind
from simulator.residuals.gemms import gemms

T, H, TP = 2 * 2048, 12288, 8  # Megatron's 145 B: micro-batches of two sequences, 8 ranks
LAYER = 12 * H * H // TP  # weights of a layer on a rank: 3 + 1 + 4 + 4 h^2


def layer(stack: str):
    one = load("a100-selene-1536", "megatron-145b", {"stack": stack})
    asked = work(one, None)
    (ops,) = block_ops("dense", asked)
    return [op for phase in Phase for op in ops[phase]]


def moved(stack: str) -> Counter:
    total: Counter = Counter()
    for op in layer(stack):
        if not isinstance(op, Transfer):
            total[op.name] += op.bytes
    return total


def test_biases_of_a_layer_by_hand():
    bytes_of = moved("megatron_local")
    # Once forward; the recomputed pass is not among a block's ops. Queries, keys and values are 3 h / tp wide, the first layer of the FFN 4 h / tp; without sequence
    # parallelism the outputs of both halves are h wide on each rank.
    assert bytes_of["add bias"] == 4 * T * 3 * H / TP
    assert bytes_of["bias gradient"] == 2 * T * (3 * H / TP + 4 * H / TP + 2 * H)
    assert "add gradient" not in bytes_of


def test_a_gradient_that_is_added_apart_is_read_and_the_sum_read_and_written():
    # In FP16, 2 B each.
    assert moved("megatron_2021")["add gradient"] == 3 * 2 * LAYER


@pytest.mark.parametrize("stack", ["megatron", "megatron_local", "megatron_2021"])
def test_only_the_stack_of_2021_waits_for_the_sums_of_input_gradients(stack):
    sums = [op for op in layer(stack) if isinstance(op, Transfer) and "gradient" in op.name]
    assert len(sums) == 2
    assert {op.concurrent for op in sums} == {0 if stack == "megatron_2021" else LATE}


def test_transformer_engine_has_no_kernels_for_biases():
    assert not {"add bias", "bias gradient", "add gradient"} & set(moved("megatron"))


def test_gradients_in_16_bits_are_copied_to_fp32_before_the_update():
    one = load("a100-selene-1536", "megatron-145b")
    bytes_of = {op.name: op.bytes for op in update(one.recipe, one.stack.optimizer, 1.0, 1.0)}
    # Scaled (r, w) and zeroed in 2 B; copied, 2 + 4; unscaled (r, w), normed (r), clipped (r, w);
    # AdamW reads it, reads and writes master weight and two moments; the copy back, 4 + 2.
    assert bytes_of == {
        "scale and zero gradients": 3 * 2.0,
        "copy gradients": 6.0,
        "clip gradients": 5 * 4.0,
        "adamw": 4.0 + 2 * 4.0 + 2 * 8.0,
        "copy parameters": 6.0,
    }
    in_fp32 = {op.name for op in update(RECIPES["bf16"], one.stack.optimizer, 1.0, 1.0)}
    assert "copy gradients" not in in_fp32


def test_the_kernel_of_moments_in_bf16_reads_gradients_as_they_are():
    # Megatron-LM's precision-aware optimizer: the gradient in 2 B, the master weight in 4 and both
    # moments in FP32, cast before, read and written.
    stack = load("a100-selene-1536", "megatron-145b").stack.optimizer
    aware = stack.model_copy(update={"casts_moments": True})
    short = replace(RECIPES["bf16"], gradient=2.0, moments=4.0)
    bytes_of = {op.name: op.bytes for op in update(short, aware, 1.0, 1.0)}
    assert "copy gradients" not in bytes_of
    assert bytes_of["clip gradients"] == 5 * 2.0
    assert bytes_of["adamw"] == 2.0 + 2 * 4.0 + 2 * 8.0


def test_ranks_put_together_what_each_received_unless_the_stream_is_cut():
    # 4,096 tokens of 12,288 in 2 B, 100.7 MB, of which a rank has an eighth: the rest arrives at no
    # more than A100's 300 GB/s and at no less than half of that.
    whole = load("a100-selene-1536", "megatron-145b")
    cut = load("a100-selene-1536", "megatron-145b", {"layout.sequence_parallel": True})
    part = 2.0 * T * H / TP
    seconds = _gather_behind(whole, Communication.of(whole), part)
    assert 7 * part / 300e9 < seconds < 7 * part / 150e9
    assert _gather_behind(cut, Communication.of(cut), part) == 0.0


def test_a100s_weight_gradients_in_training_are_those_of_the_grid():
    (row,) = [one for one in gemms() if "in training" in one.name]
    assert (abs(row.bias) < 0.005, row.rms < 0.02, abs(row.worst) < 0.03) == (True, True, True)

"""Where a step casts the inputs of its GEMMs, and what is cast before it travels."""

import pytest
from builders import dense, scenario

from simulator.costs import price, work
from simulator.ops import Op, Phase, Transfer, block_ops
from simulator.ops.optimizer import cast_weights
from simulator.precision import RECIPES
from simulator.program import lower


def phases(recipe, **keys):
    one = dense(precision__recipe=recipe, layout__tp=2, **keys)
    return block_ops("dense", work(one, None))[0]


@pytest.mark.parametrize("recipe", ["fp8_tensor", "fp8_current", "fp8_block"])
@pytest.mark.slow
def test_what_is_gathered_is_cast_before_by_each_gpu_its_own_tokens(recipe):
    ops = phases(recipe).mlp_f
    place = next(i for i, op in enumerate(ops) if op.name == "gather input")
    assert isinstance(ops[place], Transfer)
    cast = ops[place - 1]
    assert isinstance(cast, Op) and cast.name == "cast"
    one = dense(precision__recipe=recipe, layout__tp=2)
    assert cast.bytes == one.recipe.cast_bytes * 2048 / 2 * 1024  # half of 2,048 tokens, 1,024 wide
    assert ops[place + 1].name == "gate+up"


@pytest.mark.slow
def test_current_scaling_shares_the_largest_value_before_what_it_casts_is_gathered():
    ops = phases("fp8_current").mlp_f
    names = [op.name for op in ops[:5]]
    assert names == ["largest value", "share largest value", "cast", "gather input", "gate+up"]
    assert ops[1].bytes == 8  # an FP32 figure, summed up and passed on
    (lone,) = [
        [op.name for op in block.mlp_f[:2]]
        for block in block_ops("dense", work(dense(precision__recipe="fp8_current"), None))
    ]
    assert lone == ["largest value", "cast"]


@pytest.mark.slow
def test_weights_are_cast_once_per_step_behind_the_update():
    # Two layers of a dense model on one GPU, read in BF16 and written twice in FP8; delayed scaling
    # knows their scales, current scaling reads them once more.
    one = dense(precision__recipe="fp8_tensor", layout__pp=1)
    layers = one.model.num_hidden_layers * sum(one.model.block_parameters("dense"))
    (cast,) = cast_weights(one.recipe, layers)
    assert cast.bytes == 4 * layers
    assert [op.kind for op in cast_weights(RECIPES["fp8_current"], 1.0)] == [
        "amax",
        "cast_transpose",
    ]
    assert not cast_weights(RECIPES["bf16"], layers)
    assert not cast_weights(RECIPES["fp8_block"], layers)  # not in DeepSeek's profile
    optimizer = {}
    for name in ("bf16", "fp8_tensor"):
        program = lower(dense(precision__recipe=name, layout__pp=1))
        optimizer[name] = program.class_seconds[0]["optimizer"]
    processor = price(one).processor
    more = processor.kernel(cast, overlapped=False) + processor.gaps(cast)
    assert optimizer["fp8_tensor"] - optimizer["bf16"] == pytest.approx(more, rel=1e-9)


def test_the_heads_input_is_gathered_in_bf16_whatever_the_recipe():
    one = dense(precision__recipe="fp8_tensor", layout__tp=2)
    (head,) = block_ops("head", work(one, None))
    moves = [op for op in head.attention_f if isinstance(op, Transfer)]
    # Besides, the loss sums over the parts of the vocabulary.
    (moved,) = [op for op in moves if op.name == "gather input"]
    assert moved.bytes == 2048 * 1024 * 2


def test_tokens_that_travel_in_bf16_are_cast_where_experts_read_them():
    one = scenario(precision__recipe="fp8_tensor")
    found = price(one)
    (ops,) = block_ops("moe", work(one, found.loads.even))
    # Megatron pads the rows of an expert to a multiple of 16, by 7.5 on average.
    rows = (found.work.expert_rows + found.work.local_experts * 7.5) * 1024
    casts = [
        op.bytes / one.recipe.cast_bytes
        for op in ops.mlp_f
        if isinstance(op, Op) and op.name == "cast"
    ]
    assert rows in casts
    assert not [op for op in ops.attention_f[-2:] if op.name == "cast"]


@pytest.mark.parametrize(
    ("recipe", "casts"), [("bf16", 0), ("fp8_block", 0), ("fp8_tensor", 1), ("fp8_blockwise", 1)]
)
@pytest.mark.slow
def test_shared_experts_cast_what_does_not_travel_cast(recipe, casts):
    # 2,048 tokens of 1,024: the input in the forward pass, the output's gradient in the backward
    # pass. DeepSeek's stack has cast both for dispatch.
    one = scenario(precision__recipe=recipe)
    (ops,) = block_ops("moe", work(one, price(one).loads.even))
    for phase, reader in ((ops.mlp_f, "gate+up"), (ops.mlp_b, "down dgrad")):
        first = next(place for place, op in enumerate(phase) if op.name == reader)
        before = [op.bytes for op in phase[:first] if isinstance(op, Op) and op.name == "cast"]
        assert before.count(one.recipe.cast_bytes * 2048 * 1024) == casts


def test_shared_experts_of_a_tensor_group_gather_what_was_cast():
    one = scenario(precision__recipe="fp8_tensor", layout__tp=2)
    (ops,) = block_ops("moe", work(one, price(one).loads.even))
    assert [op.name for op in ops.mlp_f[:3]] == ["cast", "gather input", "gate+up"]
    assert [op.name for op in ops.mlp_b[:3]] == ["cast", "gather output gradient", "down dgrad"]
    assert ops.mlp_f[0].bytes == one.recipe.cast_bytes * 2048 / 2 * 1024  # its own tokens


def gradient(recipe, **keys):
    """Return the ops of both row parallel layers' input gradients, of 2,048 tokens 1,024 wide."""
    one = dense(precision__recipe=recipe, layout__tp=4, layout__pp=1, **keys)
    (ops,) = block_ops("dense", work(one, None))
    return ops.attention_b, ops.mlp_b


@pytest.mark.parametrize(
    ("recipe", "gathered", "transposed"),
    [
        ("bf16", 2.0, False),
        ("fp8_tensor", 1.0, True),
        ("fp8_current", 1.0, True),
        ("fp8_blockwise", 2 * (1 + 4 / 128), True),  # a cast along either axis
    ],
)
def test_a_gathered_gradient_is_transposed_for_the_weight_gradient(recipe, gathered, transposed):
    # One byte read and one written of all 2,048 tokens: what came is in the order of tokens.
    for ops in gradient(recipe):
        (gather,) = [op for op in ops if op.name == "gather output gradient"]
        assert gather.bytes == gathered * 2048 * 1024
        found = [op.bytes for op in ops if op.name == "transpose gathered gradient"]
        assert found == ([2 * 2048 * 1024] if transposed else [])


def test_nothing_is_transposed_where_a_cast_has_written_the_transpose():
    # Without sequence parallelism each GPU casts all tokens, and writes both.
    for ops in gradient("fp8_tensor", layout__sequence_parallel=False):
        assert not [op for op in ops if op.name == "transpose gathered gradient"]


def test_mxfp8_gathers_a_gradient_along_either_axis_and_transposes_nothing():
    # 32 elements share a scale along one axis: the other GEMM reads another cast.
    one = dense(precision__recipe="mxfp8", layout__tp=4, layout__pp=1, gpu="b200")
    (ops,) = block_ops("dense", work(one, None))
    for part in (ops.attention_b, ops.mlp_b):
        (gather,) = [op for op in part if op.name == "gather output gradient"]
        assert gather.bytes == 2 * 2048 * 1024 * (1 + 1 / 32)
        assert not [op for op in part if "transpose" in op.name]


def test_of_a_gradient_round_a_ring_the_other_cast_travels_next_to_the_same_gemm():
    # The ring brings what the input gradient reads; four pieces do not wait for the other cast.
    for ops in gradient("fp8_blockwise", layout__tp_comm_overlap=True):
        ring, other = [op for op in ops if op.name.startswith("gather output gradient")]
        assert ring.bytes == other.bytes == 2048 * 1024 * (1 + 4 / 128)
        assert (other.name, other.concurrent) == ("gather output gradient by channel", 4)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fp8_tensor", "fp8_current"])
@pytest.mark.parametrize("name", ["norm", "swiglu"])
def test_what_is_recomputed_is_cast_again_where_one_cast_serves_both_gemms(recipe, name):
    def casts(**changes):
        (block,) = block_ops("dense", work(dense(precision__recipe=recipe, **changes), None))
        ops = (*block.attention_b, *block.mlp_b)
        return sum(op.bytes for op in ops if isinstance(op, Op) and op.name == "cast")

    # 2,048 tokens: both norms' outputs of 1,024, or the activation's of 4,096.
    again = 2048 * {"norm": 2 * 1024, "swiglu": 4096}[name]
    more = casts(training__recompute=[name]) - casts()
    assert more == RECIPES[recipe].cast_bytes * again


@pytest.mark.parametrize(("gpu", "moved"), [("h800", 4.0), ("b200", 3.0)])
@pytest.mark.parametrize("recipe", ["fp8_tensor", "fp8_current"])
@pytest.mark.slow
def test_blackwell_reads_fp8_in_any_layout(recipe, gpu, moved):
    # Read in BF16, written once, on Hopper the transpose too.
    one = dense(precision__recipe=recipe, layout__tp=2, gpu=gpu)
    assert one.recipe.cast_bytes == moved
    assert one.recipe.casts_once
    (block,) = block_ops("dense", work(one, None))
    kinds = {op.kind for phase in Phase for op in block[phase] if isinstance(op, Op)}
    assert ("transpose" in kinds) == (gpu == "h800")
    # Scales of blocks belong to one order, on either.
    blocks = dense(precision__recipe="fp8_blockwise", gpu=gpu).recipe
    assert blocks.cast_bytes == 2.0 + 2.0 * (1.0 + 4.0 / 128.0)
    assert blocks.transposed

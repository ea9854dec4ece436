"""The cross-entropy: bytes moved and kept, what is there at once, and the loss by parts."""

import pytest
from builders import dense, lone
from parallel_cases import SHORT

from simulator import inputs
from simulator.costs import price
from simulator.errors import InputError
from simulator.hardware import StackConfig
from simulator.memory import memory_of
from simulator.ops import block_ops, saved
from simulator.ops.loss import LOSSES, chunks, forward
from simulator.precision import RECIPES
from simulator.program import lower

VOCABULARY, WIDTH, TOKENS = 4096, 1024, 2048
LOGITS = TOKENS * VOCABULARY
NORM = 4 * TOKENS * WIDTH  # the residual stream and the norm's output, kept whatever the loss
STREAM = 2 * TOKENS * WIDTH
EVERY = [*LOSSES, "chunked"]


def head(loss: str, **changes):
    return price(lone(training__loss=loss, **changes)).stage(0)[-1]


# Bytes per logit: kept, and there besides in the forward and in the backward pass. BF16 has 2, FP32
# 4. unfused: BF16 logits, an FP32 copy and the log-softmax ahead, 10, of which 4 are kept; behind,
# the log-softmax and two gradients, 12.
BYTES = {
    "fused": (2, 0, 0),
    "compiled": (2, 0, 2),
    "vocab_parallel": (4, 2, 2),
    "fused_vocab_parallel": (4, 2, 2),
    "unfused": (4, 6, 8),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_bytes_of_a_logit_by_hand(loss):
    kept, ahead, back = BYTES[loss]
    memory = head(loss).memory
    assert memory.saved == NORM + kept * LOGITS
    assert memory.forward == ahead * LOGITS
    assert memory.backward == back * LOGITS + STREAM


def test_llama_8b_with_32k_tokens_has_47_gib_of_unfused_loss():
    # 32,768 x 128,256 logits x 12 B in the backward pass.
    assert 32768 * 128256 * LOSSES["unfused"].backward_peak == pytest.approx(47.0 * 2**30, rel=1e-2)


def test_chunked_has_never_more_logits_than_a_residual_stream_and_multiplies_as_often():
    # 4,096 / 1,024 = 4 parts of 512 tokens (Liger Kernel's rule).
    one = lone(training__loss="chunked")
    assert chunks(price(one).work) == 4
    memory = head("chunked").memory
    assert memory.saved == NORM + STREAM
    assert memory.forward == 2 * LOGITS / 4 <= STREAM
    flops = [
        sum(sum(row.values()) for row in lower(lone(training__loss=name)).flops) for name in EVERY
    ]
    assert flops == pytest.approx([flops[0]] * len(EVERY))


@pytest.mark.parametrize("loss", EVERY)
def test_every_loss_keeps_what_its_ops_say(loss):
    work = price(lone(training__loss=loss)).work
    (ops,) = block_ops("head", work)
    assert saved(ops.forward) == head(loss).saved
    moved = sum(op.bytes for op in (*ops.forward, *ops.backward) if op.kind == "loss")
    row = LOSSES.get(loss, LOSSES["fused"])
    assert moved == (row.forward + row.backward) * LOGITS


@pytest.mark.slow
def test_a_loss_that_moves_more_takes_longer():
    seconds = {loss: sum(cost.total for cost in head(loss).phases.values()) for loss in LOSSES}
    assert seconds["fused"] < seconds["unfused"] < seconds["vocab_parallel"]
    assert seconds["unfused"] < seconds["fused_vocab_parallel"] < seconds["vocab_parallel"]


def test_megatrons_losses_by_the_tensors_that_each_kernel_reads_and_writes():
    # BF16 2 B, FP32 4 B a logit. Alone: cast, maximum, then in place subtraction, exponential, sum,
    # division. Fused: cast with maximum, subtraction with exponential, sum, division.
    alone = (2 + 4) + 4 + (4 + 4) + (4 + 4) + 4 + (4 + 4)
    fused = (2 + 4) + (4 + 4) + 4 + (4 + 4)
    assert (alone, fused) == (LOSSES["vocab_parallel"].forward, 26)
    assert LOSSES["fused_vocab_parallel"].forward == fused
    # Scaled in place and cast.
    assert {LOSSES[name].backward for name in ("vocab_parallel", "fused_vocab_parallel")} == {14}


@pytest.mark.parametrize("name", inputs.data_names("stacks"))
def test_a_stack_says_which_loss_it_runs_by_default(name):
    stack = inputs.validate(inputs.data("stacks", name), StackConfig)
    one = lone(stack=name, training__loss="stack")
    assert price(one).work.loss == stack.loss
    assert "loss" in stack.sources


def test_chunked_wants_the_whole_head():
    with pytest.raises(InputError, match="needs the whole head on a GPU, and tp 2 cuts it"):
        dense(**SHORT, layout__tp=2, training__loss="chunked")


# The update


def peaks(**precision):
    keys = {f"precision__{name}": value for name, value in precision.items()}
    one = lone(**keys)
    (rank,) = memory_of(one, price(one), one.pipeline.fixed)
    return rank.by_category


def test_states_of_a_precision_aware_optimizer():
    # 71,312,384 parameters: remainders of 2 B and two BF16 moments.
    held = peaks(gradients="bf16", master="remainders", moments="bf16")
    assert held["optimizer"] == 71_312_384 * (2 + 4)
    assert held["gradients"] == 71_312_384 * 2


def test_bf16_moments_are_there_in_fp32_once_more_while_they_are_updated():
    # Transformer Engine copies both; what that needs beyond what the passes needed is `update`.
    held = peaks(moments="bf16")
    assert held["update"] == 71_312_384 * 8 - held["activations"] - held["buffers"] > 0


def test_bf16_gradients_are_copied_to_fp32_for_an_optimizer_that_wants_them_so():
    held = peaks(gradients="bf16")
    assert held["update"] == max(0, 71_312_384 * 4 - held["activations"] - held["buffers"])


def test_a_recipe_keeps_its_own_moments_unless_asked():
    assert RECIPES["fp8_block"].moments == 4
    assert lone(precision__recipe="fp8_block").recipe.moments == 4
    assert lone(precision__recipe="fp8_block", precision__moments="fp32").recipe.moments == 8


@pytest.mark.parametrize(
    ("loss", "numbers"),
    [("vocab_parallel", [1, 1, 1]), ("fused_vocab_parallel", [1, 2]), ("compiled", [1, 1, 1])],
)
def test_a_cut_vocabulary_is_summed_over_its_parts(loss, numbers):
    # Two passes over 4 bytes a number and token, of all 2,048 tokens.
    one = dense(layout__tp=2, training__loss=loss, training__seq_length=2048)
    work = lower(one).costs.work
    sent = forward(work, LOGITS / 2)[1:]
    assert [op.bytes for op in sent] == [2 * 4 * count * work.tokens for count in numbers]

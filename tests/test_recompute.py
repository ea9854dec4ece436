"""Full and selective recompute, and the bytes that a layer keeps.

Bytes against Korthikanti et al., arXiv 2205.05198.
"""

import pytest
from builders import dense, lone, scenario, simulated
from parallel_cases import DENSE, GPT, MLA, SHORT

from simulator import inputs
from simulator.bounds import traffic
from simulator.costs import price
from simulator.memory import memory, memory_of
from simulator.model import ModelConfig
from simulator.ops import Work, block_ops, saved
from simulator.precision import RECIPES
from simulator.program import Program, lower
from simulator.report import summarise
from simulator.schedules import Action, Schedule

FULL = {"training__recompute": ["full"]}
ONE_NODE = {**SHORT, "nodes": 1, "fabric__kind": "single_node", "layout__pp": 1}


def recomputed(one: Program) -> float:
    """Return the FLOPs that all GPUs execute a second time."""
    return sum(
        count * flops
        for count, flops in zip(one.multiplicity.tolist(), one.recomputed, strict=True)
    )


def executed(one: Program) -> float:
    return sum(
        count * sum(flops.values())
        for count, flops in zip(one.multiplicity.tolist(), one.flops, strict=True)
    )


# Full


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"layout__tp": 2},
        {"layout__cp": 2},
        {"layout__pp": 2},
        {"layout__zero": 3},
        {"layout__pp": 4, "schedule__name": "zb-h1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", [DENSE, {**DENSE, **MLA}, GPT], ids=["gqa", "mla", "gpt"])
@pytest.mark.slow
def test_full_recompute_runs_each_layers_forward_pass_once_more(model, layout):
    # Forward of a layer: 2 FLOPs per weight and token, and attention's two causal products.
    changes = {**ONE_NODE, **model, **layout}
    plain, repeated = lower(scenario(**changes)), lower(scenario(**changes, **FULL))
    one = plain.scenario
    tokens = one.tokens_per_step
    weights = sum(out * inp for _, out, inp in one.model.projections)
    weights += (3 if one.model.gated else 2) * 1024 * one.model.intermediate_size
    layer = tokens * (2 * weights + one.model.attention_flops_per_token(512))
    assert recomputed(plain) == 0
    assert recomputed(repeated) == pytest.approx(4 * layer, rel=1e-9)
    assert executed(repeated) == pytest.approx(executed(plain) + 4 * layer, rel=1e-9)


@pytest.mark.slow
def test_full_recompute_sends_tokens_to_their_experts_once_more():
    # Dispatch and combine of the forward pass: BF16, so 2 of the 4 exchanges' bytes once more.
    plain, repeated = (
        traffic(lower(scenario(**SHORT, layout__ep=4, **more))) for more in ({}, FULL)
    )
    assert repeated["expert"] == pytest.approx([sent * 6 / 4 for sent in plain["expert"]])


@pytest.mark.slow
def test_full_recompute_gathers_and_scatters_a_layer_once_more():
    # Forward: 4 of a layer's 10 passes of 1,024 x 2 B a token. Embedding and head, 5 passes, are not
    # run repeated, nor is the loss, which sums three numbers of 4 B, in two passes each.
    plain, repeated = (
        traffic(lower(dense(**ONE_NODE, layout__tp=2, **more))) for more in ({}, FULL)
    )
    once, again = (2048 * (4 * passes + 5) + 3 * 2 * 4 for passes in (10, 14))
    assert repeated["tensor"][1] == pytest.approx(plain["tensor"][1] * again / once)


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ({}, 1),
        ({"layout__tp": 4}, 4),
        ({"layout__cp": 2}, 2),
        ({"layout__cp": 2, "layout__tp": 2}, 4),
        ({"layout__tp": 4, "layout__sequence_parallel": False}, 1),
    ],
    ids=str,
)
@pytest.mark.slow
def test_full_recompute_keeps_the_inputs_of_layers_alone(layout, parts):
    # 512 x 1,024 x 2 B, cut over cp and, with sequence parallelism, tp.
    costs = price(dense(**{**ONE_NODE, **layout}, **FULL))
    assert [block.saved for block in costs.stage(0)][1:-1] == [512 * 1024 * 2 / parts] * 4


@pytest.mark.slow
def test_a_model_that_runs_again_is_slower_and_smaller_and_its_mfu_lower():
    plain, repeated = (summarise(simulated(dense(**ONE_NODE, **more))) for more in ({}, FULL))
    assert repeated.step_time > plain.step_time
    assert repeated.worst_memory.peak < plain.worst_memory.peak
    assert repeated.model_flops == plain.model_flops
    assert repeated.mfu < plain.mfu
    assert repeated.hfu > repeated.mfu


# Selective


@pytest.mark.slow
def test_unfused_attention_multiplies_the_whole_matrix():
    # Fused: causal, 2 products forward; backward 5, one of them QK again. Unfused: nothing skipped,
    # 2 and 4 products.
    fused, whole = (
        executed(lower(dense(**ONE_NODE, training__attention=way))) for way in ("flash", "unfused")
    )
    product = 2 * 8 * 128 * 512 * (16 * 512) * 4  # heads, width, keys, tokens, layers
    assert whole - fused == pytest.approx(6 * product - 7 * product / 2, rel=1e-9)


@pytest.mark.parametrize("model", [GPT, DENSE], ids=["gpt", "gqa"])
@pytest.mark.slow
def test_core_attention_runs_its_two_products_again_and_keeps_nothing_of_the_matrix(model):
    changes = {**ONE_NODE, **model, "training__attention": "unfused"}
    plain, repeated = (
        scenario(**changes, training__recompute=names) for names in ([], ["core_attention"])
    )
    assert recomputed(lower(repeated)) == pytest.approx(
        2 * 2 * 8 * 128 * 512 * (16 * 512) * 4, rel=1e-9
    )
    kept = [price(one).stage(0)[1].saved for one in (plain, repeated)]
    assert kept[0] - kept[1] == 5 * 8 * 512**2  # 5 a s^2 b bytes: two outputs of 2 B, a mask of 1


# Bytes that a layer keeps: sbh (34 + 5 a s / h), equation 1 and 2 of the paper


GPT3 = inputs.validate(
    inputs.Document(
        "gpt3",
        {
            "vocab_size": 51200,
            "hidden_size": 12288,
            "num_hidden_layers": 96,
            "num_attention_heads": 96,
            "intermediate_size": 4 * 12288,
            "gated": False,
            "layer_norm": True,
            "dropout": True,
            "learned_positions": 2048,
        },
        {},
    ),
    ModelConfig,
)
S, H, A = 2048, 12288, 96


def layer(b: int = 1, **more: object) -> float:
    """Return the bytes that a layer of GPT-3 keeps of b sequences of 2,048 tokens."""
    work = Work(GPT3, RECIPES["bf16"], b * S, S, **{"unfused": True, **more})
    (ops,) = block_ops("dense", work)
    return saved(ops.forward)


@pytest.mark.parametrize("b", [1, 4])
def test_a_layer_keeps_what_equation_1_says(b):
    assert layer(b) == pytest.approx(S * b * H * (34 + 5 * A * S / H), rel=1e-12)


@pytest.mark.parametrize("tp", [2, 8])
def test_tensor_parallelism_keeps_what_equation_2_says(tp):
    # Norms, dropout masks and the inputs of both halves stay whole: sbh (10 + 24 / t + 5 a s / (h
    # t)).
    assert layer(tp=tp, sequence_parallel=False) == pytest.approx(
        S * H * (10 + 24 / tp + 5 * A * S / (H * tp))
    )


@pytest.mark.parametrize("tp", [2, 8])
def test_sequence_parallelism_keeps_a_tth_as_equation_4_says(tp):
    assert layer(tp=tp) == pytest.approx(S * H / tp * (34 + 5 * A * S / H), rel=1e-12)


@pytest.mark.parametrize("tp", [1, 8])
def test_selective_recompute_keeps_what_equation_6_says(tp):
    # The paper's main result: 34 sbh / t, with sequence parallelism.
    assert layer(tp=tp, recompute=frozenset({"core_attention"})) == pytest.approx(
        34 * S * H / tp, rel=1e-12
    )


def test_fused_attention_keeps_as_much_as_selective_recompute_but_for_the_softmaxs_sums():
    # FlashAttention keeps the logarithm of the sum of each row and head, FP32.
    assert layer(unfused=False) - layer(recompute=frozenset({"core_attention"})) == 4 * S * A


@pytest.mark.slow
def test_recompute_leaves_room_for_more_of_everything():
    peaks = {
        name: max(
            rank.peak
            for rank in memory(
                lower(
                    scenario(
                        **ONE_NODE,
                        **GPT,
                        training__attention="unfused",
                        training__recompute=[name] if name else [],
                    )
                )
            )
        )
        for name in ("", "core_attention", "full")
    }
    assert peaks["full"] < peaks["core_attention"] < peaks[""]


# What comes back in the backward pass, and how long it stays


def peak_activations(one, schedule=None):
    return max(
        rank.by_category["activations"]
        for rank in memory_of(one, price(one), schedule or one.pipeline.fixed)
    )


def by_hand(*order):
    """Return the schedule of one rank and one stage that runs these actions."""
    return Schedule("by hand", 1, 2, (tuple(Action.parse(text) for text in order),))


# SwiGLU's output of a layer: 2 B x 2,048 tokens x 4,096 wide; four layers.
SWIGLU = 2 * 2048 * 4096


@pytest.mark.slow
@pytest.mark.parametrize("names", [["swiglu"], ["norm"], ["full"]])
def test_what_w_reads_is_the_same_whatever_was_recomputed(names):
    # Inputs of linear layers and gradients of their outputs: I has both, however it came by them.
    plain, fewer = (price(lone(training__recompute=chosen)).stage(0) for chosen in ([], names))
    assert [block.memory.weights for block in fewer] == [block.memory.weights for block in plain]


@pytest.mark.slow
def test_a_full_backward_brings_back_one_layer_at_a_time():
    merged = by_hand("F0@0", "F1@0", "B0@0", "B1@0")
    kept, fewer = (
        peak_activations(lone(training__recompute=names), merged) for names in ([], ["swiglu"])
    )
    assert kept - fewer == pytest.approx(2 * 4 * SWIGLU - SWIGLU, rel=1e-12)


@pytest.mark.slow
def test_a_gpt_layer_holds_32_sbh_for_its_weight_gradients():
    # Zero Bubble, arXiv 2401.10241, table 1: inputs of four linear layers, 14 s b h bytes, and the
    # gradients of their outputs, 18 s b h; the s x s matrices are gone by then.
    one = lone(**GPT, training__attention="unfused")
    layer_ = price(one).stage(0)[1].memory
    assert layer_.weights == 32 * 2048 * 1024
    assert layer_.saved == 2048 * (34 * 1024 + 5 * 8 * 2048)


@pytest.mark.slow
def test_full_recompute_takes_the_other_names_in():
    both, alone = (
        price(dense(training__recompute=names)) for names in (["swiglu", "full"], ["full"])
    )
    assert both.blocks == alone.blocks

"""Recompute by the names of Megatron-LM's modules, and of some layers: bytes, FLOPs, exchanges."""

import pytest
from builders import dense, scenario
from parallel_cases import SHORT

from simulator.bounds import traffic
from simulator.costs import price
from simulator.errors import InputError
from simulator.precision import MEGATRON_RECOMPUTE
from simulator.program import lower

ONE_NODE = {**SHORT, "nodes": 1, "fabric__kind": "single_node", "layout__pp": 1}
TOKENS = 512
STEP = 16 * TOKENS


def executed(one) -> float:
    counts = one.multiplicity.tolist()
    return sum(count * sum(flops.values()) for count, flops in zip(counts, one.flops, strict=True))


def more(build, names, **changes) -> float:
    """Return the FLOPs of a step that recompute adds."""
    plain, again = (
        lower(build(**ONE_NODE, **changes, training__recompute=chosen)) for chosen in ([], names)
    )
    return executed(again) - executed(plain)


def kept(build, names, block=1, **changes) -> float:
    """Return the bytes that a block of one micro-batch keeps."""
    return price(build(**ONE_NODE, **changes, training__recompute=names)).stage(0)[block].saved


@pytest.mark.parametrize("megatron", MEGATRON_RECOMPUTE)
def test_megatrons_names_mean_the_same(megatron):
    mla = {"model__kv_lora_rank": 256, "model__qk_nope_head_dim": 64} | {
        "model__qk_rope_head_dim": 32,
        "model__v_head_dim": 64,
        "model__num_key_value_heads": 8,
    }
    asked = dense(**ONE_NODE, **mla, training__recompute=[megatron])
    assert asked.workload.training.recompute == (MEGATRON_RECOMPUTE[megatron],)


@pytest.mark.slow
def test_mlp_runs_both_layers_again_and_keeps_neither_their_middle():
    # Per token 3 x 1,024 x 4,096 weights, 2 FLOPs each, of 4 layers. Kept no more: gate, up and the
    # activation's output, 3 x 4,096 in BF16.
    assert more(dense, ["mlp"]) == pytest.approx(4 * STEP * 2 * 3 * 1024 * 4096)
    assert kept(dense, []) - kept(dense, ["mlp"]) == TOKENS * 2 * 3 * 4096


@pytest.mark.slow
def test_shared_experts_run_again_in_moe_layers_alone():
    # 3 of 4 layers have one shared expert of 3 x 1,024 x 1,024 weights.
    assert more(scenario, ["shared_experts"], layout__ep=4) == pytest.approx(
        3 * STEP * 2 * 3 * 1024 * 1024
    )
    lost = kept(scenario, [], 2, layout__ep=4) - kept(scenario, ["shared_experts"], 2, layout__ep=4)
    assert lost == TOKENS * 2 * 3 * 1024


@pytest.mark.slow
def test_moe_act_is_swiglu_of_routed_experts():
    routed = kept(scenario, [], 2, layout__ep=4) - kept(scenario, ["moe_act"], 2, layout__ep=4)
    every = kept(scenario, [], 2, layout__ep=4) - kept(scenario, ["swiglu"], 2, layout__ep=4)
    # One output of 1,024 for each of 2 experts of a token, and of its shared expert. Even loads.
    assert routed == pytest.approx(TOKENS * 2 * 2 * 1024)
    assert every == pytest.approx(TOKENS * 2 * 3 * 1024)
    assert kept(scenario, ["moe_act"], layout__ep=4) == kept(scenario, [], layout__ep=4)


@pytest.mark.slow
def test_moe_runs_router_experts_and_exchanges_again():
    # Per token of 3 layers: 2 routed experts, a shared one, and a router of 8 outputs.
    weights = 3 * 3 * 1024 * 1024 + 8 * 1024
    assert more(scenario, ["moe"], layout__ep=4) == pytest.approx(3 * STEP * 2 * weights)
    plain, again = (
        traffic(lower(scenario(**SHORT, layout__ep=4, training__recompute=names)))
        for names in ([], ["moe"])
    )
    # Dispatch and combine of the forward pass once more: 2 of 4 exchanges.
    assert again["expert"] == pytest.approx([sent * 6 / 4 for sent in plain["expert"]])


@pytest.mark.slow
def test_moe_keeps_what_attention_and_the_norms_keep():
    names = ["moe_act", "shared_experts", "moe"]
    assert kept(scenario, names, 2, layout__ep=4) == kept(scenario, ["moe"], 2, layout__ep=4)
    # Two residual streams, two norms, 2,048 of Q, K and V, attention's output, its sums.
    per_token = 2 * (4 * 1024 + 2048 + 1024) + 4 * 8
    assert kept(scenario, ["moe"], 2, layout__ep=4) == TOKENS * per_token


# Some of the layers


def layers(number: int, method: str):
    return dense(
        **ONE_NODE,
        training__recompute=["full"],
        training__recompute_layers=number,
        training__recompute_method=method,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3, 4, 9])
def test_block_recomputes_the_first_layers_of_a_stage(number):
    whole = executed(lower(dense(**ONE_NODE, training__recompute=["full"])))
    plain = executed(lower(dense(**ONE_NODE)))
    of_layer = (whole - plain) / 4
    some = executed(lower(layers(number, "block")))
    assert some - plain == pytest.approx(min(number, 4) * of_layer)
    costs = price(layers(number, "block"))
    again = [block.recompute for block in costs.stage(0)[1:5]]
    assert again == ["full"] * min(number, 4) + [""] * max(0, 4 - number)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "inputs"), [(1, 4), (2, 2), (3, 2), (4, 1), (9, 1)])
def test_uniform_keeps_the_input_of_every_so_many_layers(number, inputs):
    costs = price(layers(number, "uniform"))
    ends = sum(block.saved for block in (costs.stage(0)[0], costs.stage(0)[-1]))
    assert costs.saved(0) - ends == inputs * TOKENS * 1024 * 2
    # All layers run again whatever the number.
    assert executed(lower(layers(number, "uniform"))) == executed(lower(layers(1, "uniform")))


@pytest.mark.slow
def test_layers_that_are_recomputed_together_are_whole_together():
    one, both = (price(layers(number, "uniform")).memories(0) for number in (1, 2))
    # 38,944 B per token and layer (test_memory.py), less one kept input of 2,048 B.
    assert one[1].again == TOKENS * (38_944 - 2048)
    assert both[1].again == TOKENS * (2 * 38_944 - 2048)


@pytest.mark.parametrize(
    ("build", "changes", "text"),
    [
        (dense, {"training__recompute": ["moe"]}, "is not part of this model"),
        (dense, {"training__recompute": ["shared_experts"]}, "only layers with shared experts"),
        (scenario, {"training__recompute": ["mla_up_proj"]}, "mla_up_projection"),
        (
            scenario,
            {"training__recompute": ["mlp"], "model__first_k_dense_replace": 0},
            "without routed experts",
        ),
        (dense, {"training__recompute_layers": 2}, "counts layers"),
        (
            dense,
            {"training__recompute": ["full"], "training__recompute_method": "block"},
            "does nothing without a number of layers",
        ),
    ],
)
def test_what_the_model_does_not_have_is_refused(build, changes, text):
    with pytest.raises(InputError, match=text):
        build(**changes)

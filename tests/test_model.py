"""What a model is: published counts to the digit, blocks counted by hand, and what a config.json may leave out."""

import pytest

from simulator.errors import InputError
from simulator.inputs import ROOT, Document, read, validate
from simulator.model import ModelConfig

LLAMA = {
    # Llama 3.1 8B: https://huggingface.co/meta-llama/Llama-3.1-8B/blob/main/config.json
    "vocab_size": 128256,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
}
TINY = {
    "vocab_size": 10,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
}
MOE = TINY | {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 3,
    "n_shared_experts": 1,
}


def model(tree, **changes):
    return validate(Document("mine.json", tree | changes, {}), ModelConfig)


def refusal(tree, **changes):
    with pytest.raises(InputError) as caught:
        model(tree, **changes)
    return str(caught.value)


@pytest.fixture(scope="module")
def v3():
    return validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)


# DeepSeek-V3


def test_deepseek_v3_has_671_billion_parameters_of_which_a_token_meets_37(v3):
    # arXiv 2412.19437, abstract: 671 B and 37 B; the published 37 B count the input embedding, 0.93
    # B, too.
    assert v3.parameters == 671_026_404_352
    assert v3.active_parameters == 36_625_603_584
    assert v3.parameters / 1e9 == pytest.approx(671.03, abs=0.005)
    assert v3.active_parameters / 1e9 == pytest.approx(36.63, abs=0.005)


def test_deepseek_v3_takes_250_gflops_per_token_of_4096(v3):
    # arXiv 2505.09343, table 2: 250 GFLOPs per token at 4,096. Here: 6 x 36,625,603,584, and 3 x
    # the forward's causal attention, 128 heads x (192 + 128) x 4,096 = 167,772,160, on each of 61
    # layers.
    assert v3.flops_per_token(4096) == 6 * 36_625_603_584 + 3 * 167_772_160 * 61 == 250_455_926_784


def test_attention_counts_half_of_the_square(v3):
    # QK: 2 x 192 FLOPs and PV: 2 x 128 per pair and head; a token meets S / 2 of S tokens: 128 x
    # 320 x S.
    assert v3.attention_flops_per_token(4096) == 128 * (2 * 192 + 2 * 128) * 4096 / 2


@pytest.mark.parametrize(
    ("kind", "dense", "routed"),
    [
        ("embedding", 926_679_040, 0),  # 129,280 x 7,168
        ("dense", 583_483_392, 0),  # attention 187,114,496 + norm 7,168 + 3 x 7,168 x 18,432
        # attention 187,114,496 + norm 7,168 + shared 3 x 7,168 x 2,048 + router 7,168 x 256; 256
        # experts.
        ("moe", 232_996_864, 256 * 3 * 7168 * 2048),
        ("mtp", 335_771_648, 256 * 3 * 7168 * 2048),  # a MoE layer + 2 norms + 14,336 x 7,168
        ("head", 926_686_208, 0),  # 7,168 x 129,280 + norm 7,168
    ],
)
def test_the_blocks_of_deepseek_v3(v3, kind, dense, routed):
    assert v3.block_parameters(kind) == (dense, routed)


def test_multi_head_latent_attention_counted_by_hand(v3):
    # Names as in config.json. Head: 128 without position + 64 rotary = 192 of Q and K, 128 of V.
    assert v3.projections == (
        ("q_a", 1536, 7168),
        ("q_b", 128 * 192, 1536),
        ("kv_a", 512 + 64, 7168),
        ("kv_b", 128 * (128 + 128), 512),
        ("o", 7168, 128 * 128),
    )
    matrices = 1536 * 7168 + 24576 * 1536 + 576 * 7168 + 32768 * 512 + 7168 * 16384
    assert v3.attention_parameters == matrices + 1536 + 512 + 7168 == 187_114_496
    assert (v3.is_mla, v3.qk_dim, v3.v_dim) == (True, 192, 128)


def test_without_a_query_compression_latent_attention_has_one_query_matrix():
    # DeepSeek-V2-Lite: "q_lora_rank": null. q: 2 heads x (4 + 2) from 8; kv_a: 3 + 2 from 8; kv_b:
    # 2 x (4 + 4) from 3.
    lite = {
        "q_lora_rank": None,
        "kv_lora_rank": 3,
        "qk_nope_head_dim": 4,
        "qk_rope_head_dim": 2,
        "v_head_dim": 4,
    }
    assert model(TINY | lite).projections == (
        ("q", 12, 8),
        ("kv_a", 5, 8),
        ("kv_b", 16, 3),
        ("o", 8, 8),
    )


def test_blocks_stand_in_forward_order_with_the_dense_layers_first(v3):
    assert v3.blocks == ("embedding", *["dense"] * 3, *["moe"] * 58, "head", "mtp")
    assert v3.moe_layers == 58


def test_the_parameters_are_the_sum_of_the_blocks_but_mtp(v3):
    assert v3.parameters == sum(sum(v3.block_parameters(kind)) for kind in v3.blocks[:-1])
    assert v3.active_parameters == v3.parameters - 926_679_040 - 58 * 248 * 44_040_192


# Others


def test_llama_3_1_8b_has_8_billion_parameters():
    # A layer: qkv (32 + 2 x 8) x 128 x 4,096 + o 4,096 x 4,096 + FFN 3 x 4,096 x 14,336 + 2 norms =
    # 218,112,000. 32 layers + embedding and head, 128,256 x 4,096 each, + the last norm. Meta's own
    # count: 8.03 B.
    llama = model(LLAMA)
    assert llama.parameters == 32 * 218_112_000 + 2 * 128256 * 4096 + 4096 == 8_030_261_248
    assert llama.active_parameters == 8_030_261_248 - 128256 * 4096
    assert (llama.is_mla, llama.kv_heads, llama.qk_dim, llama.v_dim) == (False, 8, 128, 128)
    assert llama.projections == (("qkv", 48 * 128, 4096), ("o", 4096, 32 * 128))
    assert set(llama.blocks[1:-1]) == {"dense"}


def test_a_tied_head_has_no_matrix_of_its_own_but_is_active():
    tied, untied = model(TINY, tie_word_embeddings=True), model(TINY)
    assert untied.parameters - tied.parameters == 10 * 8
    assert tied.active_parameters == untied.active_parameters
    assert tied.block_parameters("head") == (8, 0)


def test_a_tiny_moe_counted_by_hand():
    # Attention 4 x 8 x 8 + norm 8 = 264. MoE layer: 264 + norm 8 + shared 3 x 8 x 3 + router 8 x 4
    # = 376, and 4 experts of 72. Two of them, embedding 80, head 88. A token misses 2 of 4 experts
    # and the embedding.
    tiny = model(MOE)
    assert tiny.block_parameters("moe") == (376, 288)
    assert tiny.parameters == 2 * (376 + 288) + 80 + 88 == 1496
    assert tiny.active_parameters == 1496 - 80 - 2 * 2 * 72


def test_a_dense_model_has_no_moe_layer_and_mtp_takes_the_last_layers_kind():
    assert model(TINY).moe_layers == 0
    assert model(MOE, first_k_dense_replace=1).blocks == ("embedding", "dense", "moe", "head")
    dense, moe = model(TINY, num_nextn_predict_layers=1), model(MOE, num_nextn_predict_layers=1)
    # One layer and 2 norms of 8 and 16 x 8.
    assert dense.block_parameters("mtp") == (dense.block_parameters("dense")[0] + 16 + 128, 0)
    assert moe.block_parameters("mtp") == (376 + 16 + 128, 288)
    assert dense.parameters == model(TINY).parameters


@pytest.mark.parametrize("tree", [TINY, MOE, LLAMA])
def test_flops_per_token_are_six_per_active_parameter_and_the_rest_grows_with_the_sequence(tree):
    any_model = model(tree)
    assert any_model.flops_per_token(0) == 6 * any_model.active_parameters
    one, two = (any_model.flops_per_token(n) - any_model.flops_per_token(0) for n in (1024, 2048))
    assert two == 2 * one > 0


def test_a_copy_counts_its_own_values():
    whole = model(MOE, num_nextn_predict_layers=1)
    assert (whole.parameters, whole.moe_layers, len(whole.blocks)) == (1496, 2, 5)
    half = whole.model_copy(update={"num_hidden_layers": 1})
    assert (half.parameters, half.moe_layers, len(half.blocks)) == (1496 - 664, 1, 4)
    assert half == model(MOE, num_nextn_predict_layers=1, num_hidden_layers=1)


# Files


def test_unknown_keys_of_a_real_config_are_ignored():
    extra = {
        "architectures": ["LlamaForCausalLM"],
        "rope_theta": 500000.0,
        "torch_dtype": "bfloat16",
        "eos": [1, 2],
    }
    assert model(LLAMA | extra) == model(LLAMA)


@pytest.mark.parametrize(
    "key", ["num_key_value_heads", "head_dim", "q_lora_rank", "kv_lora_rank", "n_routed_experts"]
)
def test_null_means_that_the_key_is_absent(key):
    assert model(TINY, **{key: None}) == model(TINY)


def test_key_value_heads_are_as_many_as_query_heads_unless_said():
    assert model(TINY).kv_heads == 2
    assert model(TINY, num_key_value_heads=1).kv_heads == 1


def test_a_models_own_head_width_goes_before_the_quotient():
    assert model(TINY).qk_dim == 8 // 2
    assert model(TINY, head_dim=7).qk_dim == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_group": 3}, "mine.json: n_group: 3 must divide n_routed_experts."),
        (
            {"num_experts_per_tok": 5},
            "mine.json: num_experts_per_tok: 5 must lie between 1 and n_routed_experts. Choose at most 4.",
        ),
        (
            {"num_experts_per_tok": 0},
            "mine.json: num_experts_per_tok: 0 must lie between 1 and n_routed_experts. Choose at most 4.",
        ),
        (
            {"hidden_size": 0},
            "mine.json: hidden_size: 0 must be greater than 0.",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused(changes, message):
    assert refusal(MOE, **changes).startswith(message)


@pytest.mark.parametrize("key", TINY)
def test_what_every_model_has_must_be_given(key):
    tree = {name: value for name, value in TINY.items() if name != key}
    assert refusal(tree) == f"mine.json: {key}: is missing. Add '{key}:' there."


def test_the_groups_that_a_token_may_reach_must_hold_its_experts():
    # 4 groups of 1 expert; a token that may reach 1 group cannot choose 2.
    refusal(MOE, n_group=4, topk_group=1)


def test_a_token_cannot_reach_more_groups_than_there_are():
    refusal(MOE, n_group=2, topk_group=3)


def test_a_sum_of_two_scores_needs_two_experts_in_a_group():
    refusal(MOE, n_group=4, topk_group=2, topk_method="noaux_tc")

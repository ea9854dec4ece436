"""Every family of config.json reads, counts as published to the digits, and leaves nothing of cost unread unsaid."""

import pytest

from simulator.errors import InputError
from simulator.inputs import ROOT, Document, read, validate
from simulator.model import FAMILIES, KEYS, ModelConfig

MODELS = ROOT.parent / "workloads" / "models"


def model(tree, **changes):
    return validate(Document("config.json", tree | changes, {}), ModelConfig)


def shipped(name):
    return validate(read(MODELS / f"{name}.json"), ModelConfig)


def refusal(tree, **changes):
    with pytest.raises(InputError) as caught:
        model(tree, **changes)
    return str(caught.value)


# Real files, abridged to what costs: https://huggingface.co/<name>/blob/main/config.json

GPT2 = {
    "model_type": "gpt2",
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
    "activation_function": "gelu_new",
    "resid_pdrop": 0.1,
}
NEOX = {
    "model_type": "gpt_neox",
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "num_attention_heads": 64,
    "num_hidden_layers": 44,
    "vocab_size": 50432,
    "rotary_pct": 0.25,
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
}
QWEN25_05B = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "sliding_window": 32768,
    "use_sliding_window": False,
    "max_window_layers": 21,
}
QWEN3_8B = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "sliding_window": None,
}
QWEN3_MOE = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_hidden_layers": 48,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
QWEN15_MOE = {
    "model_type": "qwen2_moe",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "num_hidden_layers": 24,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "decoder_sparse_step": 1,
    "norm_topk_prob": False,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
    "sliding_window": None,
    "tie_word_embeddings": False,
}
V2_LITE = {
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "q_lora_rank": None,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "greedy",
    "vocab_size": 102400,
}
REAL = {
    "gpt2": GPT2,
    "neox": NEOX,
    "qwen2.5": QWEN25_05B,
    "qwen3": QWEN3_8B,
    "qwen3-moe": QWEN3_MOE,
    "qwen1.5-moe": QWEN15_MOE,
    "mixtral": MIXTRAL,
    "v2-lite": V2_LITE,
}


@pytest.mark.parametrize(
    ("name", "billions", "digits"),
    [
        ("deepseek-v3", 671.03, 2),
        ("deepseek-v2", 235.7, 1),
        ("llama-3.1-8b", 8.03, 2),
        ("llama-3.1-70b", 70.55, 2),
        ("llama-3.1-405b", 405.85, 2),
        ("mixtral-8x7b", 46.70, 2),
        ("gpt-3-175b", 174.60, 2),
        ("qwen2.5-1.5b", 1.54, 2),
        ("qwen2.5-7b", 7.62, 2),
        ("qwen2.5-14b", 14.77, 2),
        ("qwen2.5-32b", 32.76, 2),
        ("mixtral-8x22b", 140.6, 1),
        # Narayanan 2021, table 1 (arXiv 2104.04473): its formula P = 12 l h^2 (1 + 13/(12 h) + (V +
        # s)/(12 l h)).
        ("megatron-7.5b", 7.5, 1),
        ("megatron-39b", 39.1, 1),
        ("megatron-145b", 145.6, 1),
        ("megatron-530b", 529.6, 1),
    ],
)
def test_a_shipped_model_has_the_published_parameters(name, billions, digits):
    assert round(shipped(name).parameters / 1e9, digits) == billions


@pytest.mark.parametrize(
    ("name", "without", "with_embedding"),
    [("deepseek-v3", 36.63, 37.55), ("mixtral-8x7b", 12.75, 12.88)],
)
def test_active_parameters_leave_the_input_embedding_out(name, without, with_embedding):
    one = shipped(name)
    assert round(one.active_parameters / 1e9, 2) == without
    assert round((one.active_parameters + one.embedding_parameters) / 1e9, 2) == with_embedding


@pytest.mark.parametrize(
    ("name", "published"), [("deepseek-v2", 155), ("deepseek-v3", 250), ("llama-3.1-405b", 2448)]
)
def test_training_flops_per_token_of_4096_are_the_published_ones(name, published):
    # arXiv 2505.09343, table 2: GFLOPs per token at 4,096.
    assert shipped(name).flops_per_token(4096) / 1e9 == pytest.approx(published, rel=0.03)


def test_the_published_flops_of_qwen_72b_do_not_follow_from_its_config():
    # arXiv 2505.09343, table 2, says 394 GFLOPs for the dense Qwen-72B. Its config.json
    # (Qwen2.5-72B): 72.7 B parameters, 71.46 B active without the input embedding: 6 x 71.46 = 429,
    # and attention 80 x 3 x 64 x 256 x 4,096.
    qwen = model(
        {
            "model_type": "qwen2",
            "hidden_size": 8192,
            "intermediate_size": 29568,
            "num_attention_heads": 64,
            "num_hidden_layers": 80,
            "num_key_value_heads": 8,
            "vocab_size": 152064,
        }
    )
    assert round(qwen.parameters / 1e9, 1) == 72.7
    assert qwen.flops_per_token(4096) / 1e9 == pytest.approx(445, abs=0.5)
    assert abs(qwen.flops_per_token(4096) / 394e9 - 1) > 0.12


def test_gpt_3_has_the_vocabulary_of_gpt_2_and_2048_learned_positions():
    # 96 layers of 12 h^2 + 13 h, the last norm 2 h, and (50,257 + 2,048) h: 174.604 B; 51,200
    # tokens: 174.62.
    h = 12288
    one = shipped("gpt-3-175b")
    assert (
        one.parameters == 96 * (12 * h * h + 13 * h) + 2 * h + (50257 + 2048) * h == 174_604_259_328
    )
    padded = validate(
        Document("gpt.json", read(MODELS / "gpt-3-175b.json").data | {"vocab_size": 51200}, {}),
        ModelConfig,
    )
    assert round(padded.parameters / 1e9, 2) == 174.62


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # As safetensors' index or PyTorch counts the checkpoints of these names.
        ("gpt2", 124_439_808),
        ("neox", 20_554_567_680),
        ("qwen2.5", 494_032_768),
        ("qwen3", 8_190_735_360),
        ("qwen3-moe", 30_532_122_624),
        ("qwen1.5-moe", 14_315_784_192),
        ("mixtral", 46_702_792_704),
        ("v2-lite", 15_706_484_224),
    ],
)
def test_real_files_count_as_their_checkpoints(name, parameters):
    assert model(REAL[name]).parameters == parameters


def test_what_a_family_implies():
    gpt2, neox, qwen3 = model(GPT2), model(NEOX), model(QWEN3_8B)
    assert (gpt2.gated, gpt2.layer_norm, gpt2.attention_bias, gpt2.mlp_bias) == (
        False,
        True,
        True,
        True,
    )
    assert (gpt2.learned_positions, gpt2.tie_word_embeddings, gpt2.intermediate_size) == (
        1024,
        True,
        3072,
    )
    assert (neox.learned_positions, neox.parallel_residual, gpt2.parallel_residual) == (
        0,
        True,
        False,
    )
    assert (model(NEOX, use_parallel_residual=False).parallel_residual) is False
    assert (qwen3.qk_norm, qwen3.qkv_bias, qwen3.gated, qwen3.layer_norm) == (
        True,
        False,
        True,
        False,
    )
    assert model(QWEN25_05B).qkv_bias
    assert model(MIXTRAL).moe_intermediate_size == 14336
    assert model(MIXTRAL).blocks == ("embedding", *["moe"] * 32, "head")
    assert model(QWEN15_MOE).shared_expert_width == 5632


@pytest.mark.parametrize(
    ("name", "left_out", "value"),
    [
        # What transformers' configuration classes fill in where a file says nothing.
        ("mixtral", "num_key_value_heads", 8),
        ("qwen3", "head_dim", 128),
        ("v2-lite", "moe_layer_freq", 1),
        ("qwen1.5-moe", "decoder_sparse_step", 1),
        ("neox", "use_parallel_residual", True),
    ],
)
def test_what_a_file_leaves_out_is_its_codes_default(name, left_out, value):
    tree = {key: given for key, given in REAL[name].items() if key != left_out}
    assert model(tree) == model(tree | {left_out: value})


def test_a_gpt_layer_counted_by_hand():
    # 12 h^2 + 13 h: qkv 3 h^2 + 3 h, o h^2 + h, up 4 h^2 + 4 h, down 4 h^2 + h, two norms 4 h.
    # Positions stand with the embedding; a token meets its tied head but neither table's other use.
    one, h = model(GPT2), 768
    assert one.attention_parameters == 4 * h * h + 4 * h + 2 * h
    assert one.block_parameters("dense") == (12 * h * h + 13 * h, 0)
    assert one.block_parameters("embedding") == ((50257 + 1024) * h, 0)
    assert one.block_parameters("head") == (2 * h, 0)
    assert one.active_parameters == one.parameters - 1024 * h


def test_qwens_sparse_step_and_dense_layers():
    # modeling_qwen2_moe.py: (index + 1) % step == 0 and not listed. Step 2: layers 1, 3, 5; 3 is
    # listed.
    one = model(QWEN15_MOE, num_hidden_layers=6, decoder_sparse_step=2, mlp_only_layers=[3])
    assert one.blocks[1:-1] == ("dense", "moe", "dense", "dense", "dense", "moe")
    assert one.moe_layers == 2


def test_deepseeks_frequency_of_experts():
    # modeling_deepseek.py: index >= first_k_dense_replace and index % freq == 0. First 1, every
    # other: 2 and 4.
    one = model(V2_LITE, num_hidden_layers=5, moe_layer_freq=2)
    assert one.blocks[1:-1] == ("dense", "dense", "moe", "dense", "moe")


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("causal", [True, False])
def test_the_passes_add_up_and_only_the_input_gradient_has_no_weights_of_attention(name, causal):
    one = model(REAL[name])
    passes = one.passes_per_token(2048, causal)
    attention = one.attention_flops_per_token(2048, causal) * one.num_hidden_layers
    assert sum(passes) == one.flops_per_token(2048, causal)
    assert passes.weight_gradient == 2 * one.active_parameters
    assert passes.forward - passes.weight_gradient == attention
    assert passes.input_gradient - passes.forward == attention
    assert one.attention_flops_per_token(2048, False) == 2 * one.attention_flops_per_token(2048)


# What is not read


@pytest.mark.parametrize("name", REAL)
def test_a_class_stands_for_a_missing_type(name):
    classes = {
        "gpt2": "GPT2LMHeadModel",
        "neox": "GPTNeoXForCausalLM",
        "qwen2.5": "Qwen2ForCausalLM",
        "qwen3": "Qwen3ForCausalLM",
        "qwen3-moe": "Qwen3MoeForCausalLM",
        "qwen1.5-moe": "Qwen2MoeForCausalLM",
        "mixtral": "MixtralForCausalLM",
        "v2-lite": "DeepseekV2ForCausalLM",
    }
    tree = {key: value for key, value in REAL[name].items() if key != "model_type"}
    assert model(tree, architectures=[classes[name]]).parameters == model(REAL[name]).parameters


def test_an_unknown_family_is_refused_with_the_known_ones():
    text = refusal(MIXTRAL, model_type="mamba2")
    assert text.startswith(
        "config.json: model_type: 'mamba2' is not a family of models that simulate reads."
    )
    assert all(family in text for family in FAMILIES)
    assert "Did you mean 'qwen3_moe'" in refusal(MIXTRAL, model_type="qwen3-moe")
    assert "architectures: 'MambaForCausalLM'" in refusal(
        {key: value for key, value in MIXTRAL.items() if key != "model_type"},
        architectures=["MambaForCausalLM"],
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (
            {"sliding_window": 4096},
            "sliding_window: 4096 changes the cost and is not read yet. Only full attention",
        ),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types: "),
        ({"text_config": {"hidden_size": 8}}, "Give the keys of its text_config alone"),
        (
            {"n_latent_experts": 4},
            "n_latent_experts: 4 is not a key of mixtral that simulate reads",
        ),
        ({"n_embd": 4096}, "n_embd: 4096 is not a key"),
    ],
)
def test_a_key_of_cost_that_is_not_read_is_refused(changes, part):
    assert part in refusal(MIXTRAL, **changes)


def test_keys_that_transformers_derives_or_keeps_for_other_tasks_are_no_keys_of_cost():
    # transformers writes qk_head_dim = qk_nope_head_dim + qk_rope_head_dim; the rest stands in many
    # files.
    extra = {
        "qk_head_dim": 192,
        "num_labels": 2,
        "ep_size": 1,
        "max_window_layers": 27,
        "rope_scaling": {"factor": 40},
    }
    assert model(V2_LITE | extra) == model(V2_LITE)


def test_a_window_as_long_as_the_context_or_switched_off_is_no_window():
    assert model(MIXTRAL, sliding_window=32768, max_position_embeddings=32768) == model(
        MIXTRAL, max_position_embeddings=32768
    )
    assert model(QWEN25_05B, layer_types=["full_attention"]) == model(QWEN25_05B)
    assert "sliding_window: 32768 changes the cost" in refusal(QWEN25_05B, use_sliding_window=True)


def test_a_key_and_its_other_name_must_agree():
    assert model(GPT2, hidden_size=768) == model(GPT2)
    assert "n_embd: 768 contradicts hidden_size: 1024" in refusal(GPT2, hidden_size=1024)


def test_every_key_that_a_family_renames_or_implies_is_known():
    for family in FAMILIES.values():
        assert {*family.renames, *family.renames.values(), *family.implies} <= KEYS

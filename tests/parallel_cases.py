"""Models and layouts for the tests of parallelism, as changes to the cluster of `builders`."""

DENSE = {"model__n_routed_experts": 0, "model__num_experts_per_tok": 0, "layout__ep": 1}
MLA = {
    "model__kv_lora_rank": 256,
    "model__q_lora_rank": 384,
    "model__qk_nope_head_dim": 64,
    "model__qk_rope_head_dim": 32,
    "model__v_head_dim": 64,
    "model__num_key_value_heads": 8,
}
GPT = {
    **DENSE,
    "model__gated": False,
    "model__layer_norm": True,
    "model__dropout": True,
    "model__learned_positions": 2048,
    "model__num_key_value_heads": 8,
}
MODELS = {
    "dense": {**DENSE, "model__num_key_value_heads": 8},
    "gqa": DENSE,
    "mla": {**DENSE, **MLA},
    "mla without q_lora": {**DENSE, **MLA, "model__q_lora_rank": 0},
    "gpt": GPT,
    "moe": {"layout__ep": 1},
    "moe with mla and mtp": {**MLA, "layout__ep": 1, "model__num_nextn_predict_layers": 1},
}
"""name -> changes. GQA has 4 key-value heads of 8; MoE has a dense layer first."""
SHORT = {"training__seq_length": 512, "training__global_batch_size": 16}
LAYOUTS = [
    {"layout__pp": 1},
    {"layout__pp": 1, "layout__tp": 2},
    {"layout__pp": 1, "layout__tp": 4},
    {"layout__pp": 1, "layout__cp": 2},
    {"layout__pp": 1, "layout__cp": 4, "layout__cp_comm": "all_gather"},
    {"layout__pp": 1, "layout__cp": 2, "layout__cp_comm": "a2a"},
    {"layout__pp": 2},
    {"layout__pp": 4},
    {"layout__pp": 2, "schedule__name": "dualpipe"},
    {"layout__pp": 2, "layout__vpp": 2, "schedule__name": "interleaved"},
    {"layout__pp": 2, "layout__tp": 2, "layout__cp": 2},
    {"layout__pp": 2, "layout__tp": 2, "layout__vpp": 2, "schedule__name": "interleaved"},
    *({"layout__pp": 2, "layout__zero": zero} for zero in (0, 2, 3)),
    {"layout__pp": 1, "layout__zero": 3, "layout__shard": 4},
    {
        "layout__pp": 2,
        "layout__tp": 2,
        "layout__order": "tp-cp-ep-pp-dp",
        "layout__ep": 2,
        "layout__etp": 1,
    },
]
"""Layouts of 8 GPUs. The last one's ep and etp are the experts': dense models leave them out."""
EXPERTS = [
    {"layout__ep": 2},
    {"layout__pp": 1, "layout__ep": 8},
    {"layout__ep": 2, "layout__tp": 2},
    {"layout__ep": 4, "layout__tp": 2, "layout__etp": 1},
    {"layout__pp": 1, "layout__ep": 2, "layout__etp": 4},
    {"layout__pp": 1, "layout__ep": 2, "layout__tp": 4, "layout__etp": 2, "layout__cp": 2},
    {"layout__ep": 4, "layout__cp": 2, "layout__zero": 3},
]
"""Layouts of routed experts."""


def changes(model: str, layout: dict[str, object]) -> dict[str, object]:
    """Return a model in a layout, short sequences."""
    experts = () if "moe" in model else ("layout__ep", "layout__etp")
    return {**SHORT, **MODELS[model], **{key: layout[key] for key in layout if key not in experts}}


def every_case() -> list[tuple[str, dict[str, object]]]:
    """Return every model in every layout that it can have."""
    return [
        (model, layout)
        for model in MODELS
        for layout in (*LAYOUTS, *(EXPERTS if "moe" in model else ()))
    ]

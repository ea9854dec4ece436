"""Hugging Face's configurations -> one set of keys: what each family renames or implies.

Sources: the configuration_*.py and modeling_*.py of each type in github huggingface/transformers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from simulator.errors import InputError


@dataclass(frozen=True, slots=True)
class Family:
    """How the files of one `model_type` read."""

    renames: Mapping[str, str] = field(default_factory=dict)
    """Its key -> ours."""
    implies: Mapping[str, Any] = field(default_factory=dict)
    """Our keys where a file says nothing: its code's defaults, and what its code always does."""


_GPT = {
    "gated": False,
    "layer_norm": True,
    "attention_bias": True,
    "mlp_bias": True,
}
_QWEN_EXPERTS = {"num_experts": "n_routed_experts"}
# What is implied are defaults of the configuration class where files leave a key out (Mistral's 8
# key-value heads), and what modeling code does without a key for it (Qwen2's biases).
FAMILIES: dict[str, Family] = {
    # No type: as Llama, with anyone's experts.
    "": Family({"num_local_experts": "n_routed_experts", **_QWEN_EXPERTS}),
    "llama": Family(),
    "mistral": Family(implies={"num_key_value_heads": 8}),
    "mixtral": Family({"num_local_experts": "n_routed_experts"}, {"num_key_value_heads": 8}),
    "qwen2": Family(implies={"qkv_bias": True}),
    "qwen2_moe": Family(_QWEN_EXPERTS, {"qkv_bias": True, "shared_expert_gate": True}),
    "qwen3": Family(implies={"qk_norm": True, "head_dim": 128}),
    "qwen3_moe": Family(_QWEN_EXPERTS, {"qk_norm": True}),
    "deepseek_v2": Family(),
    "deepseek_v3": Family(implies={"topk_method": "noaux_tc"}),
    "gpt2": Family(
        {
            "n_embd": "hidden_size",
            "n_layer": "num_hidden_layers",
            "n_head": "num_attention_heads",
            "n_inner": "intermediate_size",
            "n_positions": "learned_positions",
        },
        {**_GPT, "dropout": True, "tie_word_embeddings": True},
    ),
    "gpt_neox": Family(
        {"use_parallel_residual": "parallel_residual"}, {**_GPT, "parallel_residual": True}
    ),
}
"""`model_type` -> how its files read. The empty name: keys without a type."""

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mixtral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3_moe",
    "DeepseekV2ForCausalLM": "deepseek_v2",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "GPT2LMHeadModel": "gpt2",
    "GPTNeoXForCausalLM": "gpt_neox",
}
"""Class in `architectures` -> type, for files that leave the type out."""

RENAMED = frozenset(key for family in FAMILIES.values() for key in family.renames)
"""Keys of single families that stand for one of ours."""

UNREAD = (
    "activation_function",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "aux_loss_alpha",
    "auto_map",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "dtype",
    "embd_pdrop",
    "ep_size",
    "eos_token_id",
    "hidden_act",
    "hidden_dropout",
    "initializer_range",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "max_position_embeddings",
    "max_sequence_length",
    "max_window_layers",
    "model_type",
    "n_ctx",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "norm_topk_prob",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "original_max_position_embeddings",
    "output_router_logits",
    "pad_token_id",
    "partial_rotary_factor",
    "pretraining_tp",
    "qk_head_dim",
    "quantization_config",
    "reorder_and_upcast_attn",
    "resid_pdrop",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "rotary_emb_base",
    "rotary_pct",
    "routed_scaling_factor",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    "scoring_func",
    "seq_aux",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "use_mrope",
)
"""Keys of Hugging Face's configurations that no cost depends on; inline models may hold them."""

_FULL = "Only full attention is simulated. Write {key}: null to count it as full attention."
NOT_YET: dict[str, str] = {
    "sliding_window": _FULL,
    "use_sliding_window": _FULL,
    "layer_types": _FULL,
    "attention_chunk_size": _FULL,
    "add_cross_attention": "Only decoders without cross-attention are read.",
    "is_encoder_decoder": "Only decoders are read.",
    "text_config": "Give the keys of its text_config alone; images and sound are not simulated.",
    "vision_config": "Give the keys of its text model alone; vision is not simulated.",
}
"""Keys that change the costs and are not read, where they say anything: key -> remedy."""

_SIZE = re.compile(
    r"^(num|n)_|_(size|dim|rank|heads|layers|experts|bias|window|freq|step)$|experts|lora|bias$"
)
"""Names of keys that look as if parameters or FLOPs depended on them."""


def normalise(values: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """Return a configuration of any known family in our keys. known: our keys.

    null means that a key is absent. Errors: InputError for a family, or a key of cost, that is not
    read.
    """
    given = {key: value for key, value in values.items() if value is not None}
    kind = _kind(given)
    family = FAMILIES[kind]
    _refuse_unsupported(given, kind)
    _refuse_unknown(given, kind, known | family.renames.keys())
    result = {**family.implies, **_renamed(given, kind)}
    # What these families' code derives from other keys.
    hidden_size = result.get("hidden_size")
    if kind == "gpt2" and isinstance(hidden_size, int):
        result.setdefault("intermediate_size", 4 * hidden_size)  # n_inner: null
    if "num_local_experts" in given and "intermediate_size" in result:
        # Mixtral's experts have no width of their own.
        result.setdefault("moe_intermediate_size", result["intermediate_size"])
    return result


def _renamed(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the keys of a family's file under our names.

    Errors: InputError where two names disagree.
    """
    result = dict(given)
    for theirs, ours in FAMILIES[kind].renames.items():
        if theirs not in result:
            continue
        value = result.pop(theirs)
        # A file may carry both names: only a contradiction is a fault.
        if result.setdefault(ours, value) != value:
            files = f"{kind or 'these'} files"
            raise InputError(
                f"contradicts {ours}: {result[ours]}, which means the same",
                key=theirs,
                value=value,
                remedy=f"Keep one of them; {files} call it {theirs}.",
            )
    return result


def _kind(given: Mapping[str, Any]) -> str:
    """Return the type of a file, from `model_type` or its class.

    Errors: InputError where it is not known.
    """
    if "model_type" in given:
        key = "model_type"
        name = str(given[key])
        kind = name if name in FAMILIES else ""
    elif given.get("architectures"):
        key = "architectures"
        name = str(given[key][0])
        kind = ARCHITECTURES.get(name, "")
    else:
        return ""
    if kind:
        return kind
    types = [family for family in FAMILIES if family]
    near = difflib.get_close_matches(name, types, n=1, cutoff=0.8)
    hint = f"Did you mean '{near[0]}'? " if near else ""
    known = ", ".join(types)
    raise InputError(
        "is not a family of models that simulate reads",
        key=key,
        value=name,
        remedy=f"{hint}Choose from: {known}. Write another model in the keys of one of them.",
    )


def _refuse_unsupported(given: Mapping[str, Any], kind: str) -> None:
    """Refuse keys of NOT_YET, unless they leave attention as it is."""
    for key, remedy in NOT_YET.items():
        if given.get(key) and not _is_full_attention(key, given, kind):
            raise InputError(
                "changes the cost and is not read yet",
                key=key,
                value=given[key],
                remedy=remedy.format(key=key),
            )


def _is_full_attention(key: str, given: Mapping[str, Any], kind: str) -> bool:
    """Tell whether a key of NOT_YET says no more than that every token attends to all before it."""
    if key == "layer_types":
        return set(given[key]) <= {"full_attention"}
    if key not in ("sliding_window", "use_sliding_window"):
        return False
    # Qwen's window is off unless the file says otherwise.
    on = given.get("use_sliding_window", not kind.startswith("qwen"))
    window = given.get("sliding_window")
    longest = given.get("max_position_embeddings")
    if not on or window is None:
        return True
    if not isinstance(window, int) or not isinstance(longest, int):
        return False
    # A window that holds the longest sequence cuts nothing off.
    return window >= longest


def _refuse_unknown(given: Mapping[str, Any], kind: str, known: Set[str]) -> None:
    """Refuse keys that are not read and look as if cost depended on them."""
    for key, value in given.items():
        if key in known or key in UNREAD or key in NOT_YET:
            continue
        # Texts of unknown keys are let pass: configurations hold many that cost nothing.
        is_size = isinstance(value, int | float | list) and _SIZE.search(key)
        if value and is_size:
            of_kind = f" of {kind}" if kind else ""
            raise InputError(
                f"is not a key{of_kind} that simulate reads, and looks as if cost depended on it",
                key=key,
                value=value,
                remedy=f"Write {key}: null if it does not.",
            )

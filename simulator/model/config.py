"""The architecture of a transformer in Hugging Face's keys: widths, heads, experts, and which layer is what."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.errors import InputError
from simulator.model.read import normalise

BlockKind = Literal["embedding", "dense", "moe", "mtp", "head"]


class Architecture(BaseModel):
    """A transformer in Hugging Face's keys; keys of a real `config.json` that cost nothing are ignored.

    Multi-head latent attention where `kv_lora_rank` is given, grouped-query attention otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field("", description="name for reports")
    model_type: str = Field("", description="Hugging Face's name of the family; empty: as Llama")
    vocab_size: int = Field(gt=0, description="tokens in the vocabulary")
    hidden_size: int = Field(gt=0, description="width of the residual stream")
    num_hidden_layers: int = Field(gt=0, description="transformer layers, MTP apart")
    num_attention_heads: int = Field(gt=0, description="query heads")
    num_key_value_heads: int = Field(
        0, ge=0, description="key and value heads; 0: as many as query heads"
    )
    head_dim: int = Field(0, ge=0, description="width of a head; 0: hidden_size / heads")
    intermediate_size: int = Field(gt=0, description="width of a dense FFN")
    gated: bool = Field(
        True, description="the FFN has gate, up and down (SwiGLU); false: up and down (GELU)"
    )
    layer_norm: bool = Field(False, description="LayerNorm with weight and bias; false: RMSNorm")
    attention_bias: bool = Field(
        False, description="biases on all of attention's projections of the residual stream"
    )
    qkv_bias: bool = Field(False, description="biases on the query, key and value projections")
    mlp_bias: bool = Field(False, description="biases in the FFN")
    qk_norm: bool = Field(False, description="a norm on each query and key head")
    parallel_residual: bool = Field(
        False, description="attention and FFN both read the layer's input"
    )
    learned_positions: int = Field(
        0, ge=0, description="rows of a learned table of positions; 0: rotary positions"
    )
    q_lora_rank: int = Field(0, ge=0, description="MLA: rank of the query compression; 0: none")
    kv_lora_rank: int = Field(
        0, ge=0, description="MLA: rank of the key-value compression; 0: no MLA"
    )
    qk_nope_head_dim: int = Field(0, ge=0, description="MLA: head width without position")
    qk_rope_head_dim: int = Field(0, ge=0, description="MLA: head width with rotary position")
    v_head_dim: int = Field(0, ge=0, description="MLA: width of a value head")
    n_routed_experts: int = Field(
        0, ge=0, description="routed experts per MoE layer; 0: dense model"
    )
    n_shared_experts: int = Field(0, ge=0, description="experts that every token passes")
    num_experts_per_tok: int = Field(0, ge=0, description="routed experts per token (top_k)")
    moe_intermediate_size: int = Field(0, ge=0, description="width of one expert's FFN")
    shared_expert_intermediate_size: int = Field(
        0, ge=0, description="width of the shared expert, if of its own"
    )
    shared_expert_gate: bool = Field(
        False, description="the shared expert's output is scaled by a gate of its own"
    )
    first_k_dense_replace: int = Field(0, ge=0, description="first layers that are dense")
    moe_layer_freq: int = Field(1, gt=0, description="layers 0, n, 2n, ... have experts (DeepSeek)")
    decoder_sparse_step: int = Field(
        1, gt=0, description="layers n - 1, 2n - 1, ... have experts (Qwen)"
    )
    mlp_only_layers: tuple[int, ...] = Field((), description="layers without experts (Qwen)")
    n_group: int = Field(1, gt=0, description="groups of experts for group-limited routing")
    topk_group: int = Field(1, gt=0, description="groups that a token may reach")
    topk_method: str = Field(
        "greedy", description="noaux_tc: a group's score is the sum of its two largest scores"
    )
    num_nextn_predict_layers: int = Field(0, ge=0, description="multi-token-prediction modules")
    tie_word_embeddings: bool = Field(
        False, description="the output head is the embedding's transpose"
    )

    @model_validator(mode="before")
    @classmethod
    def _in_our_keys(cls, values: Any) -> Any:
        return (
            normalise(values, frozenset(cls.model_fields)) if isinstance(values, dict) else values
        )

    @model_validator(mode="after")
    def _heads_agree(self) -> Architecture:
        if self.num_attention_heads % self.kv_heads:
            raise InputError(
                "must divide num_attention_heads",
                key="num_key_value_heads",
                value=self.kv_heads,
                remedy=f"Choose a divisor of {self.num_attention_heads}.",
            )
        if not self.qk_dim or not self.v_dim:
            raise InputError(
                "leaves heads without a width",
                key="num_attention_heads",
                value=self.num_attention_heads,
                remedy="Give head_dim, or qk_nope_head_dim and v_head_dim with kv_lora_rank.",
            )
        if self.first_k_dense_replace > self.num_hidden_layers:
            raise InputError(
                "is more than num_hidden_layers",
                key="first_k_dense_replace",
                value=self.first_k_dense_replace,
                remedy=f"Choose up to {self.num_hidden_layers}.",
            )
        if self.n_routed_experts and not self.moe_intermediate_size:
            raise InputError(
                "must be given with routed experts",
                key="moe_intermediate_size",
                value=self.moe_intermediate_size,
                remedy="Give the width of one expert.",
            )
        return self

    @model_validator(mode="after")
    def _experts_agree(self) -> Architecture:
        if self.n_routed_experts and not (0 < self.num_experts_per_tok <= self.n_routed_experts):
            raise InputError(
                "must lie between 1 and n_routed_experts",
                key="num_experts_per_tok",
                value=self.num_experts_per_tok,
                remedy=f"Choose up to {self.n_routed_experts}.",
            )
        if self.n_routed_experts % self.n_group:
            remedy = f"Choose a divisor of {self.n_routed_experts}."
            raise InputError(
                "must divide n_routed_experts", key="n_group", value=self.n_group, remedy=remedy
            )
        if self.topk_group > self.n_group:
            raise InputError(
                "is more than n_group",
                key="topk_group",
                value=self.topk_group,
                remedy=f"Choose up to {self.n_group}.",
            )
        if (
            self.topk_method == "noaux_tc"
            and self.topk_group < self.n_group == self.n_routed_experts
        ):
            raise InputError(
                "groups hold one expert, and noaux_tc sums the two best scores of a group",
                key="n_group",
                value=self.n_group,
                remedy="Choose fewer groups, or topk_method: group_limited_greedy.",
            )
        reachable = self.n_routed_experts // self.n_group * self.topk_group
        if self.n_routed_experts and reachable < self.num_experts_per_tok:
            raise InputError(
                f"groups hold {reachable} experts, fewer than num_experts_per_tok",
                key="topk_group",
                value=self.topk_group,
                remedy=f"A token needs {self.num_experts_per_tok}: allow more groups.",
            )
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some keys replaced, which keeps nothing that was counted for the old ones."""
        copy = super().model_copy(update=update, deep=deep)
        for name in set(copy.__dict__) - set(type(self).model_fields):
            del copy.__dict__[name]  # pydantic copies the values of cached properties too
        return copy

    @property
    def is_mla(self) -> bool:
        """Tell whether attention is multi-head latent attention."""
        return self.kv_lora_rank > 0

    @property
    def qk_dim(self) -> int:
        """Return the width of a query or key head."""
        if self.is_mla:
            return self.qk_nope_head_dim + self.qk_rope_head_dim
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def v_dim(self) -> int:
        """Return the width of a value head."""
        return self.v_head_dim if self.is_mla else self.qk_dim

    @property
    def kv_heads(self) -> int:
        """Return the number of key and value heads."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def shared_expert_width(self) -> int:
        """Return the width of all shared experts together."""
        return (
            self.shared_expert_intermediate_size
            or self.n_shared_experts * self.moe_intermediate_size
        )

    @cached_property
    def projections(self) -> tuple[tuple[str, int, int], ...]:
        """Return the attention's weight matrices as (name, outputs, inputs)."""
        h, heads = self.hidden_size, self.num_attention_heads
        if not self.is_mla:
            width = self.qk_dim
            qkv = (heads + 2 * self.kv_heads) * width
            return (("qkv", qkv, h), ("o", h, heads * width))
        q = (("q_a", self.q_lora_rank, h), ("q_b", heads * self.qk_dim, self.q_lora_rank))
        q = q if self.q_lora_rank else (("q", heads * self.qk_dim, h),)  # type: ignore[assignment]
        kv_up = heads * (self.qk_nope_head_dim + self.v_head_dim)
        return (
            *q,
            ("kv_a", self.kv_lora_rank + self.qk_rope_head_dim, h),
            ("kv_b", kv_up, self.kv_lora_rank),
            ("o", h, heads * self.v_head_dim),
        )

    def layer_kind(self, index: int) -> BlockKind:
        """Return whether transformer layer `index` (from 0) is dense or MoE.

        As in modeling_deepseek.py (first_k_dense_replace, moe_layer_freq) and modeling_qwen2_moe.py
        (the others); a family leaves the other's keys at the values that choose every layer.
        """
        sparse = (
            self.n_routed_experts
            and index >= self.first_k_dense_replace
            and index % self.moe_layer_freq == 0
            and (index + 1) % self.decoder_sparse_step == 0
            and index not in self.mlp_only_layers
        )
        return "moe" if sparse else "dense"

    @cached_property
    def blocks(self) -> tuple[BlockKind, ...]:
        """Return the model's blocks in forward order, MTP modules after the head."""
        layers = [self.layer_kind(index) for index in range(self.num_hidden_layers)]
        modules: list[BlockKind] = ["mtp"] * self.num_nextn_predict_layers
        return ("embedding", *layers, "head", *modules)

    @cached_property
    def moe_layers(self) -> int:
        """Return the number of MoE layers, MTP apart."""
        return self.blocks.count("moe")

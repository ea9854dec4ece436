"""The architecture of a transformer in Hugging Face's keys: widths, heads, experts, layers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from simulator.errors import InputError
from simulator.frozen import FROZEN
from simulator.model.read import normalise
from simulator.units import Integer

BlockKind = Literal["embedding", "dense", "moe", "mtp", "head"]


class Architecture(BaseModel):
    """A transformer in Hugging Face's keys.

    Keys of a real `config.json` that cost nothing are ignored.

    Multi-head latent attention where `kv_lora_rank` is given, grouped-query attention otherwise.
    """

    model_config = FROZEN | {"extra": "ignore"}

    name: str = Field("", description="Name of the model in reports.", examples=["deepseek-v3"])
    model_type: str = Field(
        "",
        description="Hugging Face's name of the model's family; without it, keys read as Llama's.",
        examples=["llama", "mixtral", "qwen3_moe", "deepseek_v3"],
    )
    vocab_size: Integer = Field(gt=0, description="Number of tokens in the vocabulary.")
    hidden_size: Integer = Field(gt=0, description="Width of the residual stream.")
    num_hidden_layers: Integer = Field(
        gt=0, description="Number of transformer layers, multi-token prediction not included."
    )
    num_attention_heads: Integer = Field(gt=0, description="Number of query heads.")
    num_key_value_heads: Integer = Field(
        0, ge=0, description="Number of key and value heads; 0 stands for as many as query heads."
    )
    head_dim: Integer = Field(
        0,
        ge=0,
        description="Width of a head; 0 stands for hidden_size / num_attention_heads.",
    )
    intermediate_size: Integer = Field(gt=0, description="Width of a dense FFN.")
    gated: bool = Field(
        True,
        description=(
            "Whether the FFN has gate, up and down projections (SwiGLU), not just up and down "
            "(GELU)."
        ),
    )
    layer_norm: bool = Field(
        False,
        description="Whether norms are LayerNorm with weight and bias, not RMSNorm.",
    )
    attention_bias: bool = Field(
        False,
        description="Whether all of attention's projections of the residual stream have biases.",
    )
    qkv_bias: bool = Field(
        False, description="Whether the query, key and value projections have biases."
    )
    mlp_bias: bool = Field(False, description="Whether the FFN has biases.")
    dropout: bool = Field(
        False,
        description="Whether outputs of attention and FFN pass a dropout before they are added.",
    )
    qk_norm: bool = Field(False, description="Whether each query and key head has a norm.")
    parallel_residual: bool = Field(
        False, description="Whether attention and FFN both read the layer's input."
    )
    learned_positions: Integer = Field(
        0,
        ge=0,
        description="Rows of a learned table of positions; 0 stands for rotary positions.",
    )
    q_lora_rank: Integer = Field(
        0,
        ge=0,
        description="Rank of the query compression of MLA; 0 stands for none.",
    )
    kv_lora_rank: Integer = Field(
        0,
        ge=0,
        description=("Rank of the key-value compression of MLA; 0 stands for a model without MLA."),
    )
    qk_nope_head_dim: Integer = Field(
        0, ge=0, description="Width of the part of a head without position, of MLA."
    )
    qk_rope_head_dim: Integer = Field(
        0, ge=0, description="Width of the part of a head with rotary position, of MLA."
    )
    v_head_dim: Integer = Field(0, ge=0, description="Width of a value head of MLA.")
    n_routed_experts: Integer = Field(
        0, ge=0, description="Number of routed experts per MoE layer; 0 stands for a dense model."
    )
    n_shared_experts: Integer = Field(
        0, ge=0, description="Number of experts per MoE layer that every token passes."
    )
    num_experts_per_tok: Integer = Field(
        0, ge=0, description="Number of routed experts that a token passes (top_k)."
    )
    moe_intermediate_size: Integer = Field(0, ge=0, description="Width of the FFN of one expert.")
    shared_expert_intermediate_size: Integer = Field(
        0,
        ge=0,
        description=(
            "Width of the shared expert; 0 stands for n_shared_experts x moe_intermediate_size."
        ),
    )
    shared_expert_gate: bool = Field(
        False, description="Whether a gate of its own scales the shared expert's output."
    )
    first_k_dense_replace: Integer = Field(
        0, ge=0, description="Number of dense layers before the first MoE layer."
    )
    moe_layer_freq: Integer = Field(
        1, gt=0, description="Step n of the MoE layers 0, n, 2n, ... (DeepSeek)."
    )
    decoder_sparse_step: Integer = Field(
        1, gt=0, description="Step n of the MoE layers n - 1, 2n - 1, ... (Qwen)."
    )
    mlp_only_layers: tuple[Integer, ...] = Field(
        (),
        description="Indices of the layers that have no experts (Qwen).",
        examples=[[0, 1]],
    )
    n_group: Integer = Field(
        1, gt=0, description="Number of groups of experts for group-limited routing."
    )
    topk_group: Integer = Field(
        1, gt=0, description="Number of groups of experts that a token may reach."
    )
    topk_method: str = Field(
        "greedy",
        description=(
            "How groups are ranked: by their largest score, or with noaux_tc by the sum of their "
            "two largest scores."
        ),
        examples=["noaux_tc"],
    )
    num_nextn_predict_layers: Integer = Field(
        0, ge=0, description="Number of multi-token-prediction modules."
    )
    tie_word_embeddings: bool = Field(
        False, description="Whether the output head is the embedding's transpose."
    )

    @model_validator(mode="before")
    @classmethod
    def _in_our_keys(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return normalise(values, frozenset(cls.model_fields))
        return values

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
        self._at_most("first_k_dense_replace", "num_hidden_layers")
        return self

    @model_validator(mode="after")
    def _experts_agree(self) -> Architecture:
        self._at_most("topk_group", "n_group")
        if not self.n_routed_experts:
            return self
        if not self.moe_intermediate_size:
            raise InputError(
                "must be given with routed experts",
                key="moe_intermediate_size",
                value=self.moe_intermediate_size,
                remedy="Give the width of one expert.",
            )
        if not 0 < self.num_experts_per_tok <= self.n_routed_experts:
            raise InputError(
                "must lie between 1 and n_routed_experts",
                key="num_experts_per_tok",
                value=self.num_experts_per_tok,
                remedy=f"Choose at most {self.n_routed_experts}.",
            )
        self._groups_agree()
        return self

    def _groups_agree(self) -> None:
        """Refuse groups of experts that group-limited routing cannot choose from.

        Errors: InputError.
        """
        if self.n_routed_experts % self.n_group:
            raise InputError(
                "must divide n_routed_experts",
                key="n_group",
                value=self.n_group,
                remedy=f"Choose a divisor of {self.n_routed_experts}.",
            )
        limited = self.topk_group < self.n_group
        single = self.n_group == self.n_routed_experts
        if self.topk_method == "noaux_tc" and limited and single:
            raise InputError(
                "groups hold one expert, and noaux_tc sums the two best scores of a group",
                key="n_group",
                value=self.n_group,
                remedy="Choose fewer groups, or topk_method: group_limited_greedy.",
            )
        reachable = self.n_routed_experts // self.n_group * self.topk_group
        if reachable < self.num_experts_per_tok:
            raise InputError(
                f"groups hold {reachable} experts, fewer than num_experts_per_tok",
                key="topk_group",
                value=self.topk_group,
                remedy=f"A token needs {self.num_experts_per_tok}: allow more groups.",
            )

    def _at_most(self, key: str, limit: str) -> None:
        """Refuse a key that exceeds another. Errors: InputError."""
        value, most = getattr(self, key), getattr(self, limit)
        if value > most:
            raise InputError(
                f"is more than {limit}", key=key, value=value, remedy=f"Choose at most {most}."
            )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some keys replaced, which counts everything anew."""
        copy = super().model_copy(update=update, deep=deep)
        for name in set(copy.__dict__) - set(type(self).model_fields):
            del copy.__dict__[name]  # pydantic copies the values of cached properties too
        return copy

    # What follows from several keys is a property, so that no file can contradict itself.

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
            # One fused matrix, as Megatron has it: queries of every head, keys and values of fewer.
            qkv = (heads + 2 * self.kv_heads) * width
            return (("qkv", qkv, h), ("o", h, heads * width))
        # Down to the compressed vector and up again, DeepSeek-V2, arXiv 2405.04434, section 2.1; the
        # rotary part of a key is not compressed and leaves the first matrix with the vector.
        kv_up = heads * (self.qk_nope_head_dim + self.v_head_dim)
        common = (
            ("kv_a", self.kv_lora_rank + self.qk_rope_head_dim, h),
            ("kv_b", kv_up, self.kv_lora_rank),
            ("o", h, heads * self.v_head_dim),
        )
        if not self.q_lora_rank:
            return (("q", heads * self.qk_dim, h), *common)
        compressed = ("q_a", self.q_lora_rank, h)
        expanded = ("q_b", heads * self.qk_dim, self.q_lora_rank)
        return (compressed, expanded, *common)

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
        """Return the number of MoE layers, without those of MTP."""
        return self.blocks.count("moe")

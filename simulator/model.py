"""What a model is: its architecture in Hugging Face's keys, and what follows from it by counting.

One multiply-add is 2 FLOPs. Sources: DeepSeek-V3, arXiv 2412.19437, section 2 and its published config.json.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.errors import InputError

BlockKind = Literal["embedding", "dense", "moe", "mtp", "head"]

UNREAD = (
    "architectures", "attention_bias", "attention_dropout", "aux_loss_alpha", "auto_map", "bos_token_id", "ep_size",
    "eos_token_id", "hidden_act", "initializer_range", "max_position_embeddings", "mlp_bias", "model_type",
    "moe_layer_freq", "norm_topk_prob", "pad_token_id", "pretraining_tp", "quantization_config", "rms_norm_eps",
    "rope_scaling", "rope_theta", "routed_scaling_factor", "scoring_func", "seq_aux", "sliding_window", "torch_dtype",
    "transformers_version", "use_cache",
)
"""Keys of Hugging Face's configurations that no cost depends on; inline models may hold them."""
NOT_YET = ("num_local_experts", "num_experts")
"""Keys that change the costs and are not read yet: Mixtral's and Qwen's experts."""


class ModelConfig(BaseModel):
    """A transformer in Hugging Face's keys; unknown keys of a real `config.json` are ignored.

    Multi-head latent attention where `kv_lora_rank` is given, grouped-query attention otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field("", description="name for reports")
    vocab_size: int = Field(gt=0, description="tokens in the vocabulary")
    hidden_size: int = Field(gt=0, description="width of the residual stream")
    num_hidden_layers: int = Field(gt=0, description="transformer layers, MTP apart")
    num_attention_heads: int = Field(gt=0, description="query heads")
    num_key_value_heads: int = Field(0, ge=0, description="key and value heads; 0: as many as query heads")
    head_dim: int = Field(0, ge=0, description="width of a head; 0: hidden_size / heads")
    intermediate_size: int = Field(gt=0, description="width of a dense FFN (gate, up and down)")
    q_lora_rank: int = Field(0, ge=0, description="MLA: rank of the query compression; 0: none")
    kv_lora_rank: int = Field(0, ge=0, description="MLA: rank of the key-value compression; 0: no MLA")
    qk_nope_head_dim: int = Field(0, ge=0, description="MLA: head width without position")
    qk_rope_head_dim: int = Field(0, ge=0, description="MLA: head width with rotary position")
    v_head_dim: int = Field(0, ge=0, description="MLA: width of a value head")
    n_routed_experts: int = Field(0, ge=0, description="routed experts per MoE layer; 0: dense model")
    n_shared_experts: int = Field(0, ge=0, description="experts that every token passes")
    num_experts_per_tok: int = Field(0, ge=0, description="routed experts per token (top_k)")
    moe_intermediate_size: int = Field(0, ge=0, description="width of one expert's FFN")
    first_k_dense_replace: int = Field(0, ge=0, description="first layers that are dense")
    n_group: int = Field(1, gt=0, description="groups of experts for group-limited routing")
    topk_group: int = Field(1, gt=0, description="groups that a token may reach")
    topk_method: str = Field("greedy", description="noaux_tc: a group's score is the sum of its two largest scores")
    num_nextn_predict_layers: int = Field(0, ge=0, description="multi-token-prediction modules")
    tie_word_embeddings: bool = Field(False, description="the output head is the embedding's transpose")

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, values: Any) -> Any:
        # config.json of DeepSeek-V2-Lite has "q_lora_rank": null, others "num_key_value_heads": null.
        if not isinstance(values, dict):
            return values
        for key in NOT_YET:
            if values.get(key):
                raise InputError("is not read yet", key=key, value=values[key],
                                 remedy="Write the model in DeepSeek's keys: n_routed_experts, moe_intermediate_size.")
        return {key: value for key, value in values.items() if value is not None}

    @model_validator(mode="after")
    def _heads_agree(self) -> ModelConfig:
        if self.num_attention_heads % self.kv_heads:
            raise InputError("must divide num_attention_heads", key="num_key_value_heads", value=self.kv_heads,
                             remedy=f"Choose a divisor of {self.num_attention_heads}.")
        if not self.qk_dim or not self.v_dim:
            raise InputError("leaves heads without a width", key="num_attention_heads", value=self.num_attention_heads,
                             remedy="Give head_dim, or qk_nope_head_dim and v_head_dim with kv_lora_rank.")
        if self.first_k_dense_replace > self.num_hidden_layers:
            raise InputError("is more than num_hidden_layers", key="first_k_dense_replace",
                             value=self.first_k_dense_replace, remedy=f"Choose up to {self.num_hidden_layers}.")
        if self.n_routed_experts and not self.moe_intermediate_size:
            raise InputError("must be given with routed experts", key="moe_intermediate_size",
                             value=self.moe_intermediate_size, remedy="Give the width of one expert.")
        return self

    @model_validator(mode="after")
    def _experts_agree(self) -> ModelConfig:
        if self.n_routed_experts and not (0 < self.num_experts_per_tok <= self.n_routed_experts):
            raise InputError(
                "must lie between 1 and n_routed_experts", key="num_experts_per_tok", value=self.num_experts_per_tok,
                remedy=f"Choose up to {self.n_routed_experts}.",
            )
        if self.n_routed_experts % self.n_group:
            remedy = f"Choose a divisor of {self.n_routed_experts}."
            raise InputError("must divide n_routed_experts", key="n_group", value=self.n_group, remedy=remedy)
        if self.topk_group > self.n_group:
            raise InputError("is more than n_group", key="topk_group", value=self.topk_group,
                             remedy=f"Choose up to {self.n_group}.")
        if self.topk_method == "noaux_tc" and self.topk_group < self.n_group == self.n_routed_experts:
            raise InputError("groups hold one expert, and noaux_tc sums the two best scores of a group", key="n_group",
                             value=self.n_group, remedy="Choose fewer groups, or topk_method: group_limited_greedy.")
        reachable = self.n_routed_experts // self.n_group * self.topk_group
        if self.n_routed_experts and reachable < self.num_experts_per_tok:
            raise InputError(
                f"groups hold {reachable} experts, fewer than num_experts_per_tok", key="topk_group",
                value=self.topk_group, remedy=f"A token needs {self.num_experts_per_tok}: allow more groups.",
            )
        return self

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
    def moe_layers(self) -> int:
        """Return the number of MoE layers, MTP apart."""
        return self.num_hidden_layers - self.first_k_dense_replace if self.n_routed_experts else 0

    def layer_kind(self, index: int) -> BlockKind:
        """Return whether transformer layer `index` (from 0) is dense or MoE."""
        return "moe" if self.n_routed_experts and index >= self.first_k_dense_replace else "dense"

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

    @property
    def attention_parameters(self) -> int:
        """Return the parameters of one layer's attention, its norms included."""
        matrices = sum(out * inp for _, out, inp in self.projections)
        return matrices + self.q_lora_rank + self.kv_lora_rank + self.hidden_size

    def ffn_parameters(self, width: int) -> int:
        """Return the parameters of a gated FFN (gate, up, down)."""
        return 3 * self.hidden_size * width

    @property
    def expert_parameters(self) -> int:
        """Return the parameters of one routed expert."""
        return self.ffn_parameters(self.moe_intermediate_size)

    @property
    def router_parameters(self) -> int:
        """Return the parameters of one layer's router."""
        return self.hidden_size * self.n_routed_experts

    @property
    def embedding_parameters(self) -> int:
        """Return the parameters of the input embedding."""
        return self.vocab_size * self.hidden_size

    @property
    def shared_expert_width(self) -> int:
        """Return the width of all shared experts together."""
        return self.n_shared_experts * self.moe_intermediate_size

    def block_parameters(self, kind: BlockKind) -> tuple[int, int]:
        """Return (dense, routed) parameters that a block holds.

        An MTP module holds two norms, the projection of 2h to h, and one layer; it shares embedding and head.
        """
        h = self.hidden_size
        if kind == "embedding":
            return (self.embedding_parameters, 0)
        if kind == "head":
            return (h if self.tie_word_embeddings else self.embedding_parameters + h, 0)
        if kind == "dense":
            return (self.attention_parameters + h + self.ffn_parameters(self.intermediate_size), 0)
        if kind == "mtp":
            dense, routed = self.block_parameters(self.layer_kind(self.num_hidden_layers))
            return (dense + 2 * h + 2 * h * h, routed)
        shared = self.ffn_parameters(self.shared_expert_width)
        dense = self.attention_parameters + h + shared + self.router_parameters
        return (dense, self.n_routed_experts * self.expert_parameters)

    @cached_property
    def blocks(self) -> tuple[BlockKind, ...]:
        """Return the model's blocks in forward order, MTP modules after the head."""
        layers = [self.layer_kind(index) for index in range(self.num_hidden_layers)]
        modules: list[BlockKind] = ["mtp"] * self.num_nextn_predict_layers
        return ("embedding", *layers, "head", *modules)

    @cached_property
    def parameters(self) -> int:
        """Return the parameters, MTP apart."""
        return sum(sum(self.block_parameters(kind)) for kind in self.blocks if kind != "mtp")

    @cached_property
    def active_parameters(self) -> int:
        """Return the parameters that one token meets, without the input embedding and MTP."""
        idle = (self.n_routed_experts - self.num_experts_per_tok) * self.expert_parameters
        tied = self.embedding_parameters if self.tie_word_embeddings else 0
        return self.parameters - self.embedding_parameters + tied - self.moe_layers * idle

    def flops_per_token(self, seq_length: int) -> float:
        """Return forward plus backward FLOPs per token: causal attention, head included, embedding and MTP not."""
        return 6.0 * self.active_parameters + 3.0 * self.attention_flops_per_token(seq_length) * self.num_hidden_layers

    def attention_flops_per_token(self, seq_length: int) -> float:
        """Return one layer's causal forward FLOPs per token of QK and PV: half of 2 H (d_qk + d_v) S."""
        return self.num_attention_heads * (self.qk_dim + self.v_dim) * float(seq_length)

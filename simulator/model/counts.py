"""Parameters and FLOPs that follow from an architecture. One multiply-add is 2 FLOPs."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from simulator.model.config import Architecture, BlockKind


class Passes(NamedTuple):
    """FLOPs of the forward pass, the input gradient and the weight gradient."""

    forward: float
    """FLOPs of the forward pass."""
    input_gradient: float
    """FLOPs of the gradient with respect to activations."""
    weight_gradient: float
    """FLOPs of the gradient with respect to weights."""


class ModelConfig(Architecture):
    """A transformer's architecture, its parameters and its FLOPs."""

    @property
    def norm_parameters(self) -> int:
        """Return the parameters of one norm of the residual stream."""
        return (2 if self.layer_norm else 1) * self.hidden_size

    @property
    def attention_bias_parameters(self) -> int:
        """Return the biases of one layer's attention.

        DeepSeek's code gives none to q, q_b and kv_b; Qwen2's none to o; Llama's, Qwen3's and GPT's
        one to each.
        """
        # Without MLA the matrices are qkv and o, with it q_a, kv_a and o of those named here.
        biased = {"q_a", "kv_a", "o"} if self.attention_bias else set()
        if self.attention_bias or self.qkv_bias:
            biased.add("qkv")
        rows = [out for name, out, _ in self.projections if name in biased]
        return sum(rows)

    @property
    def attention_parameters(self) -> int:
        """Return the parameters of one layer's attention, its norms included."""
        sizes = [rows * columns for _, rows, columns in self.projections]
        # One norm of a query and one of a key, shared by the heads of a layer.
        head_norms = 2 * self.qk_dim if self.qk_norm else 0
        # MLA norms each compressed vector before it is expanded; a rank of 0 has none.
        compressed_norms = self.q_lora_rank + self.kv_lora_rank
        norms = compressed_norms + head_norms + self.norm_parameters
        return sum(sizes) + self.attention_bias_parameters + norms

    def ffn_parameters(self, width: int) -> int:
        """Return the parameters of an FFN: gate, up and down, or up and down, with their biases."""
        inner = 2 if self.gated else 1
        weights = (inner + 1) * self.hidden_size * width
        # A width of 0 is an FFN that is not there: it has no bias either.
        if self.mlp_bias and width:
            return weights + inner * width + self.hidden_size
        return weights

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
        """Return the parameters of the input embedding, without a table of positions."""
        return self.vocab_size * self.hidden_size

    @property
    def position_parameters(self) -> int:
        """Return the parameters of the learned positions."""
        return self.learned_positions * self.hidden_size

    def block_parameters(self, kind: BlockKind) -> tuple[int, int]:
        """Return (dense, routed) parameters that a block holds.

        An MTP module holds two norms, the projection of 2h to h, and one layer; it shares embedding
        and head.
        """
        h, norm = self.hidden_size, self.norm_parameters
        if kind == "embedding":
            return (self.embedding_parameters + self.position_parameters, 0)
        if kind == "head":
            # The final norm belongs to the head; a tied head's matrix is counted with the embedding.
            projection = 0 if self.tie_word_embeddings else self.embedding_parameters
            return (projection + norm, 0)
        if kind == "mtp":
            # Its layer is of the kind that the layer after the last one would be.
            layer = self.layer_kind(self.num_hidden_layers)
            dense, routed = self.block_parameters(layer)
            projection = 2 * h * h
            return (dense + 2 * norm + projection, routed)
        # A layer has two norms; `attention_parameters` holds the one before attention.
        common = self.attention_parameters + norm
        if kind == "dense":
            return (common + self.ffn_parameters(self.intermediate_size), 0)
        gate = h if self.shared_expert_gate and self.shared_expert_width else 0
        shared = self.ffn_parameters(self.shared_expert_width) + gate
        dense = common + shared + self.router_parameters
        return (dense, self.n_routed_experts * self.expert_parameters)

    @cached_property
    def parameters(self) -> int:
        """Return the parameters, without MTP."""
        # Hugging Face's own classes leave MTP out, and so do the sizes in models' names.
        kinds = [kind for kind in self.blocks if kind != "mtp"]
        return sum(sum(self.block_parameters(kind)) for kind in kinds)

    @cached_property
    def active_parameters(self) -> int:
        """Return the parameters that one token meets.

        Without the input embedding, learned positions and MTP.
        """
        idle_experts = self.n_routed_experts - self.num_experts_per_tok
        idle = self.moe_layers * idle_experts * self.expert_parameters
        # Tables are looked up, not multiplied with; a tied one is the head too and multiplies there.
        looked_up = self.position_parameters
        if not self.tie_word_embeddings:
            looked_up += self.embedding_parameters
        return self.parameters - looked_up - idle

    def flops_per_token(self, seq_length: int, causal: bool = True) -> float:
        """Return forward plus backward FLOPs per token: head included, embedding and MTP not."""
        return sum(self.passes_per_token(seq_length, causal))

    def passes_per_token(self, seq_length: int, causal: bool = True) -> Passes:
        """Return the FLOPs per token of each pass: head included, embedding and MTP not.

        Attention's two products have no weights: their backward, twice the forward, is input
        gradient alone.
        """
        weights = 2.0 * self.active_parameters
        attention = self.attention_flops_per_token(seq_length, causal) * self.num_hidden_layers
        return Passes(
            forward=weights + attention,
            input_gradient=weights + 2.0 * attention,
            weight_gradient=weights,
        )

    def attention_flops_per_token(self, seq_length: int, causal: bool = True) -> float:
        """Return one layer's forward FLOPs per token of QK and PV.

        2 H (d_qk + d_v) S, half of it if causal.
        """
        width = self.qk_dim + self.v_dim
        whole = 2.0 * self.num_attention_heads * width * seq_length
        # A causal mask leaves the lower triangle: on average a token sees half of the sequence.
        return whole / 2 if causal else whole

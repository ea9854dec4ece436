"""Token routing -> how many tokens travel where.

The router's own rule (group-limited top-k) is applied to sampled scores; how many nodes and GPUs a token reaches
follows from it. DeepSeek-V3, arXiv 2412.19437, section 2.1.2; config.json's `topk_method: noaux_tc`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from simulator.model import ModelConfig

SAMPLED_TOKENS = 16384


class ExpertsConfig(BaseModel):
    """How tokens choose experts, and what the exchange costs the GPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    distribution: Literal["balanced"] = Field("balanced", description="popularity of the experts")
    seed: int = Field(0, ge=0, description="of the sampled router scores")
    sms: int = Field(20, ge=0, description="SMs that dispatch and combine kernels hold")


@dataclass(frozen=True, slots=True)
class Routing:
    """Where the tokens of one GPU go, as means over tokens and GPUs.

    nodes/gpus: distinct nodes and GPUs that hold a token's experts, its own included. ep_nodes: nodes of the
    expert-parallel group. gpus_per_node: GPUs of the group on each node.
    """

    nodes: float
    gpus: float
    ep_nodes: int
    gpus_per_node: int

    @property
    def over_nic(self) -> float:
        """Return copies of a token that its GPU sends over its NIC: one per distinct remote node."""
        return self.nodes * (self.ep_nodes - 1) / self.ep_nodes

    @property
    def over_nvlink(self) -> float:
        """Return copies of a token that a GPU forwards over NVLink: one per distinct GPU but the rail's own."""
        return self.gpus * (self.gpus_per_node - 1) / self.gpus_per_node


def choose(scores: NDArray[np.float32], model: ModelConfig) -> NDArray[np.intp]:
    """Return the experts that tokens choose, group-limited top-k of router scores.

    scores: [token, expert]. Returns [token, top_k]. Ties do not occur in sampled scores.
    """
    tokens, experts = scores.shape
    if model.topk_group < model.n_group:
        grouped = scores.reshape(tokens, model.n_group, experts // model.n_group)
        if model.topk_method == "noaux_tc":
            group_scores = np.partition(grouped, -2, axis=2)[:, :, -2:].sum(axis=2)
        else:
            group_scores = grouped.max(axis=2)
        kept = np.argpartition(group_scores, -model.topk_group, axis=1)[:, -model.topk_group :]
        allowed = np.zeros((tokens, model.n_group), dtype=bool)
        np.put_along_axis(allowed, kept, True, axis=1)
        scores = np.where(np.repeat(allowed, experts // model.n_group, axis=1), scores, np.float32(-1.0))
    return np.argpartition(scores, -model.num_experts_per_tok, axis=1)[:, -model.num_experts_per_tok :]


def distinct(places: NDArray[np.intp], count: int) -> float:
    """Return the mean number of distinct places per row. places: [token, choice] in 0..count-1."""
    hit = np.zeros((places.shape[0], count), dtype=bool)
    np.put_along_axis(hit, places, True, axis=1)
    return float(hit.sum() / places.shape[0])


@lru_cache(maxsize=64)
def route(model: ModelConfig, ep: int, gpus_per_node: int, seed: int) -> Routing:
    """Return where tokens go when every expert is equally popular.

    ep: GPUs that the experts are spread over, in order. gpus_per_node: GPUs of a node.
    """
    rng = np.random.default_rng(seed)
    # Uniform scores: only their order matters, except in a group's sum of two, where a trained router's scores are
    # not published. Normal scores through a sigmoid give 0.3% more nodes.
    scores = rng.random((SAMPLED_TOKENS, model.n_routed_experts), dtype=np.float32)
    experts = choose(scores, model)
    gpu = experts * ep // model.n_routed_experts
    on_node = min(gpus_per_node, ep)
    ep_nodes = -(-ep // on_node)
    return Routing(distinct(gpu // on_node, ep_nodes), distinct(gpu, ep), ep_nodes, on_node)

"""The costs of a scenario's blocks, by block, load and stage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from simulator.compute import Processor
from simulator.costs.blocks import (
    BlockCost,
    BlockMemory,
    Held,
    LoadedKey,
    Parts,
    Stages,
    together,
)
from simulator.costs.hosts import Hosts
from simulator.experts import Loads
from simulator.model import BlockKind
from simulator.ops import Work
from simulator.precision import BYTES

WITH_EXPERTS = ("moe", "mtp")
"""Kinds of blocks that may hold routed experts."""


class Part(NamedTuple):
    """A block of a stage, or one part of an MTP module."""

    number: int
    """Of the model's block among those of the stage."""
    kind: BlockKind
    """Kind of that block."""
    cost: BlockCost

    @property
    def is_layer(self) -> bool:
        """Tell whether it is neither embedding nor head."""
        return self.kind not in ("embedding", "head")


@dataclass(frozen=True)
class Costs:
    """What the blocks of a scenario cost on its GPU."""

    processor: Processor
    """GPU, kernel table and the SMs that communication keeps."""
    hosts: Hosts
    """What launches its kernels."""
    work: Work
    """What one micro-batch asks of a layer whose experts are equally popular."""
    loads: Loads | None
    """Of the MoE layers; None without experts."""
    stages: Stages
    """Kinds of the blocks on each stage."""
    blocks: dict[BlockKind, Parts] = field(repr=False)
    """Kind -> its parts, with equally popular experts."""
    loaded: dict[LoadedKey, Parts] = field(repr=False)
    """The parts of each MoE block under each load."""
    together: int = 1
    """Layers that are recomputed together, where they are as a whole."""
    plain: Costs | None = field(default=None, repr=False)
    """The same with nothing recomputed, where only the first layers of a stage recompute."""
    repeated: int = 0
    """How many those are."""

    @cached_property
    def per_gpu(self) -> bool:
        """Tell whether the GPUs of an expert group have loads of their own."""
        return any(key.member >= 0 for key in self.loaded)

    @cached_property
    def members(self) -> tuple[int, ...]:
        """Return the members of an expert group with costs of their own; (-1,) if all share."""
        members = {key.member for key in self.loaded}
        return tuple(sorted(members)) or (-1,)

    def stage(self, index: int, member: int = -1) -> list[BlockCost]:
        """Return the blocks of a stage in forward order, an MTP module as its parts.

        member: of the expert group, where its GPUs have loads of their own.
        """
        return [part.cost for part in self.parts(index, member)]

    def parts(self, index: int, member: int = -1) -> list[Part]:
        """Return the blocks of a stage as `stage` does, each with the number of its block."""
        member = max(member, 0) if self.per_gpu else -1
        # Loads are in the order of the model's MoE layers, which earlier stages have begun to use.
        before = chain.from_iterable(self.stages[:index])
        layer = sum(kind in WITH_EXPERTS for kind in before)
        parts: list[Part] = []
        seen = 0  # layers of the stage
        for number, kind in enumerate(self.stages[index]):
            table = self
            if kind not in ("embedding", "head"):
                seen += 1
                if self.plain and seen > self.repeated:
                    table = self.plain
            costs = table.blocks[kind]
            if self.loads and kind in WITH_EXPERTS:
                layers = self.loads.layers
                load = layers[layer % len(layers)]
                key = LoadedKey(kind, load, member)
                costs = table.loaded[key]
                layer += 1
            parts += [Part(number, kind, cost) for cost in costs]
        return parts

    def memories(self, index: int) -> list[BlockMemory]:
        """Return the activations of the blocks of a stage in forward order."""
        return together([block.memory for block in self.stage(index)], self.together)

    def saved(self, index: int) -> float:
        """Return the bytes that one micro-batch keeps on a stage [B]."""
        return sum(block.saved for block in self.memories(index))

    def held(self, kinds: Iterable[BlockKind]) -> Held:
        """Return the parameters that one GPU holds of some blocks.

        Norms, routers and MLA's compressions, which every tensor parallel GPU holds whole, are
        counted as cut.
        """
        model = self.work.model
        kinds = tuple(kinds)
        sizes = self._parameters
        dense = sum(sizes[kind][0] for kind in kinds)
        routed = sum(sizes[kind][1] for kind in kinds)
        if model.tie_word_embeddings and "head" in kinds and "embedding" not in kinds:
            # A tied head on another stage than the embedding holds a copy of it.
            dense += model.embedding_parameters
        # Redundant experts are held too: more than n_routed_experts / ep of them.
        experts = max(1, model.n_routed_experts)
        share = self.work.local_experts / experts / self.work.etp
        return Held(dense / self.work.tp, routed * share)

    @cached_property  # asked for by every bucket of every rank
    def _parameters(self) -> dict[BlockKind, tuple[int, int]]:
        """Return kind -> dense and routed parameters of a block."""
        kinds: dict[BlockKind, None] = dict.fromkeys(("embedding", "head"))
        kinds.update(dict.fromkeys(chain.from_iterable(self.stages)))
        return {kind: self.work.model.block_parameters(kind) for kind in kinds}

    def parameters(self, index: int) -> Held:
        """Return the parameters that one GPU holds of a stage; routed ones are spread over ep."""
        return self.held(self.stages[index])

    def token_bytes(self, kind: str) -> float:
        """Return the bytes of all tokens of one GPU, each once, as an exchange carries them [B].

        kind: dispatch, cached_dispatch or combine, which carries BF16.
        """
        width = 2.0
        if kind != "combine":
            width = BYTES[self.work.recipe.dispatch]
        return self.work.own * self.work.model.hidden_size * width

    def activation_bytes(self) -> float:
        """Return the bytes of the residual stream of one micro-batch on one GPU, BF16 [B].

        Without sequence parallelism too a GPU sends 1/tp of it over its NIC, and gathers the rest
        from its tensor parallel group (scatter/gather optimisation, arXiv 2104.04473, section 4.1).
        """
        own_tokens = self.work.tokens / self.work.tp
        return own_tokens * self.work.model.hidden_size * 2.0

"""Degrees, ranks and groups of a parallel layout, and the map from layers to pipeline stages.

Ranks stand in Megatron's order tp-cp-ep-dp-pp: with tp = cp = 1, rank = pp index x dp + dp index, and the
expert-parallel groups are runs of `ep` ranks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from simulator.errors import LayoutError
from simulator.model import BlockKind, ModelConfig

STAGE_RULES = ("balanced", "even")


def _stages(value: object) -> object:
    if isinstance(value, list | tuple) and all(isinstance(text, str | int) for text in value):
        return tuple(str(text) for text in value)  # YAML reads a stage of one layer as a number
    if value not in STAGE_RULES:
        raise LayoutError("is no map", value=value, remedy=f"Write one text per stage, or {' or '.join(STAGE_RULES)}.")
    return value


class LayoutConfig(BaseModel):
    """Degrees of parallelism, in Megatron's names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tp: int = Field(1, gt=0, description="tensor parallel degree; only 1 as yet")
    pp: int = Field(1, gt=0, description="pipeline stages")
    ep: int = Field(1, gt=0, description="expert parallel degree; divides tp x dp")
    zero: Literal[0, 1] = Field(1, description="ZeRO stage: 1 shards optimizer states over data parallel ranks")
    stages: Annotated[tuple[str, ...] | str, BeforeValidator(_stages)] = Field(
        "balanced",
        description="blocks per stage, such as 'embedding 0-4' and '58-60 head mtp', or a rule: balanced (the longest "
        "stage is shortest, in op seconds) or even (as many transformer layers on each)",
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """Degrees that fit a cluster. dp: replicas of the model, per direction of the pipeline."""

    gpus: int
    tp: int
    pp: int
    ep: int
    dp: int
    zero: int

    def rank(self, stage: int, replica: int) -> int:
        """Return the rank at a pipeline and a data-parallel index."""
        return stage * self.dp + replica

    def pipeline_index(self, rank: int) -> int:
        """Return the pipeline index of a rank."""
        return rank // self.dp

    def replica(self, rank: int) -> int:
        """Return the data-parallel index of a rank."""
        return rank % self.dp

    def expert_group(self, rank: int) -> tuple[int, ...]:
        """Return the ranks among which a rank's MoE layers are spread."""
        first = rank - self.replica(rank) % self.ep
        return tuple(range(first, first + self.ep))


def resolve(config: LayoutConfig, gpus: int, model: ModelConfig) -> Layout:
    """Return the layout on a cluster. Errors: LayoutError with all terms of the product and the nearest legal value."""
    if config.tp != 1:
        raise LayoutError("is not simulated yet", key="layout.tp", value=config.tp, remedy="Write 'tp: 1'.")
    if gpus % config.pp:
        legal = _nearest(config.pp, [n for n in range(1, gpus + 1) if gpus % n == 0])
        raise LayoutError(
            f"does not divide {gpus} GPUs: tp {config.tp} x pp {config.pp} x dp must be {gpus}",
            key="layout.pp", value=config.pp, remedy=f"The nearest that do: {legal}.",
        )
    dp = gpus // config.pp
    experts = model.n_routed_experts or 1
    if dp % config.ep or experts % config.ep:
        legal = _nearest(config.ep, [n for n in range(1, dp + 1) if dp % n == 0 and experts % n == 0])
        raise LayoutError(
            f"must divide both dp {dp} (= {gpus} GPUs / pp {config.pp}) and {experts} routed experts"
            if model.n_routed_experts
            else "must be 1: the model has no routed experts",
            key="layout.ep", value=config.ep, remedy=f"The nearest that do: {legal}.",
        )
    if config.pp > len(model.blocks):
        raise LayoutError(
            f"is more than the model's {len(model.blocks)} blocks: layers, embedding, head, MTP", key="layout.pp",
            value=config.pp, remedy="Every stage needs one: choose fewer stages.",
        )
    return Layout(gpus, config.tp, config.pp, config.ep, dp, config.zero)


def _nearest(value: int, legal: Sequence[int]) -> str:
    below = [n for n in legal if n < value][-1:]
    above = [n for n in legal if n > value][:1]
    return " and ".join(str(n) for n in below + above)


def parse_stages(stages: Sequence[str], pp: int, model: ModelConfig) -> tuple[tuple[BlockKind, ...], ...]:
    """Return the blocks of each stage, `(("embedding", "dense", ...), ...)`, from text such as 'embedding 0-4'.

    Errors: LayoutError unless every block of the model stands exactly once, in forward order.
    """
    empty = [number for number, text in enumerate(stages) if not text.split()]
    if empty:
        raise LayoutError(f"leaves stage {empty[0]} empty", key="layout.stages", remedy="Give every stage a block.")
    if len(stages) != pp:
        raise LayoutError(
            f"names {len(stages)} stages where layout.pp is {pp}", key="layout.stages",
            remedy="Name as many, or write 'stages: balanced'.",
        )
    named = [[block for word in text.split() for block in _blocks(word)] for text in stages]
    flat = [name for stage in named for name in stage]
    wanted = _names(model)
    if flat != wanted:
        place = next((i for i, pair in enumerate(zip(flat, wanted, strict=False)) if pair[0] != pair[1]),
                     min(len(flat), len(wanted)))
        found = flat[place] if place < len(flat) else "nothing"
        due = wanted[place] if place < len(wanted) else "nothing"
        raise LayoutError(
            f"has {found} where {due} is due", key="layout.stages",
            remedy=f"Name each once, in order: {wanted[0]}, {wanted[1]} to {model.num_hidden_layers - 1}, "
            f"{', '.join(wanted[model.num_hidden_layers + 1:])}.",
        )
    return tuple(tuple(_kind(name, model) for name in stage) for stage in named)


def _names(model: ModelConfig) -> list[str]:
    layers = [str(index) for index in range(model.num_hidden_layers)]
    return ["embedding", *layers, "head", *("mtp" for _ in range(model.num_nextn_predict_layers))]


def _blocks(word: str) -> list[str]:
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
    if span:
        return [str(index) for index in range(int(span[1]), int(span[2] or span[1]) + 1)]
    if word not in ("embedding", "head", "mtp"):
        raise LayoutError(
            "is no block", key="layout.stages", value=word, remedy="Write embedding, a layer or a range 3-6, head, mtp."
        )
    return [word]


def _kind(name: str, model: ModelConfig) -> BlockKind:
    return model.layer_kind(int(name)) if name.isdigit() else name  # type: ignore[return-value]


def print_stages(stages: Sequence[Sequence[BlockKind]]) -> tuple[str, ...]:
    """Print stages so that `parse_stages` reads them back."""
    texts, layer = [], 0
    for stage in stages:
        count = sum(kind in ("dense", "moe") for kind in stage)
        span = [] if not count else [f"{layer}-{layer + count - 1}" if count > 1 else str(layer)]
        ends = [kind for kind in stage if kind in ("head", "mtp")]
        texts.append(" ".join([*(["embedding"] if "embedding" in stage else []), *span, *ends]))
        layer += count
    return tuple(texts)


def balance(weights: Sequence[float], parts: int) -> tuple[int, ...]:
    """Return the lengths of `parts` runs of `weights` whose longest sum is least; among those, the most even.

    Exact, by dynamic programming over (longest sum, sum of squares). Every run holds a block if there are enough and
    none weighs nothing.
    """
    count = len(weights)
    sums = [0.0]
    for weight in weights:
        sums.append(sums[-1] + weight)
    longest = _least_longest(sums, count, parts)
    best: list[list[tuple[float, int]]] = [[(0.0 if end == 0 else float("inf"), 0) for end in range(count + 1)]]
    for _ in range(parts):
        row = []
        for end in range(count + 1):
            options = (
                (best[-1][start][0] + (sums[end] - sums[start]) ** 2, start)
                for start in range(end + 1)
                if sums[end] - sums[start] <= longest * (1 + 1e-12)
            )
            row.append(min(options, default=(float("inf"), 0)))
        best.append(row)
    lengths, end = [], count
    for row in reversed(best[1:]):
        start = row[end][1]
        lengths.append(end - start)
        end = start
    return tuple(reversed(lengths))


def _least_longest(sums: Sequence[float], count: int, parts: int) -> float:
    worst = [sums[end] for end in range(count + 1)]
    for _ in range(parts - 1):
        worst = [
            min(max(worst[start], sums[end] - sums[start]) for start in range(end + 1)) for end in range(count + 1)
        ]
    return worst[count]


def even(model: ModelConfig, parts: int) -> tuple[int, ...]:
    """Return the lengths of `parts` runs of blocks with as many transformer layers each, the ends having fewer."""
    base, extra = divmod(model.num_hidden_layers, parts)
    middle = sorted(range(parts), key=lambda stage: (min(stage, parts - 1 - stage) * -1, stage))[:extra]
    layers = [base + (stage in middle) for stage in range(parts)]
    layers[0] += 1
    layers[-1] += 1 + model.num_nextn_predict_layers
    return tuple(layers)


def cut(blocks: Sequence[BlockKind], lengths: Sequence[int]) -> tuple[tuple[BlockKind, ...], ...]:
    """Return blocks as runs of the given lengths."""
    stages, start = [], 0
    for length in lengths:
        stages.append(tuple(blocks[start : start + length]))
        start += length
    return tuple(stages)

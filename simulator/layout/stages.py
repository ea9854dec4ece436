"""Blocks -> pipeline stages: maps as text, balanced and even maps."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from simulator.errors import LayoutError
from simulator.model import BlockKind, ModelConfig


def parse_stages(
    stages: Sequence[str], pp: int, model: ModelConfig
) -> tuple[tuple[BlockKind, ...], ...]:
    """Return the blocks of each stage, `(("embedding", "dense", ...), ...)`.

    stages: text such as 'embedding 0-4'. Errors: LayoutError unless every block of the model is
    named exactly once, in forward order.
    """
    empty = [number for number, text in enumerate(stages) if not text.split()]
    if empty:
        raise LayoutError(
            f"leaves stage {empty[0]} empty",
            key="layout.stages",
            remedy="Give every stage a block.",
        )
    if len(stages) != pp:
        raise LayoutError(
            f"names {len(stages)} stages where layout.pp is {pp}",
            key="layout.stages",
            remedy="Name as many, or write 'stages: balanced'.",
        )
    named = [_named(text) for text in stages]
    _check_order([name for stage in named for name in stage], model)
    return tuple(tuple(_kind(name, model) for name in stage) for stage in named)


def _named(text: str) -> list[str]:
    """Return the blocks that the text of a stage names."""
    return [block for word in text.split() for block in _blocks(word)]


def _check_order(named: list[str], model: ModelConfig) -> None:
    """Refuse blocks that are missing, named twice or out of order. Errors: LayoutError."""
    expected = _names(model)
    if named == expected:
        return
    shared = min(len(named), len(expected))
    wrong = next((i for i in range(shared) if named[i] != expected[i]), shared)
    has = named[wrong] if wrong < len(named) else "nothing"
    wanted = expected[wrong] if wrong < len(expected) else "nothing"
    last = ", ".join(expected[model.num_hidden_layers + 1 :])
    raise LayoutError(
        f"has {has} where {wanted} is due",
        key="layout.stages",
        remedy=(
            f"Name each once, in order: {expected[0]}, {expected[1]} to "
            f"{model.num_hidden_layers - 1}, {last}."
        ),
    )


def _names(model: ModelConfig) -> list[str]:
    layers = [str(index) for index in range(model.num_hidden_layers)]
    return ["embedding", *layers, "head", *("mtp" for _ in range(model.num_nextn_predict_layers))]


def _blocks(word: str) -> list[str]:
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
    if span:
        return [str(index) for index in range(int(span[1]), int(span[2] or span[1]) + 1)]
    if word not in ("embedding", "head", "mtp"):
        raise LayoutError(
            "is not a block",
            key="layout.stages",
            value=word,
            remedy="Write embedding, a layer or a range 3-6, head, mtp.",
        )
    return [word]


def _kind(name: str, model: ModelConfig) -> BlockKind:
    return model.layer_kind(int(name)) if name.isdigit() else name  # type: ignore[return-value]


def print_stages(stages: Sequence[Sequence[BlockKind]]) -> tuple[str, ...]:
    """Print stages so that `parse_stages` reads them back."""
    texts, layer = [], 0
    for stage in stages:
        words = ["embedding"] if "embedding" in stage else []
        count = sum(kind in ("dense", "moe") for kind in stage)
        if count > 1:
            words.append(f"{layer}-{layer + count - 1}")
        elif count:
            words.append(str(layer))
        words += [kind for kind in stage if kind in ("head", "mtp")]
        texts.append(" ".join(words))
        layer += count
    return tuple(texts)


def balance(weights: Sequence[float], parts: int) -> tuple[int, ...]:
    """Return the lengths of `parts` runs of `weights` whose longest sum is least.

    Among those, the most even. Exact, by dynamic programming over (longest sum, sum of squares).
    Every run holds a block if there are enough and none weighs nothing.
    """
    count = len(weights)
    sums = [0.0]  # of the first n weights
    for weight in weights:
        sums.append(sums[-1] + weight)
    longest = _least_longest(sums, count, parts) * (1 + 1e-12)
    # best[part][end]: least sum of squares of `part` runs over the first `end` weights, and where
    # the last of them begins.
    best = [[(0.0 if end == 0 else math.inf, 0) for end in range(count + 1)]]
    for _ in range(parts):
        before = best[-1]
        row = []
        for end in range(count + 1):
            options = (
                (before[start][0] + (sums[end] - sums[start]) ** 2, start)
                for start in range(end + 1)
                if sums[end] - sums[start] <= longest
            )
            row.append(min(options, default=(math.inf, 0)))
        best.append(row)
    lengths, end = [], count
    for row in reversed(best[1:]):
        start = row[end][1]
        lengths.append(end - start)
        end = start
    return tuple(reversed(lengths))


def _least_longest(sums: Sequence[float], count: int, parts: int) -> float:
    """Return the least longest sum of `parts` runs. sums: of the first n weights."""
    worst = list(sums[: count + 1])  # of one run over the first n weights
    for _ in range(parts - 1):
        worst = [
            min(max(worst[start], sums[end] - sums[start]) for start in range(end + 1))
            for end in range(count + 1)
        ]
    return worst[count]


def even(model: ModelConfig, parts: int) -> tuple[int, ...]:
    """Return the lengths of `parts` runs of blocks with as many transformer layers each.

    Where they do not divide, the stages in the middle have one more, and the ends fewer.
    """
    base, extra = divmod(model.num_hidden_layers, parts)
    from_the_middle = sorted(
        range(parts), key=lambda stage: (-min(stage, parts - 1 - stage), stage)
    )
    middle = from_the_middle[:extra]
    lengths = [base + (stage in middle) for stage in range(parts)]
    lengths[0] += 1
    lengths[-1] += 1 + model.num_nextn_predict_layers
    return tuple(lengths)


def cut(blocks: Sequence[BlockKind], lengths: Sequence[int]) -> tuple[tuple[BlockKind, ...], ...]:
    """Return blocks as runs of the given lengths."""
    stages, start = [], 0
    for length in lengths:
        stages.append(tuple(blocks[start : start + length]))
        start += length
    return tuple(stages)

"""Blocks -> pipeline stages: maps as text, balanced and even maps."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from simulator.errors import LayoutError
from simulator.model import BlockKind, ModelConfig

Stages: TypeAlias = tuple[tuple[BlockKind, ...], ...]
"""Blocks of each stage, in forward order."""


class Cut(NamedTuple):
    """Runs over the first weights, the best of their kind."""

    squares: float
    """Sum of the squares of the runs' sums, inf if there is no way."""
    start: int
    """Where the last run begins."""


NO_CUT = Cut(math.inf, 0)


def parse_stages(stages: Sequence[str], pp: int, model: ModelConfig) -> Stages:
    """Return the blocks of each stage, `(("embedding", "dense", ...), ...)`.

    stages: text such as 'embedding 0-4'. Errors: LayoutError unless every block of the model is
    named exactly once, in forward order.
    """
    for number, text in enumerate(stages):
        if not text.split():
            raise LayoutError(
                f"leaves stage {number} empty",
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
    _check_order(list(itertools.chain(*named)), model)
    kinds = []
    for stage in named:
        kinds.append(tuple(_kind(name, model) for name in stage))
    return tuple(kinds)


def _named(text: str) -> list[str]:
    """Return the blocks that the text of a stage names."""
    blocks = []
    for word in text.split():
        blocks += _blocks(word)
    return blocks


def _check_order(named: list[str], model: ModelConfig) -> None:
    """Refuse blocks that are missing, named twice or out of order. Errors: LayoutError."""
    expected = _names(model)
    if named == expected:
        return
    # Only the first place that differs: one block that is missing shifts all that follow.
    pairs = itertools.zip_longest(named, expected, fillvalue="nothing")
    has, wanted = next(pair for pair in pairs if pair[0] != pair[1])
    layers = model.num_hidden_layers
    last = ", ".join(expected[layers + 1 :])
    order = f"embedding, 0 to {layers - 1}, {last}"
    raise LayoutError(
        f"has {has} where {wanted} is due",
        key="layout.stages",
        remedy=f"Name each once, in order: {order}.",
    )


def _names(model: ModelConfig) -> list[str]:
    """Return what a stage map calls the blocks of a model, in forward order."""
    layers = [str(index) for index in range(model.num_hidden_layers)]
    mtp = ["mtp"] * model.num_nextn_predict_layers
    return ["embedding", *layers, "head", *mtp]


def _blocks(word: str) -> list[str]:
    """Return the blocks that a word names, `3-6` or `head`. Errors: LayoutError."""
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
    if span:
        first = int(span[1])
        last = int(span[2] or first)
        return [str(index) for index in range(first, last + 1)]
    if word not in ("embedding", "head", "mtp"):
        raise LayoutError(
            "is not a block",
            key="layout.stages",
            value=word,
            remedy="Write embedding, a layer or a range 3-6, head, mtp.",
        )
    return [word]


def _kind(name: str, model: ModelConfig) -> BlockKind:
    if name.isdigit():
        return model.layer_kind(int(name))
    return name  # type: ignore[return-value]  # `_blocks` let only kinds pass


def print_stages(stages: Sequence[Sequence[BlockKind]]) -> tuple[str, ...]:
    """Print stages so that `parse_stages` reads them back."""
    texts = []
    layer = 0  # the first of the stage
    for stage in stages:
        words = ["embedding"] if "embedding" in stage else []
        count = sum(kind in ("dense", "moe") for kind in stage)
        last = layer + count - 1
        if count > 1:
            words.append(f"{layer}-{last}")
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
    sums = [0.0]  # of the first n weights
    for weight in weights:
        sums.append(sums[-1] + weight)
    # A little more than the least, so that rounding excludes no map that is as short.
    longest = _least_longest(sums, parts) * (1 + 1e-12)
    empty = Cut(0.0, 0)  # no runs over no weights
    row = [empty] + [NO_CUT] * len(weights)
    ends = range(len(sums))
    rows = []  # [part][end], best of `part` runs over the first `end` weights
    for _ in range(parts):
        row = [_best_cut(sums, row, end, longest) for end in ends]
        rows.append(row)
    # From the last run back: each begins where the one before it ends.
    lengths = []
    end = len(weights)
    for row in reversed(rows):
        start = row[end].start
        lengths.append(end - start)
        end = start
    return tuple(reversed(lengths))


def _best_cut(sums: Sequence[float], before: Sequence[Cut], end: int, longest: float) -> Cut:
    """Return the best way to add a run that ends at `end` to the runs before it.

    sums: of the first n weights; before: the best with one run less [end].
    """
    best = NO_CUT
    for start in range(end + 1):
        length = sums[end] - sums[start]
        if length > longest:
            continue
        squares = before[start].squares + length**2
        if squares < best.squares:  # of equal ones the first, whose last run is the longest
            best = Cut(squares, start)
    return best


def _least_longest(sums: Sequence[float], parts: int) -> float:
    """Return the least longest sum of `parts` runs. sums: of the first n weights."""
    worst = list(sums)  # of one run over the first n weights
    for _ in range(parts - 1):
        # With one run more: the new one goes from any start to the end.
        after = []
        for end in range(len(sums)):
            total = sums[end]
            runs = zip(worst[: end + 1], sums, strict=False)  # [start]
            after.append(min(max(others, total - before) for others, before in runs))
        worst = after
    return worst[-1]


def even(model: ModelConfig, parts: int) -> tuple[int, ...]:
    """Return the lengths of `parts` runs of blocks with as many transformer layers each.

    Where they do not divide, the stages in the middle have one more, and the ends fewer.
    """
    base, extra = divmod(model.num_hidden_layers, parts)

    def from_the_end(stage: int) -> int:
        return min(stage, parts - 1 - stage)

    # Those furthest from both ends, which hold the embedding and the head besides.
    middle = sorted(range(parts), key=from_the_end, reverse=True)[:extra]
    lengths = [base] * parts
    for stage in middle:
        lengths[stage] += 1
    lengths[0] += 1  # the embedding
    lengths[-1] += 1 + model.num_nextn_predict_layers  # the head and MTP
    return tuple(lengths)


def cut(blocks: Sequence[BlockKind], lengths: Sequence[int]) -> Stages:
    """Return blocks as runs of the given lengths."""
    stages = []
    start = 0
    for length in lengths:
        end = start + length
        stages.append(tuple(blocks[start:end]))
        start = end
    return tuple(stages)

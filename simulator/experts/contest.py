"""What tokens choose by weights that are close to each other: few experts of each group compete.

`routing.choose` is the rule. A router's layers raise the same scores to powers that differ by a few
per cent, so that an expert whose score is far from the best of its group is nobody's choice in any
layer. Here only the best of each group are raised and ranked, all tokens at once; a bound on all
others tells of each token whether one of them could have won, or whether two are level, and such
tokens are left to `choose`. The choices are the same to the last one, in a seventh of the time.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.model import ModelConfig

Scores = NDArray[np.float32]
Places = NDArray[np.intp]
Bools = NDArray[np.bool_]
Rows = list[Scores]
"""Scores by rank, the largest first: of each rank an array [group, token] or [token]."""

_SLACK = 1.0 + 2e-6
"""float32 powers are off by 4 units in the last place at most, two of them by half of this."""
_TINY = 1e-30
"""Below it float32 has fewer digits, so that `_SLACK` would be too little."""


class Contest(NamedTuple):
    """The experts of each group that compete for tokens."""

    score: Scores
    """Scores of those [place, group, token]."""
    expert: Places
    """Which they are [place, group, token]."""
    of_token: Places
    """The same, those of a token side by side [token, place and group]."""
    rest: Scores
    """Largest score among the others [group, token]."""


class Choices(NamedTuple):
    """What tokens choose, as far as the contest tells."""

    chosen: Places
    """Experts in ascending order of place and group; of doubtful tokens anything [token, top_k]."""
    doubtful: Places
    """Tokens of which the contest does not tell [doubtful token]."""


def limited(model: ModelConfig) -> bool:
    """Tell whether a token's experts are of fewer groups than there are."""
    return model.topk_group < model.n_group


def contest(scores: Scores, model: ModelConfig) -> Contest:
    """Return who competes. scores: router scores in 0..1 [token, expert]."""
    tokens, experts = scores.shape
    top_k = model.num_experts_per_tok
    groups = model.n_group if limited(model) else 1
    width = experts // groups
    # Of one group seldom more than three quarters of the choices are; where there is but one, as
    # many again leave room for weights.
    enough = max(2, -(-3 * top_k // 4)) if groups > 1 else 2 * top_k
    places = min(width, enough)
    grouped = scores.reshape(tokens, groups, width)
    if places == width:
        order = np.broadcast_to(np.arange(width), grouped.shape)
        rest = np.zeros((tokens, groups), dtype=np.float32)
    else:
        order = np.argpartition(grouped, width - places - 1, axis=2)
        after = order[:, :, width - places - 1 : width - places]
        rest = np.take_along_axis(grouped, after, axis=2)[:, :, 0]
        order = order[:, :, width - places :]
    score = np.take_along_axis(grouped, order, axis=2)  # [token, group, place]
    expert = order + width * np.arange(groups)[:, None]
    # Tokens last: whatever follows is done for all of them at once, in rows that are contiguous.
    by_place = np.ascontiguousarray(expert.transpose(2, 1, 0))
    return Contest(
        score=np.ascontiguousarray(score.transpose(2, 1, 0)),
        expert=by_place,
        of_token=np.ascontiguousarray(by_place.reshape(-1, tokens).T),
        rest=np.ascontiguousarray(rest.T),
    )


def decide(entered: Contest, inverse: Scores, model: ModelConfig) -> Choices:
    """Return the experts that tokens choose by their scores to some powers, near 1.

    inverse: exponents [expert].
    """
    top_k = model.num_experts_per_tok
    places, groups, tokens = entered.score.shape
    raised = entered.score ** inverse[entered.expert]  # [place, group, token]
    # Scores are below 1, so that the least exponent makes the most of them.
    bound = entered.rest ** inverse.min() * np.float32(_SLACK) + np.float32(_TINY)
    ranked = _descending(list(raised))
    open_to = np.ones((groups, tokens), dtype=bool)  # groups that a token may choose from
    doubtful = np.zeros(tokens, dtype=bool)
    if groups > 1:
        open_to, doubtful = _open_groups(ranked, bound, model)
        # No score of another group can win: 0 is below every bound.
        kept = open_to.astype(np.float32)
        ranked = [row * kept for row in ranked]
    last = _least_chosen(ranked, top_k)  # [token]
    wins = (raised >= last) & open_to  # [place, group, token]
    by_token = np.ascontiguousarray(wins.reshape(-1, tokens).T)
    doubtful |= np.any(open_to & (bound >= last), axis=0)
    doubtful |= np.add.reduce(wins.reshape(-1, tokens), axis=0, dtype=np.int32) != top_k
    unknown = np.flatnonzero(doubtful)
    if len(unknown):
        # Any choices, so that each token has as many.
        by_token[unknown] = np.arange(places * groups) < top_k
    winners = entered.of_token.ravel()[np.flatnonzero(by_token)]
    return Choices(winners.reshape(tokens, top_k), unknown)


def _open_groups(ranked: Rows, bound: Scores, model: ModelConfig) -> tuple[Bools, Bools]:
    """Return the groups whose experts a token may choose [group, token], and doubtful tokens."""
    if model.topk_method == "noaux_tc":
        total, decisive = ranked[0] + ranked[1], ranked[1]
    else:
        total = decisive = ranked[0]
    by_total = _descending(list(total))
    least, next_ = by_total[model.topk_group - 1], by_total[model.topk_group]
    doubtful = np.any(decisive <= bound, axis=0) | (least == next_)
    return total >= least, doubtful


def _least_chosen(ranked: Rows, top_k: int) -> Scores:
    """Return the top_k-th largest score of each token [token]. ranked: of each group."""
    absent = np.zeros_like(ranked[0])
    rows = ranked + [absent] * (top_k - len(ranked))
    while len(rows[0]) > 1:
        half = len(rows[0]) // 2
        one = [row[:half] for row in rows]
        other = [row[half : 2 * half] for row in rows]
        merged = _merged(one, other, top_k)
        # An odd one out waits for the next round.
        rows = [
            np.concatenate([row, left[2 * half :]]) if len(left) % 2 else row
            for row, left in zip(merged, rows, strict=False)
        ]
    least: Scores = rows[top_k - 1][0]
    return least


def _merged(one: Rows, other: Rows, count: int) -> Rows:
    """Return the `count` largest of two descending sequences, descending.

    The largest are those of the first against the second read backwards (Batcher 1968).
    """
    pairs = zip(one[:count], reversed(other[:count]), strict=True)
    return _descending([np.maximum(*pair) for pair in pairs])


def _descending(rows: Rows) -> Rows:
    """Return rows sorted elementwise, the largest first: a network of `maximum` and `minimum`.

    NumPy sorts short rows one by one; a network sorts all of them side by side, 8 times as fast.
    """
    rows = rows.copy()
    for high, low in _comparators(len(rows)):
        one, other = rows[high], rows[low]
        rows[high], rows[low] = np.maximum(one, other), np.minimum(one, other)
    return rows


@cache
def _comparators(count: int) -> tuple[tuple[int, int], ...]:
    """Return whom a sorting network compares, in order. Knuth, volume 3, section 5.2.2, algorithm M."""
    found = []
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            found += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return tuple(found)

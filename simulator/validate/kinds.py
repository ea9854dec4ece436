"""Errors by kind of case: which GPU, dense or a mixture of experts, which precision, which stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simulator.trust import Kind
from simulator.validate.check import Check, Score, score


class KindScore(NamedTuple):
    """How far the cases of a kind are off."""

    kind: Kind
    """What they have in common."""
    score: Score
    """How far they are off."""


def by_kind(checks: Sequence[Check]) -> tuple[KindScore, ...]:
    """Return how far the validation checks of each kind are off, kinds in the order of their names.

    Kinds of which no check counts are left out, and checks that are no steps.
    """
    kinds = sorted({check.kind for check in checks if check.kind})
    found = []
    for kind in kinds:
        total = score([check for check in checks if check.kind == kind])
        if total:
            found.append(KindScore(kind, total))
    return tuple(found)

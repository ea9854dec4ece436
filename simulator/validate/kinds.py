"""Kinds of cases: which GPU, dense or a mixture of experts, which precision, which stack.

An error of one kind says little about another: they fail for different reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simulator.precision import Dtype
from simulator.scenario import Scenario
from simulator.validate.check import Check, Kind, Score, score

PRECISIONS: dict[Dtype, str] = {
    "bf16": "BF16",
    "fp8": "FP8 blocks",
    "fp8_blockwise": "FP8 blocks",
    "fp8_tensor": "FP8",
    "mxfp8": "MXFP8",
}
"""Number format of the GEMMs -> what a kind calls it; how tensors are scaled is a detail."""


def kind_of(scenario: Scenario) -> Kind:
    """Return the kind of case that a scenario is."""
    return Kind(
        gpu=scenario.gpu.name.upper(),
        model="MoE" if scenario.model.moe_layers else "dense",
        precision=PRECISIONS[scenario.recipe.gemm],
        stack=scenario.stack.name,
    )


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

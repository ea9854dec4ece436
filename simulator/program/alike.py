"""Ranks that write down the same rows but for the numbers of their transfers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from simulator.program.templates import Template
from simulator.program.transfers import CoflowKey


class Alike(NamedTuple):
    """What the rows of a rank follow from, the numbers of its transfers apart."""

    pipeline_index: int
    """Of the rank: its stages, and the order of their actions."""
    speed: float
    """Of its kernels."""
    member: int
    """Of its expert group, where each of these has a load of its own, else -1."""
    keys: frozenset[CoflowKey]
    """Transfers that it calls."""


def renumbered(
    templates: Sequence[Template], own: Mapping[CoflowKey, int], other: Mapping[CoflowKey, int]
) -> list[Template]:
    """Return the templates of another rank.

    own, other: number of each transfer that the rank of these templates calls, and the other rank.
    """
    number = {own[key]: other[key] for key in own}
    number[-1] = -1  # kernels
    return [
        replace(
            template,
            calls=[number[call] for call in template.calls],
            coflow=[number[coflow] for coflow in template.coflow],
        )
        for template in templates
    ]

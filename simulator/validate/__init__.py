"""The published cases: what the simulator says compared with what was measured.

Calibration is named as such.

`case`: the cases as data. `chunk`: DeepSeek's profile, a calibration. `steps`: whole steps, runs
and memory. `links`: collectives. `kinds`: errors by GPU, model, precision and stack. `rankings`: the
order of cases between which people choose.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import TypeAlias

from simulator.errors import InputError
from simulator.progress import doing
from simulator.trust import Kind, kind_of
from simulator.validate.case import Case, MemoryCase, StepCase, files
from simulator.validate.check import Check, Score, score
from simulator.validate.chunk import PHASE_NAMES, chunk_pair, pair_program
from simulator.validate.kinds import KindScore, by_kind
from simulator.validate.links import collective_check
from simulator.validate.steps import memory_check, pre_training, step_check

Bundle: TypeAlias = Callable[[], tuple[Check, ...]]
"""Runs the checks of one bundle."""

__all__ = [
    "BUNDLES",
    "PHASE_NAMES",
    "Check",
    "Kind",
    "KindScore",
    "Score",
    "by_kind",
    "kind_of",
    "names",
    "pair_program",
    "score",
    "validate",
]

BUNDLES: dict[str, Bundle] = {
    "deepseek-v3-chunk": chunk_pair,
    "deepseek-v3": pre_training,
}
"""Name -> checks that belong together and are not rows of a file."""


def names() -> tuple[str, ...]:
    """Return every name that `validate` takes: bundles, files, and the cases in them."""
    known = list(BUNDLES)
    for name, table in files().items():
        known.append(name)
        known += [row.case for row in table.rows]
    return tuple(known)


def validate(chosen: tuple[str, ...] = (), *, alternatives: bool = False) -> Iterator[Check]:
    """Return the checks of the named cases as they are done, of all where none is named.

    alternatives: also run other choices for what a source does not say. Errors: InputError on an
    unknown name.
    """
    # All names before the first case runs, which a generator would not do by itself: a case takes
    # seconds, and a misspelt name is told at once.
    known = names()
    for name in chosen:
        if name not in known:
            raise _unknown(name, known)
    return _checks(chosen, alternatives=alternatives)


def _unknown(name: str, known: tuple[str, ...]) -> InputError:
    """Return the complaint about a name that is not a case."""
    # Rows have a slash in their name; a misspelt file is easier to find among files alone.
    near = []
    if "/" in name:
        near = difflib.get_close_matches(name, known, n=3)
    if near:
        remedy = f"Did you mean {' or '.join(near)}?"
    else:
        listed = ", ".join([*BUNDLES, *files()])
        remedy = f"Choose from: {listed}, and their rows."
    return InputError("is not a case", key="CASE", value=name, remedy=remedy)


def _checks(chosen: tuple[str, ...], *, alternatives: bool) -> Iterator[Check]:
    for name, bundle in BUNDLES.items():
        if not chosen or name in chosen:
            with doing(name):
                checks = bundle()
            yield from checks
    for name, table in files().items():
        for row in table.rows:
            # A file stands for all of its rows.
            if chosen and name not in chosen and row.case not in chosen:
                continue
            yield _check(row, table.source, alternatives=alternatives)


def _check(row: Case, source: str, *, alternatives: bool) -> Check:
    with doing(row.case):
        if isinstance(row, StepCase):
            return step_check(row, source, alternatives=alternatives)
        if isinstance(row, MemoryCase):
            return memory_check(row, source)
        return collective_check(row, source)

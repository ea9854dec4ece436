"""Sums over the kernels of a rank, added one by one in the order in which it runs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.costs import Costs
from simulator.costs.columns import Counted
from simulator.program.chunk_columns import Places
from simulator.program.chunk_rows import Recomputed
from simulator.program.chunks import DUALPIPE
from simulator.program.program import Floats, Ints
from simulator.program.rank_rows import RankRows
from simulator.program.templates import Template, Use
from simulator.program.uses import Runs, Uses
from simulator.schedules import Action


class Totals(NamedTuple):
    """Sums over all kernels of one action, or of one rank, on a GPU of mean load."""

    seconds: dict[str, float]
    """Class of op -> busy compute [s]."""
    flops: dict[str, float]
    """Dtype -> executed FLOPs."""
    recomputed: float
    """Of those FLOPs, what the forward pass ran before."""


def totals(ranks: Iterable[RankRows], counted: Sequence[Counted]) -> list[Totals]:
    """Return the sums of each rank. counted: what each segment of the step adds [segment]."""
    table = _Segments.of(counted)
    of_use: dict[int, Totals] = {}
    sums = []
    for rank in ranks:
        _, *actions, end = rank.templates
        for template in actions:
            assert template.use
            if template.use.number not in of_use:
                of_use[template.use.number] = table.action(template.use)
        own = [of_use[template.use.number] for template in actions if template.use]
        code = rank.sequence[1:-1] - 1  # [position] action
        sums.append(_rank(own, actions, code, end))
    return sums


def action_seconds(action: Action, costs: Costs) -> dict[str, float]:
    """Return class of op -> time of one action's kernels on a GPU of mean load [s]."""
    uses = Uses(costs, DUALPIPE)
    use = uses.of(Runs(action.kind, action.stage, action.stage_b, -1))
    return _Segments.of(uses.columns.counted()).action(use).seconds


@dataclass(frozen=True, slots=True)
class _Table:
    """Values of segments by name."""

    column: dict[str, int]
    """Name -> its column."""
    values: Floats
    """0 where a segment has none of the name [segment, name]."""

    @classmethod
    def of(cls, rows: Sequence[dict[str, float]]) -> _Table:
        column: dict[str, int] = {}
        for row in rows:
            for name in row:
                column.setdefault(name, len(column))
        values = [[row.get(name, 0.0) for name in column] for row in rows]
        return cls(column, np.array(values, dtype=np.float64).reshape(len(rows), len(column)))


@dataclass(frozen=True, slots=True)
class _Segments:
    """What segments add to the sums of their ranks."""

    seconds: _Table
    """By class of op [s]."""
    flops: _Table
    """By dtype."""
    recomputed: Floats
    """FLOPs [segment]."""

    @classmethod
    def of(cls, counted: Sequence[Counted]) -> _Segments:
        return cls(
            _Table.of([one.seconds for one in counted]),
            _Table.of([one.flops for one in counted]),
            np.array([one.recomputed for one in counted], dtype=np.float64),
        )

    def action(self, use: Use) -> Totals:
        """Return the sums of an action's segments."""
        rows = use.rows
        segments = _segments(use, rows.counted)
        seconds = _running(self.seconds, segments, rows.classes)
        flops = _running(self.flops, segments, rows.dtypes)
        again = self.recomputed[segments]
        if rows.recomputed:
            again = _with_repeated(again, flops, rows.recomputed)
        return Totals(
            dict(zip(rows.classes, seconds[-1].tolist(), strict=True)),
            dict(zip(rows.dtypes, flops[-1].tolist(), strict=True)),
            _sum(again),
        )


def _segments(use: Use, places: Places) -> Ints:
    """Return the numbers among all segments of those that an action runs."""
    first = np.array(use.first, dtype=np.int64)
    return first[places.source] + places.number


def _running(table: _Table, segments: Ints, names: Sequence[str]) -> Floats:
    """Return the sums of names before the first segment and behind each [1 + segment, name]."""
    columns = [table.column[name] for name in names]
    sums = np.zeros((len(segments) + 1, len(columns)))
    np.cumsum(table.values[segments][:, columns], axis=0, out=sums[1:])
    return sums


def _with_repeated(again: Floats, flops: Floats, runs: Sequence[Recomputed]) -> Floats:
    """Return what is recomputed segment by segment, with the FLOPs of each run behind its last one.

    flops: as `_running` returns them.
    """
    executed = np.zeros(len(flops))
    for of_dtype in flops.T:
        executed += of_dtype
    begins = [run.begin for run in runs]
    ends = [run.end for run in runs]
    return np.insert(again, ends, executed[ends] - executed[begins])


def _rank(own: Sequence[Totals], actions: Sequence[Template], code: Ints, end: Template) -> Totals:
    """Return a rank's sums.

    own: of each different action on a healthy GPU, with its template [action]. code: action
    [position]. end: holds the optimizer.
    """
    classes = []
    for action, template in zip(own, actions, strict=True):
        at_speed = {name: seconds / end.speed for name, seconds in action.seconds.items()}
        for name, copied in template.copies.items():
            at_speed[name] = at_speed.get(name, 0.0) + copied
        classes.append(at_speed)
    seconds = _sums(classes, code)
    for name, copied in end.copies.items():
        seconds[name] = seconds.get(name, 0.0) + copied
    optimizer = end.busy[end.added.index(end.optimizer)].seconds / end.speed
    seconds["optimizer"] = seconds.get("optimizer", 0.0) + optimizer
    flops = _sums([action.flops for action in own], code)
    recomputed = np.array([action.recomputed for action in own], dtype=np.float64)
    return Totals(seconds, flops, _sum(recomputed[code]))


def _sums(tables: Sequence[dict[str, float]], code: Ints) -> dict[str, float]:
    """Return the sum over all positions by name. tables: of each action. code: action [position]."""
    # Names in the order in which the rank meets them.
    _, first = np.unique(code, return_index=True)
    names: dict[str, None] = {}
    for number in code[np.sort(first)].tolist():
        names.update(dict.fromkeys(tables[number]))
    if not names:
        return {}
    values = np.array([[table.get(name, 0.0) for name in names] for table in tables])
    sums = np.cumsum(values[code], axis=0)[-1]
    return dict(zip(names, sums.tolist(), strict=True))


def _sum(values: Floats) -> float:
    """Return the sum of values, added one by one as rows are laid; numpy's sum adds pairwise."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0

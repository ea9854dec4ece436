"""Sums over the kernels of a rank, added one by one in the order in which it runs them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simulator.costs import Costs
from simulator.costs.columns import Sums
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


def totals(ranks: Iterable[RankRows], added: Sums) -> list[Totals]:
    """Return the sums of each rank. added: by each segment of the step."""
    ranks = list(ranks)
    actions = [_actions(rank) for rank in ranks]
    uses = {
        template.use.number: template.use for own in actions for template in own if template.use
    }
    of_use = dict(zip(uses, _Segments.of(added).sums(list(uses.values())), strict=True))
    return [
        _rank(
            [of_use[template.use.number] for template in own if template.use],
            own,
            rank.sequence[1:-1] - 1,  # [position] action
            rank.templates[-1],
        )
        for rank, own in zip(ranks, actions, strict=True)
    ]


def action_seconds(action: Action, costs: Costs) -> dict[str, float]:
    """Return class of op -> time of one action's kernels on a GPU of mean load [s]."""
    uses = Uses(costs, DUALPIPE)
    use = uses.of(Runs(action.kind, action.stage, action.stage_b, -1))
    (sums,) = _Segments.of(uses.columns.sums()).sums([use])
    return sums.seconds


def _actions(rank: RankRows) -> list[Template]:
    """Return a rank's different actions of the schedule."""
    return rank.templates[1:-1]


@dataclass(frozen=True, slots=True)
class _Segments:
    """What segments add to the sums of their ranks, and behind the last one nothing."""

    seconds: dict[str, int]
    """Class of op -> its column."""
    flops: dict[str, int]
    """Dtype -> its column."""
    values: Floats
    """Of these, and in the last column FLOPs that are recomputed [segment, column]."""

    @classmethod
    def of(cls, sums: Sums) -> _Segments:
        """Return columns by name. sums: what each segment adds."""
        first = len(sums.classes)
        return cls(
            {name: number for number, name in enumerate(sums.classes)},
            {name: number for number, name in enumerate(sums.dtypes, start=first)},
            sums.values,
        )

    def sums(self, uses: Sequence[Use]) -> list[Totals]:
        """Return the sums of actions [action]."""
        if not uses:
            return []
        # All actions at once, the shorter ones filled up with what adds nothing.
        most = max(len(use.rows.counted.number) for use in uses)
        segments = np.full((len(uses), most), len(self.values) - 1)
        for row, use in zip(segments, uses, strict=True):
            own = _segments(use)
            row[: len(own)] = own
        running = np.zeros((len(uses), 1 + most, self.values.shape[1]))
        np.cumsum(self.values[segments], axis=1, out=running[:, 1:])
        return [self._action(use, sums) for use, sums in zip(uses, running, strict=True)]

    def _action(self, use: Use, running: Floats) -> Totals:
        """Return the sums of an action. running: before its first segment, then behind each."""
        rows = use.rows
        last = running[-1].tolist()
        recomputed = last[-1]
        if rows.recomputed:
            flops = running[:, [self.flops[name] for name in rows.dtypes]]
            recomputed = _with_repeated(self.values[_segments(use), -1], flops, rows.recomputed)
        return Totals(
            {name: last[self.seconds[name]] for name in rows.classes},
            {name: last[self.flops[name]] for name in rows.dtypes},
            recomputed,
        )


def _segments(use: Use) -> Ints:
    """Return the numbers among all segments of those that an action runs."""
    first = np.array(use.first, dtype=np.int64)
    return first[use.rows.counted.source] + use.rows.counted.number


def _with_repeated(again: Floats, flops: Floats, runs: Sequence[Recomputed]) -> float:
    """Return the FLOPs that are recomputed, those of each run added behind its last segment.

    again: that segments say themselves [segment]. flops: executed by dtype before the first segment
    and behind each [1 + segment, dtype].
    """
    executed = np.zeros(len(flops))
    for of_dtype in flops.T:
        executed += of_dtype
    begins = [run.begin for run in runs]
    ends = [run.end for run in runs]
    return _sum(np.insert(again, ends, executed[ends] - executed[begins]))


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

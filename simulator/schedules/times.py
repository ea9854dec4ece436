"""How long chunks take: of each kind, on each stage, and between stages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simulator.errors import ScheduleError
from simulator.schedules.action import KINDS, Action

COMM = "comm"
"""The key, next to the kinds of actions, of what an activation or a gradient takes to the next rank."""


def durations(times: Mapping[str, float]) -> dict[str, float]:
    """Return the time of each kind of action: B is I + W and FB is F + B where not given.

    times: F, I, W, B, FB -> duration, any unit. Errors: ScheduleError for an unknown kind or a time
    that is negative or not finite.
    """
    for kind, time in times.items():
        if kind not in (*KINDS, COMM):
            raise ScheduleError(
                "is not a kind of action",
                value=kind,
                remedy=f"Choose from: {', '.join(KINDS)}.",
            )
        if not 0 <= time < math.inf:
            raise ScheduleError(
                f"is not a time for {kind}",
                value=time,
                remedy="Give a finite number >= 0.",
            )
    result = dict(times)
    # B before FB, which is made of it.
    _add_whole(result, "B", "I", "W")
    _add_whole(result, "FB", "F", "B")
    return result


def _add_whole(times: dict[str, float], whole: str, first: str, second: str) -> None:
    """Add the time of a whole from its two parts, where these are given and it is not."""
    known = first in times and second in times
    if known and whole not in times:
        times[whole] = times[first] + times[second]


@dataclass(frozen=True, slots=True)
class Times:
    """Durations of chunks, in one unit."""

    each: Mapping[str, float]
    """kind -> duration, with B and FB where they follow; the longest where stages differ."""
    by_stage: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """kind -> durations [stage], where stages differ."""
    comm: float = 0.0
    """From one rank to another."""

    def __hash__(self) -> int:
        """Return a number that equal times share: dicts alone have none."""
        each = frozenset(self.each.items())
        by_stage = frozenset(self.by_stage.items())
        return hash((each, by_stage, self.comm))

    @classmethod
    def of(cls, times: Mapping[str, float | Sequence[float]]) -> Times:
        """Return times from a plain table: kind or `comm` -> a duration, or one per stage. Errors: ScheduleError."""
        rows: dict[str, tuple[float, ...]] = {}
        plain: dict[str, float] = {}
        for kind, time in times.items():
            if isinstance(time, Sequence):
                rows[kind] = tuple(time)
            else:
                plain[kind] = time
        counts = {len(row) for row in rows.values()}
        if len(counts) > 1 or 0 in counts:
            raise ScheduleError(
                "stages have times",
                value=sorted(counts),
                remedy="Give every kind one for each stage.",
            )
        if not rows:
            each = durations(plain)
            comm = each.pop(COMM, 0.0)
            return cls(each, comm=comm)
        # `Times.each` has one number for every kind: the longest, as a slow stage sets the pace.
        # B and FB follow stage by stage: their longest need not be made of the longest parts.
        tables = []
        for stage in range(*counts):
            here = {kind: row[stage] for kind, row in rows.items()}
            tables.append(durations(plain | here))
        by_stage: dict[str, tuple[float, ...]] = {}
        longest: dict[str, float] = {}
        for kind in tables[0]:
            row = tuple(table[kind] for table in tables)
            by_stage[kind] = row
            longest[kind] = max(row)
        by_stage.pop(COMM, None)
        comm = longest.pop(COMM, 0.0)
        return cls(longest, by_stage, comm=comm)

    def scaled(self, factor: float) -> Times:
        """Return times that are all so many times as long, except for travel."""
        each = {}
        for kind, time in self.each.items():
            each[kind] = time * factor
        by_stage = {}
        for kind, row in self.by_stage.items():
            by_stage[kind] = tuple(time * factor for time in row)
        return Times(each, by_stage, self.comm)

    def seconds(self, kind: str, stage: int) -> float:
        """Return how long a single action takes. Errors: ScheduleError for a kind or a stage without a time."""
        # A stage that has no row of its own is a mistake, not a reason to take the longest.
        row = self.by_stage.get(kind)
        if row and stage < len(row):
            return row[stage]
        if row or kind not in self.each:
            raise ScheduleError(
                f"has no time on stage {stage}",
                key="times",
                value=kind,
                remedy=f"Add {kind}.",
            )
        return self.each[kind]

    def action(self, action: Action) -> float:
        """Return how long an action takes. Errors: as `seconds`."""
        if action.kind not in self.each:
            raise ScheduleError(
                f"has no time, and {action} needs one",
                key="times",
                value=action.kind,
                remedy=f"Add {action.kind}.",
            )
        if action.kind == "FB" and self.by_stage:
            # The halves are on unlike stages; what a pair saves is the mean of what it saves on
            # each.
            forward = self.seconds("F", action.stage)
            backward = self.seconds("B", action.stage_b)
            saved = self._saved(action.stage)
            saved_b = self._saved(action.stage_b)
            return forward + backward - (saved + saved_b) / 2
        return self.seconds(action.kind, action.stage)

    def _saved(self, stage: int) -> float:
        """Return how much shorter an overlapped pair of one stage is than its halves."""
        forward = self.seconds("F", stage)
        backward = self.seconds("B", stage)
        return forward + backward - self.seconds("FB", stage)


EQUAL = Times.of({"F": 1, "I": 1, "W": 1})
"""What schedules are drawn with: a backward takes twice as long as a forward."""

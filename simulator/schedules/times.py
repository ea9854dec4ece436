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
                "is not a kind of action", value=kind, remedy=f"Use one of {', '.join(KINDS)}."
            )
        if not 0 <= time < math.inf:
            raise ScheduleError(
                f"is not a time for {kind}", value=time, remedy="Give a finite number >= 0."
            )
    result = dict(times)
    for whole, parts in (("B", ("I", "W")), ("FB", ("F", "B"))):
        if whole not in result and all(part in result for part in parts):
            result[whole] = sum(result[part] for part in parts)
    return result


@dataclass(frozen=True, slots=True)
class Times:
    """Durations of chunks, in one unit."""

    each: Mapping[str, float]
    """kind -> duration, with B and FB where they follow; the longest where stages differ."""
    by_stage: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """kind -> durations [stage], where stages differ."""
    comm: float = 0.0
    """From one rank to another."""

    @classmethod
    def of(cls, times: Mapping[str, float | Sequence[float]]) -> Times:
        """Return times from a plain table: kind or `comm` -> a duration, or one per stage. Errors: ScheduleError."""
        rows = {kind: tuple(time) for kind, time in times.items() if isinstance(time, Sequence)}
        counts = {len(row) for row in rows.values()}
        if len(counts) > 1 or 0 in counts:
            raise ScheduleError(
                "stages have times",
                value=sorted(counts),
                remedy="Give every kind one for each stage.",
            )
        plain = {kind: time for kind, time in times.items() if not isinstance(time, Sequence)}
        if not rows:
            each = durations(plain)
            return cls(each, comm=each.pop(COMM, 0.0))
        tables = [
            durations(plain | {kind: row[stage] for kind, row in rows.items()})
            for stage in range(*counts)
        ]
        by_stage = {kind: tuple(table[kind] for table in tables) for kind in tables[0]}
        longest = {kind: max(row) for kind, row in by_stage.items()}
        by_stage.pop(COMM, None)
        return cls(longest, by_stage, comm=longest.pop(COMM, 0.0))

    def scaled(self, factor: float) -> Times:
        """Return times that are all so many times as long, except for travel."""
        rows = {kind: tuple(time * factor for time in row) for kind, row in self.by_stage.items()}
        return Times({kind: time * factor for kind, time in self.each.items()}, rows, self.comm)

    def seconds(self, kind: str, stage: int) -> float:
        """Return how long a single action takes. Errors: ScheduleError for a kind or a stage without a time."""
        row = self.by_stage.get(kind)
        if row and stage < len(row):
            return row[stage]
        if row or kind not in self.each:
            rule = f"has no time for {kind} on stage {stage}"
            raise ScheduleError(rule, value=dict(self.each), remedy=f"Add {kind}.")
        return self.each[kind]

    def action(self, action: Action) -> float:
        """Return how long an action takes. Errors: as `seconds`."""
        if action.kind not in self.each:
            raise ScheduleError(
                f"has no time for {action}", value=dict(self.each), remedy=f"Add {action.kind}."
            )
        if action.kind == "FB" and self.by_stage:
            # The halves are on unlike stages; what a pair saves is the mean of what it saves on
            # each.
            separate = self.seconds("F", action.stage) + self.seconds("B", action.stage_b)
            saved = self._saved(action.stage) + self._saved(action.stage_b)
            return separate - saved / 2
        return self.seconds(action.kind, action.stage)

    def _saved(self, stage: int) -> float:
        """Return how much shorter an overlapped pair of one stage is than its halves."""
        separate = self.seconds("F", stage) + self.seconds("B", stage)
        return separate - self.seconds("FB", stage)


EQUAL = Times.of({"F": 1, "I": 1, "W": 1})
"""What schedules are drawn with: a backward takes twice as long as a forward."""

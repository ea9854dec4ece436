"""A pipeline schedule as data: what each rank runs in which order, what that waits for, and whether it can end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulator.errors import ScheduleError
from simulator.schedules.action import Action, Half, Kind, half_text
from simulator.schedules.table import BACKWARD, DGRAD, FORWARD, WGRAD, Ids, Table

Place = tuple[int, int]
"""(rank, position): an action's pipeline rank and its index in that rank's order, both from 0."""

Dependencies = tuple[tuple[tuple[Place, ...], ...], ...]
"""Places that must have ended first, [rank][position]; the order within a rank is implicit."""

_FULL: tuple[Kind, ...] = ("F", "B")
_SPLIT: tuple[Kind, ...] = ("F", "I", "W")
_SINGLES: tuple[Kind, ...] = ("F", "B", "I", "W")


@dataclass(frozen=True)
class Schedule:
    """Hold the order of actions of every pipeline rank.

    stages, micro_batches: how many of each, counted from 0. ranks: actions [rank][position]. A
    stage may stand on several ranks, for different micro-batches, as in DualPipe's two directions.
    """

    name: str
    stages: int
    micro_batches: int
    ranks: tuple[tuple[Action, ...], ...]

    def actions(self) -> Iterator[tuple[Place, Action]]:
        """Yield every action with its place, rank by rank."""
        for rank, order in enumerate(self.ranks):
            for position, action in enumerate(order):
                yield (rank, position), action

    @property
    def sizes(self) -> str:
        """Return the sizes as people write them: `8 pipeline ranks x 2 virtual stages = 16 stages, ...`."""
        ranks = len(self.ranks)
        text = _counted(ranks, "pipeline rank")
        if self.stages != ranks and self.stages % ranks:
            text += f", {_counted(self.stages, 'stage')}"
        elif self.stages != ranks:
            text += f" x {self.stages // ranks} virtual stages = {self.stages} stages"
        return f"{text}, {_counted(self.micro_batches, 'micro-batch')}"

    @cached_property
    def overlaps(self) -> bool:
        """Tell whether some forward and backward passes run as overlapped pairs."""
        return any(action.kind == "FB" for order in self.ranks for action in order)

    @cached_property
    def table(self) -> Table:
        """The actions as columns."""
        return Table.of(self.ranks)

    @cached_property
    def needs(self) -> Ids:
        """The rows of `table` that each row waits for [row, 3], -1 where fewer. Errors: as `dependencies`."""
        rows, repeated = self.table.rows(self.stages, self.micro_batches)
        if repeated:
            self.place()
        found, missing = self.table.needs(rows)
        if missing or not self.table.fits(self.stages, self.micro_batches):
            _check_inputs(self)
        return found

    @cached_property
    def order(self) -> list[int]:
        """The rows of `table` in an order in which they can run. Errors: ScheduleError on a deadlock."""
        order = self.table.order(self.needs)
        if len(order) < len(self.table.kind):
            raise _deadlock(self, order)
        return order

    def place(self) -> dict[Half, Place]:
        """Return where each half runs; both halves of a pair share a place. Errors: ScheduleError on a repeated one."""
        places: dict[Half, Place] = {}
        for place, action in self.actions():
            for half in action.halves():
                if half in places:
                    rule = (
                        f"is repeated at {_where(place)}; it already runs at {_where(places[half])}"
                    )
                    raise _fault(rule, half_text(half), "Drop one of the two.", place, places[half])
                places[half] = place
        return places


def check(schedule: Schedule) -> None:
    """Raise ScheduleError, with rank, position and action, on the first fault of a schedule.

    Faults: an action of an unknown stage or micro-batch; a missing or repeated action; a forward
    and its backward on different ranks; a deadlock, found by running the dependencies without
    times. The error's `places` say where.
    """
    if not schedule.table.fits(schedule.stages, schedule.micro_batches):
        _check_numbers(schedule)
    rows, repeated = schedule.table.rows(schedule.stages, schedule.micro_batches)
    if repeated or not _complete(rows, schedule.table.rank):
        places = schedule.place()
        for stage in range(schedule.stages):
            for micro_batch in range(schedule.micro_batches):
                _check_chunk(micro_batch, stage, places)
    schedule.order  # noqa: B018 - raises on a deadlock


def dependencies(schedule: Schedule) -> Dependencies:
    """Return, for each action, the places of the actions that produce its inputs.

    F m@s needs F m@s-1; B and I m@s need F m@s and the B or I m@s+1; W m@s needs I m@s; a pair
    needs what both its halves need. Errors: ScheduleError where no rank produces an input.
    """
    needs, table = schedule.needs, schedule.table
    places = _places(table)
    rows = [
        (places[a], places[b])
        if a >= 0 and b >= 0 > c
        else (places[a],)
        if a >= 0 > b and c < 0
        else tuple(places[row] for row in (a, b, c) if row >= 0)
        for a, b, c in zip(*(column.tolist() for column in needs.T), strict=True)
    ]
    start = table.start.tolist()
    return tuple(tuple(rows[start[rank] : start[rank + 1]]) for rank in range(len(schedule.ranks)))


def execution_order(schedule: Schedule) -> list[Place]:
    """Return all places such that each follows its inputs and its rank's order. Errors: ScheduleError on a deadlock."""
    places = _places(schedule.table)
    return [places[row] for row in schedule.order]


def _places(table: Table) -> list[Place]:
    """Return the place of every row."""
    position = np.arange(len(table.rank)) - table.start[table.rank]
    return list(zip(table.rank.tolist(), position.tolist(), strict=True))


def _complete(rows: Ids, rank: Ids) -> bool:
    """Tell whether one rank runs every chunk's F and either its B or its I and W."""
    runs = rows >= 0
    if (
        not runs[FORWARD].all()
        or (runs[BACKWARD] == runs[DGRAD]).any()
        or (runs[DGRAD] != runs[WGRAD]).any()
    ):
        return False
    home = rank[rows[FORWARD]]
    return all(
        ((rank[rows[kind]] == home) | ~runs[kind]).all() for kind in (BACKWARD, DGRAD, WGRAD)
    )


def _check_numbers(schedule: Schedule) -> None:
    """Raise ScheduleError on an action of an unknown stage or micro-batch."""
    for place, action in schedule.actions():
        for half in action.halves():
            if half[1] >= schedule.micro_batches or half[2] >= schedule.stages:
                rule = f"at {_where(place)} is impossible with {schedule.micro_batches} micro-batches and "
                raise _fault(
                    rule + f"{schedule.stages} stages", str(action), "Both count from 0.", place
                )


def _check_inputs(schedule: Schedule) -> None:
    """Raise ScheduleError on an action whose input no rank produces."""
    places = schedule.place()
    for place, action in schedule.actions():
        for choices in (
            choices for half in action.halves() for choices in _needs(half, schedule.stages)
        ):
            if not any(half in places for half in choices):
                rule = f"at {_where(place)} needs {half_text(choices[0])}, which no rank runs"
                raise _fault(rule, str(action), "Add it to one rank's order.", place)


def _needs(half: Half, stages: int) -> list[tuple[Half, ...]]:
    """Return the inputs of a half; each is a tuple of the halves that can produce it."""
    kind, micro_batch, stage = half
    if kind == "F":
        return [(("F", micro_batch, stage - 1),)] if stage > 0 else []
    if kind == "W":
        return [(("I", micro_batch, stage),)]
    own: tuple[Half, ...] = (("F", micro_batch, stage),)
    gradient: tuple[Half, ...] = (("B", micro_batch, stage + 1), ("I", micro_batch, stage + 1))
    return [own, gradient] if stage < stages - 1 else [own]


def _check_chunk(micro_batch: int, stage: int, places: dict[Half, Place]) -> None:
    """Raise ScheduleError unless one rank runs the chunk's F and either its B or its I and W."""
    mine = {
        kind: places[kind, micro_batch, stage]
        for kind in _SINGLES
        if (kind, micro_batch, stage) in places
    }
    wanted = _SPLIT if "B" not in mine and ("I" in mine or "W" in mine) else _FULL
    for kind in wanted:
        if kind not in mine:
            partners = [
                f"{half_text((k, micro_batch, stage))} at {_where(place)}"
                for k, place in mine.items()
            ]
            rule = "is missing" + (
                f", the counterpart of {partners[0]}" if partners else ": no rank runs its chunk"
            )
            text = half_text((kind, micro_batch, stage))
            raise _fault(rule, text, "Add it to one rank's order.", *mine.values())
    home = mine["F"]
    for kind, place in mine.items():
        name = half_text((kind, micro_batch, stage))
        if kind not in wanted:
            full = f"B{micro_batch}@{stage} at {_where(mine['B'])}"
            raise _fault(
                f"at {_where(place)} repeats part of {full}",
                name,
                "Drop one of the two.",
                place,
                mine["B"],
            )
        if place[0] != home[0]:
            rule = (
                f"at {_where(place)} is not on the rank of F{micro_batch}@{stage} at {_where(home)}"
            )
            raise _fault(
                rule, name, "Put both on one rank: it holds the stage's weights.", place, home
            )


def _deadlock(schedule: Schedule, order: list[int]) -> ScheduleError:
    """Return the error that names the circle of waiting ranks. order: the rows that could run."""
    table, needs, places = schedule.table, schedule.needs.tolist(), _places(schedule.table)
    done = np.bincount(table.rank[order], minlength=len(schedule.ranks))
    stuck = (table.start[:-1] + done).tolist()  # the row that each rank waits with
    run = set(order)
    rank = next(r for r, row in enumerate(stuck) if row < table.start[r + 1])
    awaited: dict[int, int] = {}
    while rank not in awaited:
        awaited[rank] = next(row for row in needs[stuck[rank]] if row >= 0 and row not in run)
        rank = places[awaited[rank]][0]
    circle = list(awaited)[list(awaited).index(rank) :]

    def text(row: int) -> str:
        r, position = places[row]
        return f"{schedule.ranks[r][position]} at {_where(places[row])}"

    waits = "; ".join(f"{text(stuck[r])} waits for {text(awaited[r])}" for r in circle)
    r, position = places[stuck[rank]]
    at = [places[stuck[r]] for r in circle]
    remedy = "Put an action behind those that it waits for."
    return _fault(f"deadlocks: {waits}", str(schedule.ranks[r][position]), remedy, *at)


def _fault(rule: str, value: str, remedy: str, *places: Place) -> ScheduleError:
    """Return the error with the places that it is about."""
    error = ScheduleError(rule, value=value, remedy=remedy)
    error.places = places
    return error


def _counted(number: int, noun: str) -> str:
    """Return a number of things, such as `1 stage`, `2 stages`."""
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number} {noun}" + (plural if number != 1 else "")


def _where(place: Place) -> str:
    return f"rank {place[0]}, position {place[1]}"

"""A pipeline schedule as data: what each rank runs in which order, what that waits for, and whether it can end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

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

    A stage may be on several ranks, for different micro-batches, as in DualPipe's two directions.
    """

    name: str
    """A row of `SCHEDULES`."""
    stages: int
    """How many; they count from 0."""
    micro_batches: int
    """How many per step; they count from 0."""
    ranks: tuple[tuple[Action, ...], ...]
    """Actions [rank][position]."""

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
        needed, missing = self.table.needs(rows)
        if missing or not self.table.fits(self.stages, self.micro_batches):
            _check_inputs(self)
        return needed

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
    places = _places(schedule.table)
    rows = [tuple(places[row] for row in needed if row >= 0) for needed in schedule.needs.tolist()]
    start = schedule.table.start.tolist()
    return tuple(tuple(rows[begin:end]) for begin, end in pairwise(start))


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
    runs = rows >= 0  # [kind, micro-batch, stage]
    split = runs[DGRAD]
    whole = runs[BACKWARD] != split
    if not (runs[FORWARD].all() and whole.all() and (split == runs[WGRAD]).all()):
        return False
    home = rank[rows[FORWARD]]  # [micro-batch, stage]
    for kind in (BACKWARD, DGRAD, WGRAD):
        at_home = rank[rows[kind]] == home
        if not (at_home | ~runs[kind]).all():
            return False
    return True


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
        for half in action.halves():
            for choices in _needs(half, schedule.stages):
                if not any(choice in places for choice in choices):
                    needed = half_text(choices[0])
                    rule = f"at {_where(place)} needs {needed}, which no rank runs"
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
    mine: dict[Kind, Place] = {}
    for kind in _SINGLES:
        half = (kind, micro_batch, stage)
        if half in places:
            mine[kind] = places[half]
    split = "B" not in mine and ("I" in mine or "W" in mine)
    wanted = _SPLIT if split else _FULL
    for kind in wanted:
        if kind not in mine:
            raise _missing((kind, micro_batch, stage), mine)
    home = mine["F"]
    for kind, place in mine.items():
        name = half_text((kind, micro_batch, stage))
        if kind not in wanted:
            full = f"B{micro_batch}@{stage} at {_where(mine['B'])}"
            rule = f"at {_where(place)} repeats part of {full}"
            raise _fault(rule, name, "Drop one of the two.", place, mine["B"])
        if place[0] != home[0]:
            forward = f"F{micro_batch}@{stage} at {_where(home)}"
            rule = f"at {_where(place)} is not on the rank of {forward}"
            remedy = "Put both on one rank: it holds the stage's weights."
            raise _fault(rule, name, remedy, place, home)


def _missing(half: Half, mine: dict[Kind, Place]) -> ScheduleError:
    """Return the error that a chunk lacks a half. mine: where its other halves run."""
    rule = "is missing: no rank runs its chunk"
    if mine:
        kind, place = next(iter(mine.items()))
        counterpart = half_text((kind, *half[1:]))
        rule = f"is missing, the counterpart of {counterpart} at {_where(place)}"
    return _fault(rule, half_text(half), "Add it to one rank's order.", *mine.values())


def _deadlock(schedule: Schedule, order: list[int]) -> ScheduleError:
    """Return the error that names the circle of waiting ranks. order: the rows that could run."""
    table, needs, places = schedule.table, schedule.needs.tolist(), _places(schedule.table)
    done = np.bincount(table.rank[order], minlength=len(schedule.ranks))
    stuck = (table.start[:-1] + done).tolist()  # the row that each rank waits with
    run = set(order)
    # From a rank that is stuck to the rank that it waits for, until one comes again.
    rank = next(r for r, row in enumerate(stuck) if row < table.start[r + 1])
    awaited: dict[int, int] = {}  # rank -> the row that it waits for
    while rank not in awaited:
        awaited[rank] = next(row for row in needs[stuck[rank]] if row >= 0 and row not in run)
        rank = places[awaited[rank]][0]
    met = list(awaited)
    circle = met[met.index(rank) :]

    def text(row: int) -> str:
        on, position = places[row]
        return f"{schedule.ranks[on][position]} at {_where(places[row])}"

    waits = "; ".join(f"{text(stuck[r])} waits for {text(awaited[r])}" for r in circle)
    on, position = places[stuck[rank]]
    value = str(schedule.ranks[on][position])
    remedy = "Put an action behind those that it waits for."
    return _fault(f"deadlocks: {waits}", value, remedy, *(places[stuck[r]] for r in circle))


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

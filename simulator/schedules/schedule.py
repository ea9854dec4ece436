"""A pipeline schedule as data: what each rank runs in which order, what that waits for, and whether it can end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from simulator.errors import ScheduleError
from simulator.schedules.action import Action, Half, Kind, half_text
from simulator.schedules.table import BACKWARD, DGRAD, FORWARD, NONE, WGRAD, Ids, Table

Place = tuple[int, int]
"""(rank, position): an action's pipeline rank and its index in that rank's order, both from 0."""

Dependencies = tuple[tuple[tuple[Place, ...], ...], ...]
"""Places that must have ended first, [rank][position]; the order within a rank is implicit."""

Kinds = tuple[Kind, ...]

_FULL: Kinds = ("F", "B")
_SPLIT: Kinds = ("F", "I", "W")
_SINGLES: Kinds = ("F", "B", "I", "W")


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

    def __hash__(self) -> int:
        """Return a hash of the sizes: there are too many actions to hash for every look-up."""
        return hash((self.stages, self.micro_batches, len(self.ranks)))

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
        virtual, rest = divmod(self.stages, ranks)
        if rest:
            text += f", {_counted(self.stages, 'stage')}"
        elif virtual != 1:
            text += f" x {virtual} virtual stages = {self.stages} stages"
        micro_batches = _counted(self.micro_batches, "micro-batch")
        return f"{text}, {micro_batches}"

    @cached_property
    def overlaps(self) -> bool:
        """Tell whether some forward and backward passes run as overlapped pairs."""
        return any(action.kind == "FB" for _, action in self.actions())

    @cached_property
    def table(self) -> Table:
        """The actions as columns."""
        return Table.of(self.ranks)

    @cached_property
    def needs(self) -> Ids:
        """The rows of `table` that each row waits for [row, 3], -1 where fewer. Errors: as `dependencies`."""
        table = self.table
        rows, repeated = table.rows(self.stages, self.micro_batches)
        # Columns tell fast that there is a fault; actions one by one, slowly, tell which.
        if repeated:
            self.place()
        needed, missing = table.needs(rows)
        if missing or not table.fits(self.stages, self.micro_batches):
            _check_inputs(self)
        return needed

    @cached_property
    def order(self) -> list[int]:
        """The rows of `table` in an order in which they can run. Errors: ScheduleError on a deadlock."""
        order = self.table.order(self.needs)
        if len(order) < len(self.table.kind):
            raise _deadlock(self, order)
        return order

    @cached_property
    def hosts(self) -> dict[int, tuple[int, ...]]:
        """The ranks that hold each stage, by stage; two of a bidirectional pipeline."""
        halves = self.table.halves
        holds = np.zeros((self.stages, len(self.ranks)), dtype=bool)
        holds[halves.stage, self.table.rank[halves.row]] = True
        found = {stage: np.flatnonzero(row).tolist() for stage, row in enumerate(holds)}
        return {stage: tuple(ranks) for stage, ranks in found.items() if ranks}

    def place(self) -> dict[Half, Place]:
        """Return where each half runs; both halves of a pair share a place. Errors: ScheduleError on a repeated one."""
        places: dict[Half, Place] = {}
        for place, action in self.actions():
            for half in action.halves():
                earlier = places.setdefault(half, place)
                if earlier != place:
                    raise _repeated(half, place, earlier)
        return places


def check(schedule: Schedule) -> None:
    """Raise ScheduleError, with rank, position and action, on the first fault of a schedule.

    Faults: an action of an unknown stage or micro-batch; a missing or repeated action; a forward
    and its backward on different ranks; a deadlock, found by running the dependencies without
    times. The error's `places` say where.
    """
    table = schedule.table
    # Numbers first: what does not fit is in no column. Deadlocks last: all inputs exist by then.
    if not table.fits(schedule.stages, schedule.micro_batches):
        _check_numbers(schedule)
    rows, repeated = table.rows(schedule.stages, schedule.micro_batches)
    if repeated or not _complete(rows, table.rank):
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
    inputs = []  # [row]
    for needed in schedule.needs.tolist():
        inputs.append(tuple(places[row] for row in needed if row >= 0))
    bounds = pairwise(schedule.table.start.tolist())  # rows of each rank
    return tuple(tuple(inputs[begin:end]) for begin, end in bounds)


def execution_order(schedule: Schedule) -> list[Place]:
    """Return all places such that each follows its inputs and its rank's order. Errors: ScheduleError on a deadlock."""
    places = _places(schedule.table)
    return [places[row] for row in schedule.order]


def _places(table: Table) -> list[Place]:
    """Return the place of every row."""
    first = table.start[table.rank]  # [row] row
    position = np.arange(len(table.rank)) - first
    columns = (table.rank.tolist(), position.tolist())
    return list(zip(*columns, strict=True))


def _complete(rows: Ids, rank: Ids) -> bool:
    """Tell whether one rank runs every chunk's F and either its B or its I and W."""
    runs = rows >= 0  # [kind, micro-batch, stage]
    split = runs[DGRAD]
    either = runs[BACKWARD] != split  # a full backward or a split one, not both
    paired = split == runs[WGRAD]
    if not (runs[FORWARD].all() and either.all() and paired.all()):
        return False
    # The rank of a forward holds the weights and activations that its backward needs.
    home = rank[rows[FORWARD]]  # [micro-batch, stage]
    for kind in (BACKWARD, DGRAD, WGRAD):
        at_home = rank[rows[kind]] == home
        if not (at_home | ~runs[kind]).all():
            return False
    return True


def _check_numbers(schedule: Schedule) -> None:
    """Raise ScheduleError on an action of an unknown stage or micro-batch."""
    sizes = f"{schedule.micro_batches} micro-batches and {schedule.stages} stages"
    for place, action in schedule.actions():
        for _, micro_batch, stage in action.halves():
            if micro_batch >= schedule.micro_batches or stage >= schedule.stages:
                rule = f"at {_where(place)} is impossible with {sizes}"
                raise _fault(rule, str(action), "Both count from 0.", place)


def _check_inputs(schedule: Schedule) -> None:
    """Raise ScheduleError on an action whose input no rank produces."""
    places = schedule.place()
    for place, action in schedule.actions():
        for half in action.halves():
            for choices in _needs(half, schedule.stages):
                if places.keys().isdisjoint(choices):
                    needed = half_text(choices[0])
                    where = _where(place)
                    rule = f"at {where} needs {needed}, which no rank runs"
                    raise _fault(rule, str(action), "Add it to one rank's order.", place)


def _needs(half: Half, stages: int) -> list[list[Half]]:
    """Return the inputs of a half; each is a list of the halves that can produce it."""
    kind, micro_batch, stage = half
    if kind == "F" and stage == 0:
        return []
    if kind == "F":
        return [[("F", micro_batch, stage - 1)]]
    if kind == "W":
        return [[("I", micro_batch, stage)]]
    needs: list[list[Half]] = [[("F", micro_batch, stage)]]
    behind = stage + 1
    if behind < stages:
        full: Half = ("B", micro_batch, behind)
        dgrad: Half = ("I", micro_batch, behind)
        needs.append([full, dgrad])
    return needs


def _check_chunk(micro_batch: int, stage: int, places: dict[Half, Place]) -> None:
    """Raise ScheduleError unless one rank runs the chunk's F and either its B or its I and W."""
    mine: dict[Kind, Place] = {}
    for kind in _SINGLES:
        half = (kind, micro_batch, stage)
        if half in places:
            mine[kind] = places[half]
    # A chunk without any backward counts as full, so that the error asks for a B.
    parts = "I" in mine or "W" in mine
    wanted = _SPLIT if parts and "B" not in mine else _FULL
    for kind in wanted:
        if kind not in mine:
            raise _missing((kind, micro_batch, stage), mine)
    for kind, place in mine.items():
        half = (kind, micro_batch, stage)
        if kind not in wanted:
            raise _part_of_full(half, place, mine["B"])
        if place[0] != mine["F"][0]:
            raise _not_at_home(half, place, mine["F"])


def _repeated(half: Half, place: Place, earlier: Place) -> ScheduleError:
    """Return the error that a half runs twice."""
    rule = f"is repeated at {_where(place)}; it already runs at {_where(earlier)}"
    return _fault(rule, half_text(half), "Drop one of the two.", place, earlier)


def _part_of_full(half: Half, place: Place, full: Place) -> ScheduleError:
    """Return the error that a chunk's full backward contains a half that runs as well. full: where that runs."""
    name = half_text(("B", *half[1:]))
    rule = f"at {_where(place)} repeats part of {name} at {_where(full)}"
    return _fault(rule, half_text(half), "Drop one of the two.", place, full)


def _not_at_home(half: Half, place: Place, home: Place) -> ScheduleError:
    """Return the error that a half is not on the rank of its forward. home: where that runs."""
    name = half_text(("F", *half[1:]))
    rule = f"at {_where(place)} is not on the rank of {name} at {_where(home)}"
    remedy = "Put both on one rank: it holds the stage's weights."
    return _fault(rule, half_text(half), remedy, place, home)


def _missing(half: Half, mine: dict[Kind, Place]) -> ScheduleError:
    """Return the error that a chunk lacks a half. mine: where its other halves run."""
    rule = "is missing: no rank runs its chunk"
    for kind, place in mine.items():
        counterpart = half_text((kind, *half[1:]))
        where = _where(place)
        rule = f"is missing, the counterpart of {counterpart} at {where}"
        break
    remedy = "Add it to one rank's order."
    return _fault(rule, half_text(half), remedy, *mine.values())


def _deadlock(schedule: Schedule, order: list[int]) -> ScheduleError:
    """Return the error that names the circle of waiting ranks. order: the rows that could run."""
    places = _places(schedule.table)
    waits = _circle(schedule, order)
    texts = []
    for wait in waits:
        waiting = _at(schedule, places[wait.row])
        awaited = _at(schedule, places[wait.awaited])
        texts.append(f"{waiting} waits for {awaited}")
    stuck = [places[wait.row] for wait in waits]
    rank, position = stuck[0]
    return _fault(
        f"deadlocks: {'; '.join(texts)}",
        str(schedule.ranks[rank][position]),
        "Put an action behind those that it waits for.",
        *stuck,
    )


class _Wait(NamedTuple):
    """What keeps a rank from going on."""

    row: int
    """The row that it comes to next."""
    awaited: int
    """The row that this one waits for, on another rank or further down on its own."""


def _circle(schedule: Schedule, order: list[int]) -> list[_Wait]:
    """Return the waits of ranks that wait for each other in a circle. order: the rows that could run."""
    table = schedule.table
    done = np.bincount(table.rank[order], minlength=len(schedule.ranks))  # [rank]
    following = table.start[:-1] + done  # row that each rank comes to next [rank]
    stuck = np.flatnonzero(following < table.start[1:])  # [stuck] rank
    run = {NONE, *order}
    # From a rank that is stuck to the rank that it waits for, until one comes again: what leads
    # into the circle is not part of it.
    waits: dict[int, _Wait] = {}  # by rank
    rank = int(stuck[0])
    while rank not in waits:
        row = int(following[rank])
        needed = schedule.needs[row].tolist()
        missing = [other for other in needed if other not in run]
        waits[rank] = _Wait(row, missing[0])
        rank = int(table.rank[missing[0]])
    path = list(waits)
    circle = path[path.index(rank) :]
    return [waits[rank] for rank in circle]


def _at(schedule: Schedule, place: Place) -> str:
    """Return an action with its place, as errors name it."""
    rank, position = place
    action = schedule.ranks[rank][position]
    return f"{action} at {_where(place)}"


def _fault(rule: str, value: str, remedy: str, *places: Place) -> ScheduleError:
    """Return the error with the places that it is about."""
    error = ScheduleError(rule, value=value, remedy=remedy)
    error.places = places
    return error


def _counted(number: int, noun: str) -> str:
    """Return a number of things, such as `1 stage`, `2 stages`."""
    if number != 1:
        noun += "es" if noun.endswith("ch") else "s"
    return f"{number} {noun}"


def _where(place: Place) -> str:
    rank, position = place
    return f"rank {rank}, position {position}"

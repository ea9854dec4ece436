"""A pipeline schedule as data: what each rank runs in which order, what that waits for, and whether it can end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.errors import ScheduleError
from simulator.schedules.action import Action, Half, Kind, half_text

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

    stages, micro_batches: how many of each, counted from 0. ranks: actions [rank][position]. A stage may stand on
    several ranks, for different micro-batches, as in DualPipe's two directions.
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

    def place(self) -> dict[Half, Place]:
        """Return where each half runs; both halves of a pair share a place. Errors: ScheduleError on a repeated one."""
        places: dict[Half, Place] = {}
        for place, action in self.actions():
            for half in action.halves():
                if half in places:
                    rule = f"is repeated at {_where(place)}; it already runs at {_where(places[half])}"
                    raise ScheduleError(rule, value=half_text(half), remedy="Drop one of the two.")
                places[half] = place
        return places


def check(schedule: Schedule) -> None:
    """Raise ScheduleError, with rank, position and action, on the first fault of a schedule.

    Faults: an action of an unknown stage or micro-batch; a missing or repeated action; a forward and its backward on
    different ranks; a deadlock, found by running the dependencies without times.
    """
    for place, action in schedule.actions():
        for half in action.halves():
            if half[1] >= schedule.micro_batches or half[2] >= schedule.stages:
                rule = f"at {_where(place)} is impossible with {schedule.micro_batches} micro-batches and "
                raise ScheduleError(rule + f"{schedule.stages} stages", value=str(action), remedy="Both count from 0.")
    places = schedule.place()
    for stage in range(schedule.stages):
        for micro_batch in range(schedule.micro_batches):
            _check_chunk(micro_batch, stage, places)
    execution_order(schedule)


def dependencies(schedule: Schedule) -> Dependencies:
    """Return, for each action, the places of the actions that produce its inputs.

    F m@s needs F m@s-1; B and I m@s need F m@s and the B or I m@s+1; W m@s needs I m@s; a pair needs what both its
    halves need. Errors: ScheduleError where no rank produces an input.
    """
    places = schedule.place()

    def inputs(place: Place, action: Action) -> tuple[Place, ...]:
        found: dict[Place, None] = {}
        for choices in (choices for half in action.halves() for choices in _needs(half, schedule.stages)):
            producers = [places[half] for half in choices if half in places]
            if not producers:
                rule = f"at {_where(place)} needs {half_text(choices[0])}, which no rank runs"
                raise ScheduleError(rule, value=str(action), remedy="Add it to one rank's order.")
            found.update(dict.fromkeys(producers))
        return tuple(found)

    return tuple(
        tuple(inputs((rank, position), action) for position, action in enumerate(order))
        for rank, order in enumerate(schedule.ranks)
    )


def execution_order(schedule: Schedule) -> list[Place]:
    """Return all places such that each follows its inputs and its rank's order. Errors: ScheduleError on a deadlock."""
    needs = dependencies(schedule)
    done = [0] * len(schedule.ranks)
    order: list[Place] = []
    moved = True
    while moved:
        moved = False
        for rank, actions in enumerate(schedule.ranks):
            while done[rank] < len(actions) and all(p < done[r] for r, p in needs[rank][done[rank]]):
                order.append((rank, done[rank]))
                done[rank] += 1
                moved = True
    if len(order) < sum(map(len, schedule.ranks)):
        raise _deadlock(schedule, needs, done)
    return order


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
    mine = {kind: places[kind, micro_batch, stage] for kind in _SINGLES if (kind, micro_batch, stage) in places}
    wanted = _SPLIT if "B" not in mine and ("I" in mine or "W" in mine) else _FULL
    for kind in wanted:
        if kind not in mine:
            partners = [f"{half_text((k, micro_batch, stage))} at {_where(place)}" for k, place in mine.items()]
            rule = "is missing" + (f", the counterpart of {partners[0]}" if partners else ": no rank runs its chunk")
            raise ScheduleError(rule, value=half_text((kind, micro_batch, stage)), remedy="Add it to one rank's order.")
    home = mine["F"]
    for kind, place in mine.items():
        name = half_text((kind, micro_batch, stage))
        if kind not in wanted:
            full = f"B{micro_batch}@{stage} at {_where(mine['B'])}"
            raise ScheduleError(f"at {_where(place)} repeats part of {full}", value=name, remedy="Drop one of the two.")
        if place[0] != home[0]:
            rule = f"at {_where(place)} is not on the rank of F{micro_batch}@{stage} at {_where(home)}"
            raise ScheduleError(rule, value=name, remedy="Put both on one rank: it holds the stage's weights.")


def _deadlock(schedule: Schedule, needs: Dependencies, done: list[int]) -> ScheduleError:
    """Return the error that names the circle of waiting ranks; done: actions run [rank]."""
    rank = next(r for r, order in enumerate(schedule.ranks) if done[r] < len(order))
    awaited: dict[int, Place] = {}
    while rank not in awaited:
        awaited[rank] = next((r, p) for r, p in needs[rank][done[rank]] if p >= done[r])
        rank = awaited[rank][0]
    circle = list(awaited)[list(awaited).index(rank) :]

    def text(place: Place) -> str:
        return f"{schedule.ranks[place[0]][place[1]]} at {_where(place)}"

    waits = "; ".join(f"{text((r, done[r]))} waits for {text(awaited[r])}" for r in circle)
    first = str(schedule.ranks[rank][done[rank]])
    return ScheduleError(f"deadlocks: {waits}", value=first, remedy="Put an action behind those that it waits for.")


def _where(place: Place) -> str:
    return f"rank {place[0]}, position {place[1]}"

"""Where ranks post sends and receives, and what waits for them: as blocking as the software runs them.

A send of NCCL ends when its receiver has posted the receive and the bytes have come, so that both
ranks meet. none, steady and all are Megatron-LM's (core/pipeline_parallel/schedules.py,
p2p_communication.py) and those of schedules of their own:

- none: kernels do not go on before what was posted has ended. With one stage per rank, a send and
  the receive behind it are one operation where they have the same peer (send_forward_recv_backward),
  else two, one after the other. With several, a forward and a backward run between operations, each
  of which takes up to four messages (send_forward_backward_recv_forward_backward).
- serial: as none, but each message is an operation of its own, as DeepSpeed has it
  (runtime/pipe/schedule.py, TrainSchedule): between a forward and a backward the gradient travels
  first, then the output, and the backward waits for both.
- steady: overlap_p2p_comm. What follows a forward travels while the next backward runs, and the other
  way round; in warm-up and cool-down, where passes of one direction follow each other, it is exposed.
- all: sends that nobody waits for but who needs what they bring, into a buffer that is ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from simulator.schedules.action import Action
from simulator.schedules.passes import Message, Step, Transfer, with_transfers
from simulator.schedules.schedule import Schedule


class PipelineOverlap(StrEnum):
    """Which sends and receives between stages travel next to compute."""

    NONE = "none"
    """No one: compute waits for each operation."""
    SERIAL = "serial"
    """No one, and no two messages of a rank travel at once."""
    STEADY = "steady"
    """Those between a forward and a backward pass."""
    ALL = "all"
    """All of them, and receivers are always ready."""

    @property
    def blocks(self) -> bool:
        """Tell whether compute waits for both ends of all messages."""
        return self in (PipelineOverlap.NONE, PipelineOverlap.SERIAL)


Operation = tuple[Transfer, ...]
"""Messages that are posted together."""


@dataclass(frozen=True, slots=True)
class Posts:
    """What one rank posts, and what its actions wait for. A slot stands before each action, and one at the end."""

    posted: tuple[tuple[Operation, ...], ...]
    """Operations, one after the other, behind the actions before a slot [slot]."""
    awaited: tuple[int, ...]
    """Slot whose messages an action waits for, -1 for none [position]."""
    receives: tuple[bool, ...]
    """Whether an action takes what another rank sends [position]."""
    sends_only: bool
    """Whether it waits only for those that were sent there, and for the one that brings its input."""


def posts(schedule: Schedule, overlap: PipelineOverlap) -> tuple[Posts, ...]:
    """Return what each rank posts where [rank].

    Errors: ScheduleError where no rank runs what an action's input comes from.
    """
    if overlap is PipelineOverlap.ALL:
        return tuple(_nothing(len(order)) for order in schedule.ranks)
    lines = [Line.of(order) for order in with_transfers(schedule.ranks)]
    if overlap is PipelineOverlap.STEADY:
        return tuple(_steady(line, rank, lines) for rank, line in enumerate(lines))
    if schedule.stages > len(schedule.ranks):
        return tuple(_in_units(line, rank, lines) for rank, line in enumerate(lines))
    if overlap is PipelineOverlap.SERIAL:
        return _one_by_one(lines)
    return tuple(_blocking(line) for line in lines)


@dataclass(frozen=True, slots=True)
class Line:
    """One rank's order, with the messages that its actions take and make."""

    actions: list[Action]
    """[position]."""
    receives: list[Operation]
    """What an action takes [position]."""
    sends: list[Operation]
    """What it makes [position]."""

    @classmethod
    def of(cls, order: Sequence[Step]) -> Line:
        """Return the line of an order with transfers: receives before an action, sends behind it."""
        line = cls([], [], [])
        due: Operation = ()
        for step in order:
            if isinstance(step, Action):
                line.actions.append(step)
                line.receives.append(due)
                line.sends.append(())
                due = ()
            elif isinstance(step, Transfer) and step.kind[0] == "R":
                due += (step,)
            elif isinstance(step, Transfer):
                line.sends[-1] += (step,)
        return line

    @property
    def takes(self) -> tuple[bool, ...]:
        """Tell which actions take what another rank sends [position]."""
        return tuple(bool(operation) for operation in self.receives)

    def positions(self, direction: str) -> list[int]:
        """Return where the passes of a direction stand. direction: F or B."""
        kinds = ("F", "FB") if direction == "F" else ("B", "I", "FB")
        return [place for place, action in enumerate(self.actions) if action.kind in kinds]

    def units(self) -> list[int]:
        """Return where the unit of each action begins: a forward and the backward behind it are one [position]."""
        begins = list(range(len(self.actions)))
        forwards = self.positions("F")
        # A backward behind the last of all forwards is no pair: nothing is left to run ahead.
        alone = forwards[-1] + 1 if forwards == list(range(len(forwards))) else -1
        for place in range(1, len(begins)):
            pair = self.actions[place - 1].kind == "F" and self.actions[place].kind == "B"
            if pair and place != alone:
                begins[place] = place - 1
        return begins


def _nothing(count: int) -> Posts:
    """Return that a rank of so many actions posts nothing: what it sends finds its receiver ready."""
    return Posts(((),) * (count + 1), (-1,) * count, (False,) * count, sends_only=True)


def _blocking(line: Line) -> Posts:
    """Return what a rank of one stage posts: what an action made, then what the next one takes."""
    count = len(line.actions)
    posted: list[tuple[Operation, ...]] = []
    for slot in range(count + 1):
        sends = line.sends[slot - 1] if slot else ()
        receives = line.receives[slot] if slot < count else ()
        peers = {message.peer for message in (*sends, *receives)}
        together = len(peers) == 1
        operations = (sends + receives,) if together else (sends, receives)
        posted.append(tuple(operation for operation in operations if operation))
    awaited = [slot if posted[slot] else -1 for slot in range(count)]
    return Posts(tuple(posted), tuple(awaited), line.takes, sends_only=False)


def _one_by_one(lines: Sequence[Line]) -> tuple[Posts, ...]:
    """Return what ranks of one stage post where each message is an operation [rank]."""
    slots = [_slots(line, rank) for rank, line in enumerate(lines)]
    result = []
    for rank, line in enumerate(lines):
        together = _blocking(line)
        posted = tuple(_apart(operations, rank, slots) for operations in together.posted)
        result.append(replace(together, posted=posted))
    return tuple(result)


def _slots(line: Line, rank: int) -> dict[Message, int]:
    """Return in which slot a rank of one stage posts its end of each message."""
    slots: dict[Message, int] = {}
    for place in range(len(line.actions)):
        for transfer in line.receives[place]:
            slots[Message.of(transfer, rank)] = place
        for transfer in line.sends[place]:
            slots[Message.of(transfer, rank)] = place + 1
    return slots


def _apart(
    operations: Sequence[Operation], rank: int, slots: Sequence[dict[Message, int]]
) -> tuple[Operation, ...]:
    """Return operations of one message each, those with one peer in the order in which that rank comes to them.

    Where it comes to both at once, the gradient is first.
    """

    def turn(transfer: Transfer) -> tuple[int, bool]:
        message = Message.of(transfer, rank)
        return slots[transfer.peer][message], message.half == "F"

    return tuple((one,) for operation in operations for one in sorted(operation, key=turn))


def _in_units(line: Line, rank: int, lines: Sequence[Line]) -> Posts:
    """Return what a rank of several stages posts between its units, all together."""
    begins = line.units()
    count = len(begins)
    ends = list(range(1, count + 1))  # [position] slot behind the unit
    for place in range(1, count):
        if begins[place] < place:
            ends[place - 1] = place + 1
    at: list[Operation] = [()] * (count + 1)  # [slot]
    for place, sends in enumerate(line.sends):
        at[ends[place]] += sends
    for receive in _receives(line, rank, lines):
        slot = begins[receive.place] if receive.behind < 0 else ends[receive.behind]
        at[slot] += (receive.message,)
    awaited = [place if begins[place] == place and at[place] else -1 for place in range(count)]
    return Posts(
        tuple((one,) if one else () for one in at), tuple(awaited), line.takes, sends_only=False
    )


def _steady(line: Line, rank: int, lines: Sequence[Line]) -> Posts:
    """Return what a rank posts behind each pass: what it made, and what the next one of its direction takes."""
    begins = line.units()
    count = len(begins)
    at: list[Operation] = [()] * (count + 1)  # [slot]
    for place, sends in enumerate(line.sends):
        at[place + 1] += sends
    for receive in _receives(line, rank, lines):
        slot = begins[receive.place] if receive.behind < 0 else receive.behind + 1
        at[slot] += (receive.message,)
    awaited = [-1] * count
    for direction in ("F", "B"):
        places = line.positions(direction)
        for before, place in pairwise(places):
            if line.sends[before]:
                awaited[place] = max(awaited[place], before + 1)
    return Posts(
        tuple((one,) if one else () for one in at), tuple(awaited), line.takes, sends_only=True
    )


class _Receive(NamedTuple):
    """A receive, and behind which action it is posted."""

    message: Transfer
    """What is received."""
    place: int
    """Position of the action that takes it."""
    behind: int
    """Position of the action behind which it is posted, -1 before the first of its direction."""


def _receives(line: Line, rank: int, lines: Sequence[Line]) -> Iterable[_Receive]:
    """Yield a rank's receives: behind the pass before the one that takes it, or when its sender comes to send.

    The rank that leads a direction is ahead of the last one by the ranks between them, and receives
    what comes round from there so many passes after it is made, however much later it needs it.
    """
    ranks = len(lines)
    for direction in ("F", "B"):
        places = line.positions(direction)
        leads = rank == (0 if direction == "F" else ranks - 1)
        made = _made(lines, direction) if leads else {}
        for number, place in enumerate(places):
            for message in line.receives[place]:
                if message.kind[1] != direction:
                    continue
                behind = number - 1
                if leads:
                    sent = made[message.micro_batch, Message.of(message, rank).stage]
                    behind = min(behind, sent + ranks - 1)
                yield _Receive(message, place, places[behind] if behind >= 0 else -1)


def _made(lines: Sequence[Line], direction: str) -> dict[tuple[int, int], int]:
    """Return (micro-batch, stage) -> which of its rank's passes of a direction that is."""
    made: dict[tuple[int, int], int] = {}
    for line in lines:
        for number, place in enumerate(line.positions(direction)):
            for kind, micro_batch, stage in line.actions[place].halves():
                if (kind == "F") == (direction == "F"):
                    made[micro_batch, stage] = number
    return made

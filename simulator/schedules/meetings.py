"""Whether all sends and receives that ranks post meet, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from simulator.errors import ScheduleError
from simulator.schedules.passes import Message, with_transfers
from simulator.schedules.posting import Line, Operation, Posts
from simulator.schedules.schedule import Schedule


def check_posts(schedule: Schedule, posted: Sequence[Posts]) -> None:
    """Raise ScheduleError where ranks would wait for each other in a circle, or receive in another order than sent."""
    _check_order(posted)
    ends = _Meetings(posted)
    lines = [Line.of(order) for order in with_transfers(schedule.ranks)]
    moved = True
    while moved:
        moved = False
        for rank, line in enumerate(lines):
            while ends.step(rank, line):
                moved = True
    for rank, line in enumerate(lines):
        place = ends.place[rank]
        if place < len(line.actions):
            raise ScheduleError(
                f"at rank {rank}, position {place} never runs: ranks wait for each other's sends and receives",
                value=str(line.actions[place]),
                remedy="Write communication.pipeline.overlap=all, or another order.",
            )


def _check_order(posted: Sequence[Posts]) -> None:
    """Refuse messages between two ranks that are not received in the order in which they are sent."""
    sent: dict[tuple[str, int, int], list[Message]] = {}
    received: dict[tuple[str, int, int], list[Message]] = {}
    for rank, line in enumerate(posted):
        for operations in line.posted:
            for operation in operations:
                for transfer in operation:
                    message = Message.of(transfer, rank)
                    way = (message.half, message.source, message.target)
                    side = sent if transfer.kind[0] == "S" else received
                    side.setdefault(way, []).append(message)
    for way, messages in sent.items():
        if received.get(way) != messages:
            half, source, target = way
            raise ScheduleError(
                f"has {half} messages from rank {source} to rank {target} that are not received in the order in "
                "which they are sent",
                value="custom",
                remedy="Write communication.pipeline.overlap=all, or another order.",
            )


class _Meetings:
    """Runs ranks without times, to see whether all messages meet."""

    def __init__(self, posted: Sequence[Posts]) -> None:
        self.posts = posted
        self.place = [0] * len(posted)  # action that each rank comes to next [rank]
        self.operations = [0] * len(posted)  # of its slot, how many it has posted [rank]
        self.sides: dict[Message, int] = {}  # how many ends of a message are posted

    def step(self, rank: int, line: Line) -> bool:
        """Post the next operation of a rank, or run its next action. Return whether it could."""
        place = self.place[rank]
        slot = self.posts[rank].posted[place]
        number = self.operations[rank]
        if number < len(slot):
            # One operation after the other: the one before has ended.
            if number and not self._ended(rank, slot[number - 1]):
                return False
            for transfer in slot[number]:
                message = Message.of(transfer, rank)
                self.sides[message] = self.sides.get(message, 0) + 1
            self.operations[rank] += 1
            return True
        if place == len(line.actions) or not self._may_run(rank, place, line):
            return False
        self.place[rank] += 1
        self.operations[rank] = 0
        return True

    def _may_run(self, rank: int, place: int, line: Line) -> bool:
        own = self.posts[rank]
        due = [line.receives[place]]
        if own.awaited[place] >= 0:
            for operation in own.posted[own.awaited[place]]:
                kept = (one for one in operation if one.kind[0] == "S" or not own.sends_only)
                due.append(tuple(kept))
        return all(self._ended(rank, operation) for operation in due)

    def _ended(self, rank: int, operation: Operation) -> bool:
        return all(self.sides.get(Message.of(one, rank), 0) == 2 for one in operation)

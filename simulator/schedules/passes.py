"""Passes over orders, list to list: from compute alone to sends and receives, to data-parallel communication.

An order is one list per rank, of actions and, after the passes that place them, of transfers and
reductions. A pass takes orders and returns new ones; what it does not concern stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast

from simulator.errors import ScheduleError
from simulator.schedules.action import Action, Half, half_text
from simulator.schedules.schedule import Schedule


class Transfer(NamedTuple):
    """Send or receive an activation (SF, RF) or a gradient (SB, RB); prints `SF3@1>2`, `RF3@2<1`."""

    kind: Literal["SF", "RF", "SB", "RB"]
    """S for send, R for receive; F for an activation, B for a gradient."""
    micro_batch: int
    """Whose it is, from 0."""
    stage: int
    """Whose output is sent, or whose input is received."""
    peer: int
    """The rank at the other end."""

    def __str__(self) -> str:
        chunk = f"{self.micro_batch}@{self.stage}"
        arrow = ">" if self.kind in ("SF", "SB") else "<"
        return f"{self.kind}{chunk}{arrow}{self.peer}"


class Reduction(NamedTuple):
    """Gather a stage's parameters from the replicas (AG) or reduce and scatter its gradients (RS); prints `RS@1`."""

    kind: Literal["AG", "RS"]
    """AG or RS."""
    stage: int
    """Whose parameters or gradients they are."""

    def __str__(self) -> str:
        return f"{self.kind}@{self.stage}"


class Message(NamedTuple):
    """What a send hands over, and a receive takes."""

    half: str
    """F for an activation, B for a gradient."""
    micro_batch: int
    """Whose it is."""
    stage: int
    """The stage that sends it."""
    source: int
    """The rank that sends it."""
    target: int
    """The rank that receives it."""

    @classmethod
    def of(cls, transfer: Transfer, rank: int) -> Message:
        """Return the message that a rank's transfer sends or receives."""
        direction, half = transfer.kind
        if direction == "S":
            return cls(half, transfer.micro_batch, transfer.stage, rank, transfer.peer)
        # An activation comes from the stage before, a gradient from the one behind.
        origin = transfer.stage + (1 if half == "B" else -1)
        return cls(half, transfer.micro_batch, origin, transfer.peer, rank)


Step = Action | Transfer | Reduction
Orders = list[list[Step]]
_TRANSFER = re.compile(r"([SR][FB])([0-9]+)@([0-9]+)([<>])([0-9]+)")
_REDUCTION = re.compile(r"(AG|RS)@([0-9]+)")


def parse_step(text: str) -> Step:
    """Return the action, transfer or reduction that prints as `text`. Errors: ScheduleError."""
    transfer = _TRANSFER.fullmatch(text)
    if transfer:
        kind, micro_batch, stage, arrow, peer = transfer.groups()
        sends = kind[0] == "S"
        # An arrow that points the wrong way is left to `Action.parse`, which refuses it.
        if (arrow == ">") == sends:
            return Transfer(
                kind=cast(Literal["SF"], kind),
                micro_batch=int(micro_batch),
                stage=int(stage),
                peer=int(peer),
            )
    reduction = _REDUCTION.fullmatch(text)
    if reduction:
        kind, stage = reduction.groups()
        return Reduction(cast(Literal["RS"], kind), int(stage))
    return Action.parse(text)


def compute_only(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders without transfers and reductions; `compute_only(schedule.ranks)` starts the other passes."""
    lines: Orders = []
    for order in orders:
        lines.append([step for step in order if isinstance(step, Action)])
    return lines


def split_backward(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders with each full backward as an input gradient, then its weight gradient. Pairs stay whole."""
    lines: Orders = []
    for order in orders:
        line: list[Step] = []
        for step in order:
            line += _split(step)
        lines.append(line)
    return lines


def _split(step: Step) -> tuple[Step, ...]:
    if not isinstance(step, Action) or step.kind != "B":
        return (step,)
    dgrad = Action("I", step.micro_batch, step.stage)
    wgrad = Action("W", step.micro_batch, step.stage)
    return dgrad, wgrad


def merge_backward(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders with each weight gradient run together with its input gradient, where that stood."""
    lines: Orders = []
    for order in orders:
        line: list[Step] = []
        for step in order:
            line += _merged(step)
        lines.append(line)
    return lines


def _merged(step: Step) -> tuple[Step, ...]:
    if not isinstance(step, Action):
        return (step,)
    if step.kind == "I":
        return (Action("B", step.micro_batch, step.stage),)
    if step.kind == "W":
        return ()
    return (step,)


def with_transfers(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders with a send behind each action whose output another rank needs, and a receive before that.

    Errors: ScheduleError where no rank runs what an action's input comes from.
    """
    # Who runs what has to be known of all ranks before the first send can name its peer.
    homes = _Homes.of(orders)
    lines: Orders = []
    for rank, order in enumerate(orders):
        lines.append(_transferred(order, rank, homes))
    return lines


class _Homes(NamedTuple):
    """Where the halves of some orders run."""

    rank: dict[Half, int]
    """The rank that runs each half."""
    last: int
    """The last stage, where gradients begin."""

    @classmethod
    def of(cls, orders: Sequence[Sequence[Step]]) -> _Homes:
        """Return where these orders run what."""
        ranks: dict[Half, int] = {}
        last = 0
        for rank, order in enumerate(orders):
            for step in order:
                if isinstance(step, Action):
                    for half in step.halves():
                        ranks[half] = rank
                        last = max(last, half[2])
        return cls(ranks, last)

    def first_of(self, halves: tuple[Half, ...]) -> int | None:
        """Return the rank that runs the first of some halves that any rank runs."""
        for half in halves:
            if half in self.rank:
                return self.rank[half]
        return None


def _transferred(order: Sequence[Step], rank: int, homes: _Homes) -> list[Step]:
    """Return one rank's order with its receives and sends."""
    line: list[Step] = []
    for step in order:
        if not isinstance(step, Action):
            line.append(step)
            continue
        halves = step.halves()
        receives = [_receive(half, rank, homes) for half in halves]
        sends = [_send(half, rank, homes) for half in halves]
        line += [receive for receive in receives if receive]
        line.append(step)
        line += [send for send in sends if send]
    return line


def _receive(half: Half, rank: int, homes: _Homes) -> Transfer | None:
    """Return what brings a half its input from another rank. Errors: ScheduleError where no rank runs that."""
    kind, micro_batch, stage = half
    # Activations begin at the first stage, gradients at the last one, and a W reads its own rank's.
    begins = 0 if kind == "F" else homes.last
    if kind == "W" or stage == begins:
        return None
    sources = _neighbours(half, -1)
    peer = homes.first_of(sources)
    if peer is None:
        missing = half_text(sources[0])
        raise ScheduleError(
            f"needs {missing}, which no rank runs",
            value=half_text(half),
            remedy=f"Add {missing}.",
        )
    if peer == rank:
        return None
    name: Literal["RF", "RB"] = "RF" if kind == "F" else "RB"
    return Transfer(name, micro_batch, stage, peer)


def _send(half: Half, rank: int, homes: _Homes) -> Transfer | None:
    """Return what takes a half's output to another rank."""
    kind, micro_batch, stage = half
    targets = _neighbours(half, 1)
    peer = homes.first_of(targets)
    if kind == "W" or peer is None or peer == rank:
        return None
    name: Literal["SF", "SB"] = "SF" if kind == "F" else "SB"
    return Transfer(name, micro_batch, stage, peer)


def _neighbours(half: Half, step: int) -> tuple[Half, ...]:
    """Return the halves that may run before (-1) or behind (1) this one on its way through the stages."""
    kind, micro_batch, stage = half
    if kind == "F":
        return (("F", micro_batch, stage + step),)
    # Gradients go the other way, and come from a full backward or from an input gradient alone.
    behind = stage - step
    full: Half = ("B", micro_batch, behind)
    dgrad: Half = ("I", micro_batch, behind)
    return full, dgrad


def with_data_parallel(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders with parameters gathered before a stage's first action and gradients reduced behind its last.

    Per rank that holds the stage; the last is the last B or W, or pair, that adds to the gradients.
    """
    return [list(_reduced(order)) for order in orders]


def _reduced(order: Sequence[Step]) -> Iterator[Step]:
    # The last place is known only at the end of the order, so places come first, then steps.
    first: dict[int, int] = {}  # stage -> position of its first action
    last: dict[int, int] = {}  # stage -> position of the last that adds to its gradients
    for position, step in enumerate(order):
        if isinstance(step, Action):
            for kind, _, stage in step.halves():
                first.setdefault(stage, position)
                if kind in ("B", "W"):
                    last[stage] = position
    for position, step in enumerate(order):
        for stage, begin in first.items():
            if begin == position:
                yield Reduction("AG", stage)
        yield step
        for stage, end in last.items():
            if end == position:
                yield Reduction("RS", stage)


def scheduled(
    orders: Sequence[Sequence[Step]],
    name: str,
    stages: int,
    micro_batches: int,
) -> Schedule:
    """Return the schedule of the actions in these orders."""
    ranks = []
    for order in orders:
        actions = [step for step in order if isinstance(step, Action)]
        ranks.append(tuple(actions))
    return Schedule(name, stages, micro_batches, tuple(ranks))


def check_transfers(orders: Sequence[Sequence[Step]]) -> None:
    """Raise ScheduleError on a send without its receive, a receive without its send, or ranks that wait in a circle.

    A send does not wait; a receive waits for its send; each rank keeps its order.
    """
    # Rank by rank, each as far as it comes, until a round moves none. In which order ranks are
    # served does not matter: a message that has been sent stays sent.
    mail = _Mail(sent=set(), received=set())
    reached = [0] * len(orders)  # steps that have run [rank]
    moved = True
    while moved:
        moved = False
        for rank, order in enumerate(orders):
            begin = reached[rank]
            reached[rank] = _run(order, rank, begin, mail)
            moved = moved or reached[rank] > begin
    for rank, order in enumerate(orders):
        stuck = reached[rank]
        if stuck < len(order):
            raise ScheduleError(
                f"at rank {rank}, step {stuck} waits for a send that does not come",
                value=str(order[stuck]),
                remedy="Send it, before what waits for this.",
            )
    lost = sorted(mail.sent - mail.received)
    if lost:
        half, micro_batch, stage, source, target = lost[0]
        raise ScheduleError(
            f"is sent by rank {source} and not received by rank {target}",
            value=f"S{half}{micro_batch}@{stage}",
            remedy="Receive it before the action that needs it.",
        )


class _Mail(NamedTuple):
    """What ranks have handed over so far; both sets grow."""

    sent: set[Message]
    """Messages whose sends have run."""
    received: set[Message]
    """Messages whose receives were reached, whether they could run or not."""


def _run(order: Sequence[Step], rank: int, reached: int, mail: _Mail) -> int:
    """Run a rank's steps up to the first that has to wait. Return how many have run."""
    while reached < len(order) and _runs(order[reached], rank, mail):
        reached += 1
    return reached


def _runs(step: Step, rank: int, mail: _Mail) -> bool:
    """Run a step if it can: add its message to those that are sent, or received. Return whether it could."""
    if not isinstance(step, Transfer):
        return True
    message = Message.of(step, rank)
    if step.kind[0] == "S":
        mail.sent.add(message)
        return True
    mail.received.add(message)
    return message in mail.sent

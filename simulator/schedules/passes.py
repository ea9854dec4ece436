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
        arrow = ">" if self.kind[0] == "S" else "<"
        return f"{self.kind}{self.micro_batch}@{self.stage}{arrow}{self.peer}"


class Reduction(NamedTuple):
    """Gather a stage's parameters from the replicas (AG) or reduce and scatter its gradients (RS); prints `RS@1`."""

    kind: Literal["AG", "RS"]
    """AG or RS."""
    stage: int
    """Whose parameters or gradients they are."""

    def __str__(self) -> str:
        return f"{self.kind}@{self.stage}"


class _Message(NamedTuple):
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


Step = Action | Transfer | Reduction
Orders = list[list[Step]]
_TRANSFER = re.compile(r"([SR][FB])([0-9]+)@([0-9]+)([<>])([0-9]+)")
_REDUCTION = re.compile(r"(AG|RS)@([0-9]+)")


def parse_step(text: str) -> Step:
    """Return the action, transfer or reduction that prints as `text`. Errors: ScheduleError."""
    transfer = _TRANSFER.fullmatch(text)
    if transfer and (transfer[4] == ">") == (text[0] == "S"):
        kind, micro_batch, stage, _, peer = transfer.groups()
        return Transfer(cast(Literal["SF"], kind), int(micro_batch), int(stage), int(peer))
    reduction = _REDUCTION.fullmatch(text)
    if reduction:
        return Reduction(cast(Literal["RS"], reduction[1]), int(reduction[2]))
    return Action.parse(text)


def compute_only(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders without transfers and reductions; `compute_only(schedule.ranks)` starts the other passes."""
    return [[step for step in order if isinstance(step, Action)] for order in orders]


def split_backward(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders with each full backward as an input gradient, then its weight gradient. Pairs stay whole."""
    return [[part for step in order for part in _split(step)] for order in orders]


def _split(step: Step) -> tuple[Step, ...]:
    if not isinstance(step, Action) or step.kind != "B":
        return (step,)
    return Action("I", step.micro_batch, step.stage), Action("W", step.micro_batch, step.stage)


def merge_backward(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders with each weight gradient run together with its input gradient, where that stood."""
    return [
        [_merged(step) for step in order if not (isinstance(step, Action) and step.kind == "W")]
        for order in orders
    ]


def _merged(step: Step) -> Step:
    if isinstance(step, Action) and step.kind == "I":
        return Action("B", step.micro_batch, step.stage)
    return step


def with_transfers(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders with a send behind each action whose output another rank needs, and a receive before that.

    Errors: ScheduleError where no rank runs what an action's input comes from.
    """
    home: dict[Half, int] = {}  # rank that runs it
    for rank, order in enumerate(orders):
        for step in order:
            if isinstance(step, Action):
                home |= dict.fromkeys(step.halves(), rank)
    last = max((stage for _, _, stage in home), default=0)
    return [_transferred(order, rank, home, last) for rank, order in enumerate(orders)]


def _transferred(order: Sequence[Step], rank: int, home: dict[Half, int], last: int) -> list[Step]:
    """Return one rank's order with its receives and sends."""
    line: list[Step] = []
    for step in order:
        if not isinstance(step, Action):
            line.append(step)
            continue
        halves = step.halves()
        receives = [_receive(half, rank, home, last) for half in halves]
        sends = [_send(half, rank, home) for half in halves]
        line += [receive for receive in receives if receive]
        line.append(step)
        line += [send for send in sends if send]
    return line


def _receive(half: Half, rank: int, home: dict[Half, int], last: int) -> Transfer | None:
    """Return what brings a half its input from another rank. Errors: ScheduleError where no rank runs that."""
    kind, micro_batch, stage = half
    first = stage == 0 if kind == "F" else stage == last
    if kind == "W" or first:
        return None
    sources = _neighbours(half, -1)
    peer = next((home[source] for source in sources if source in home), None)
    if peer is None:
        missing = half_text(sources[0])
        raise ScheduleError(
            f"needs {missing}, which no rank runs",
            value=half_text(half),
            remedy=f"Add {missing}.",
        )
    if peer == rank:
        return None
    return Transfer("RF" if kind == "F" else "RB", micro_batch, stage, peer)


def _send(half: Half, rank: int, home: dict[Half, int]) -> Transfer | None:
    """Return what takes a half's output to another rank."""
    kind, micro_batch, stage = half
    peer = next((home[target] for target in _neighbours(half, 1) if target in home), rank)
    if kind == "W" or peer == rank:
        return None
    return Transfer("SF" if kind == "F" else "SB", micro_batch, stage, peer)


def _neighbours(half: Half, step: int) -> tuple[Half, ...]:
    """Return the halves that may run before (-1) or behind (1) this one on its way through the stages."""
    kind, micro_batch, stage = half
    if kind == "F":
        return (("F", micro_batch, stage + step),)
    return (("B", micro_batch, stage - step), ("I", micro_batch, stage - step))


def with_data_parallel(orders: Sequence[Sequence[Step]]) -> Orders:
    """Return the orders with parameters gathered before a stage's first action and gradients reduced behind its last.

    Per rank that holds the stage; the last is the last B or W, or pair, that adds to the gradients.
    """
    return [list(_reduced(order)) for order in orders]


def _reduced(order: Sequence[Step]) -> Iterator[Step]:
    first: dict[int, int] = {}
    last: dict[int, int] = {}
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
    orders: Sequence[Sequence[Step]], name: str, stages: int, micro_batches: int
) -> Schedule:
    """Return the schedule of the actions in these orders."""
    actions = tuple(tuple(step for step in order if isinstance(step, Action)) for order in orders)
    return Schedule(name, stages, micro_batches, actions)


def check_transfers(orders: Sequence[Sequence[Step]]) -> None:
    """Raise ScheduleError on a send without its receive, a receive without its send, or ranks that wait in a circle.

    A send does not wait; a receive waits for its send; each rank keeps its order.
    """
    sent: set[_Message] = set()
    received: set[_Message] = set()
    reached = [0] * len(orders)  # steps that have run [rank]
    moved = True
    while moved:
        moved = False
        for rank, order in enumerate(orders):
            while reached[rank] < len(order) and _runs(order[reached[rank]], rank, sent, received):
                reached[rank] += 1
                moved = True
    for rank, order in enumerate(orders):
        if reached[rank] < len(order):
            rule = f"at rank {rank}, step {reached[rank]} waits for a send that does not come"
            raise ScheduleError(
                rule, value=str(order[reached[rank]]), remedy="Send it, before what waits for this."
            )
    lost = sorted(sent - received)
    if lost:
        first = lost[0]
        rule = f"is sent by rank {first.source} and not received by rank {first.target}"
        raise ScheduleError(
            rule,
            value=f"S{first.half}{first.micro_batch}@{first.stage}",
            remedy="Receive it before the action that needs it.",
        )


def _runs(step: Step, rank: int, sent: set[_Message], received: set[_Message]) -> bool:
    """Run a step if it can: add its message to those that are sent, or received. Return whether it could."""
    if not isinstance(step, Transfer):
        return True
    half = step.kind[1]
    if step.kind[0] == "S":
        sent.add(_Message(half, step.micro_batch, step.stage, rank, step.peer))
        return True
    # An activation comes from the stage before, a gradient from the one behind.
    source = step.stage + (1 if half == "B" else -1)
    message = _Message(half, step.micro_batch, source, step.peer, rank)
    received.add(message)
    return message in sent

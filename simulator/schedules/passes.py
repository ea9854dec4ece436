"""Passes over orders, list to list: from compute alone to sends and receives, to data-parallel communication.

An order is one list per rank, of actions and, after the passes that place them, of transfers and
reductions. A pass takes orders and returns new ones; what it does not concern stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast

from simulator.errors import ScheduleError
from simulator.schedules.action import Action, Half
from simulator.schedules.schedule import Schedule


class Transfer(NamedTuple):
    """Send or receive an activation (SF, RF) or a gradient (SB, RB); prints `SF3@1>2`, `RF3@2<1`.

    stage: whose output is sent, or whose input is received. peer: the rank at the other end.
    """

    kind: Literal["SF", "RF", "SB", "RB"]
    micro_batch: int
    stage: int
    peer: int

    def __str__(self) -> str:
        return f"{self.kind}{self.micro_batch}@{self.stage}{'>' if self.kind[0] == 'S' else '<'}{self.peer}"


class Reduction(NamedTuple):
    """Gather a stage's parameters from the replicas (AG) or reduce and scatter its gradients (RS); prints `RS@1`."""

    kind: Literal["AG", "RS"]
    stage: int

    def __str__(self) -> str:
        return f"{self.kind}@{self.stage}"


Step = Action | Transfer | Reduction
Orders = list[list[Step]]
_TRANSFER = re.compile(r"([SR][FB])([0-9]+)@([0-9]+)([<>])([0-9]+)")
_REDUCTION = re.compile(r"(AG|RS)@([0-9]+)")


def parse_step(text: str) -> Step:
    """Return the action, transfer or reduction that prints as `text`. Errors: ScheduleError."""
    if (match := _TRANSFER.fullmatch(text)) and (match[4] == ">") == (text[0] == "S"):
        return Transfer(cast(Literal["SF"], match[1]), int(match[2]), int(match[3]), int(match[5]))
    if match := _REDUCTION.fullmatch(text):
        return Reduction(cast(Literal["RS"], match[1]), int(match[2]))
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
    home = {
        half: rank
        for rank, order in enumerate(orders)
        for step in order
        if isinstance(step, Action)
        for half in step.halves()
    }
    last = max((stage for _, _, stage in home), default=0)
    result: Orders = []
    for rank, order in enumerate(orders):
        line: list[Step] = []
        for step in order:
            if isinstance(step, Action):
                line += [t for half in step.halves() if (t := _receive(half, rank, home, last))]
                line += [step, *(t for half in step.halves() if (t := _send(half, rank, home)))]
            else:
                line.append(step)
        result.append(line)
    return result


def _receive(half: Half, rank: int, home: dict[Half, int], last: int) -> Transfer | None:
    kind, m, stage = half
    if kind == "W" or (kind == "F" and stage == 0) or (kind != "F" and stage == last):
        return None
    sources: tuple[Half, ...] = (
        (("F", m, stage - 1),) if kind == "F" else (("B", m, stage + 1), ("I", m, stage + 1))
    )
    peer = next((home[source] for source in sources if source in home), None)
    if peer is None:
        source = f"{sources[0][0]}{m}@{sources[0][2]}"
        raise ScheduleError(
            f"needs {source}, which no rank runs",
            value=f"{kind}{m}@{stage}",
            remedy=f"Add {source}.",
        )
    return None if peer == rank else Transfer("RF" if kind == "F" else "RB", m, stage, peer)


def _send(half: Half, rank: int, home: dict[Half, int]) -> Transfer | None:
    kind, m, stage = half
    targets: tuple[Half, ...] = (
        (("F", m, stage + 1),) if kind == "F" else (("B", m, stage - 1), ("I", m, stage - 1))
    )
    peer = next((home[target] for target in targets if target in home), rank)
    return (
        None
        if kind == "W" or peer == rank
        else Transfer("SF" if kind == "F" else "SB", m, stage, peer)
    )


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
        yield from (Reduction("AG", stage) for stage, at in first.items() if at == position)
        yield step
        yield from (Reduction("RS", stage) for stage, at in last.items() if at == position)


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
    sent: set[tuple[str, int, int, int, int]] = set()
    received: set[tuple[str, int, int, int, int]] = set()
    at = [0] * len(orders)
    moved = True
    while moved:
        moved = False
        for rank, order in enumerate(orders):
            while at[rank] < len(order) and _runs(order[at[rank]], rank, sent, received):
                at[rank] += 1
                moved = True
    for rank, order in enumerate(orders):
        if at[rank] < len(order):
            rule = f"at rank {rank}, step {at[rank]} waits for a send that does not come"
            raise ScheduleError(
                rule, value=str(order[at[rank]]), remedy="Send it, before what waits for this."
            )
    if lost := sorted(sent - received):
        kind, m, stage, rank, peer = lost[0]
        rule = f"is sent by rank {rank} and not received by rank {peer}"
        raise ScheduleError(
            rule, value=f"S{kind}{m}@{stage}", remedy="Receive it before the action that needs it."
        )


def _runs(
    step: Step,
    rank: int,
    sent: set[tuple[str, int, int, int, int]],
    received: set[tuple[str, int, int, int, int]],
) -> bool:
    """Run a step if it can; a message is (F or B, micro-batch, stage that sends, from rank, to rank)."""
    if not isinstance(step, Transfer):
        return True
    half = step.kind[1]
    if step.kind[0] == "S":
        sent.add((half, step.micro_batch, step.stage, rank, step.peer))
        return True
    message = (half, step.micro_batch, step.stage + (1 if half == "B" else -1), step.peer, rank)
    received.add(message)
    return message in sent

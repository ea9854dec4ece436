"""One action of a pipeline rank: what it runs, of which micro-batch, on which stage; printed as people write it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Literal, NamedTuple, cast, get_args

from simulator.errors import ScheduleError

Kind = Literal["F", "B", "I", "W", "FB"]
"""Forward, full backward (= I then W), input gradient, weight gradient, overlapped pair of a forward and a backward."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Half = tuple[Kind, int, int]
"""(kind, micro-batch, stage) of a single action or of one half of a pair; its kind is never FB."""

Chunk = tuple[int, int]
"""(micro-batch, stage). Plain, as halves are: schedules have hundreds of thousands of them."""


class Turn(NamedTuple):
    """What a rank runs when its turn comes, of the next micro-batch of that kind and stage."""

    kind: Kind
    """What runs; not FB."""
    stage: int
    """On which stage, from 0."""


_TEXT = re.compile(r"([FBIW])([0-9]+)@([0-9]+)|F([0-9]+)@([0-9]+)&B([0-9]+)@([0-9]+)")


class _Fields(NamedTuple):
    kind: Kind
    """What runs."""
    micro_batch: int
    """Of which micro-batch, from 0; of a pair, its forward half."""
    stage: int
    """On which stage, from 0; of a pair, its forward half."""
    micro_batch_b: int = -1
    """The micro-batch of a pair's backward half, -1 for other kinds."""
    stage_b: int = -1
    """The stage of a pair's backward half, -1 for other kinds."""


class Action(_Fields):
    """Run one kind of chunk of a micro-batch on a stage; a pair FB adds the backward half `micro_batch_b` at `stage_b`.

    Micro-batches and stages count from 0. Only FB has a second half; -1 means none. A tuple,
    because schedules have hundreds of thousands of them. Errors: ScheduleError for an unknown kind,
    a negative number, a pair with one half or a single with two.
    """

    __slots__ = ()

    def __new__(
        cls,
        kind: Kind,
        micro_batch: int,
        stage: int,
        micro_batch_b: int = -1,
        stage_b: int = -1,
    ) -> Action:
        """Return the action, if it is one."""
        action = super().__new__(cls, kind, micro_batch, stage, micro_batch_b, stage_b)
        # Two plain tests for the many, and one error with its rule for the few that fail them.
        if kind == "FB":
            lowest = min(micro_batch, stage, micro_batch_b, stage_b)
            _refuse(action, negative=lowest < 0)
        elif (
            micro_batch < 0
            or stage < 0
            or micro_batch_b != -1
            or stage_b != -1
            or kind not in KINDS
        ):
            _refuse(action, negative=min(micro_batch, stage) < 0)
        return action

    def __str__(self) -> str:
        return "&".join(half_text(half) for half in self.halves())

    def halves(self) -> tuple[Half, ...]:
        """Return what this action runs as (kind, micro-batch, stage): forward then backward of a pair, else itself."""
        if self.kind == "FB":
            forward: Half = ("F", self.micro_batch, self.stage)
            backward: Half = ("B", self.micro_batch_b, self.stage_b)
            return forward, backward
        return ((self.kind, self.micro_batch, self.stage),)

    @classmethod
    def parse(cls, text: str) -> Action:
        """Return the action that prints as `text`, such as `F3@1` or `F3@1&B1@6`. Errors: ScheduleError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            remedy = "Write kind, micro-batch, @ and stage, as in F3@1, B3@1, I3@1, W3@1 or, for a pair, F3@1&B1@6."
            raise ScheduleError("is not an action", value=text, remedy=remedy)
        # The groups of a single action come first, those of a pair behind them.
        kind, *numbers = match.groups()
        if kind is None:
            pair = map(int, numbers[2:])
            return cls("FB", *pair)
        single = map(int, numbers[:2])
        return cls(cast(Kind, kind), *single)


def in_turn(turns: Sequence[Turn]) -> tuple[Action, ...]:
    """Return single actions of these kinds and stages, each for the next micro-batch of its kind and stage, from 0.

    Not checked one by one: builders of large schedules call it.
    """
    following: dict[Turn, count[int]] = {}  # micro-batches that come next
    new = tuple.__new__  # past the checks of Action
    actions = []
    for turn in turns:
        counter = following.get(turn)
        if counter is None:
            counter = following[turn] = count()
        kind, stage = turn
        fields = (kind, next(counter), stage, -1, -1)
        actions.append(new(Action, fields))
    return tuple(actions)


def singles(kind: Kind, chunks: Iterable[Chunk]) -> list[Action]:
    """Return actions of one kind for these chunks. Not checked one by one, as in `in_turn`."""
    new = tuple.__new__  # past the checks of Action
    actions = []
    for micro_batch, stage in chunks:
        fields = (kind, micro_batch, stage, -1, -1)
        actions.append(new(Action, fields))
    return actions


def _refuse(action: Action, negative: bool) -> None:
    """Raise ScheduleError if this is not an action, with the rule that it breaks."""
    if action.kind not in KINDS:
        raise ScheduleError(
            "is not a kind of action",
            value=action.kind,
            remedy=f"Choose from: {', '.join(KINDS)}.",
        )
    if negative:
        raise ScheduleError(
            "names a negative micro-batch or stage",
            value=str(action),
            remedy="Count from 0.",
        )
    if action.kind != "FB":
        second = f"&B{action.micro_batch_b}@{action.stage_b}"
        raise ScheduleError(
            "has a second half",
            value=f"{action}{second}",
            remedy="Use kind FB.",
        )


def half_text(half: Half) -> str:
    """Return a half as it prints, such as `F3@1`."""
    kind, micro_batch, stage = half
    return f"{kind}{micro_batch}@{stage}"

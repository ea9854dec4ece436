"""One action of a pipeline rank: what it runs, of which micro-batch, on which stage; printed as people write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from simulator.errors import ScheduleError

Kind = Literal["F", "B", "I", "W", "FB"]
"""Forward, full backward (= I then W), input gradient, weight gradient, overlapped pair of a forward and a backward."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Half = tuple[Kind, int, int]
"""(kind, micro-batch, stage) of a single action or of one half of a pair; its kind is never FB."""

_TEXT = re.compile(r"([FBIW])([0-9]+)@([0-9]+)|F([0-9]+)@([0-9]+)&B([0-9]+)@([0-9]+)")


@dataclass(frozen=True, slots=True)
class Action:
    """Run one kind of chunk of a micro-batch on a stage; a pair FB adds the backward half `micro_batch_b` at `stage_b`.

    Micro-batches and stages count from 0. Only FB has a second half; -1 stands for none.
    Errors: ScheduleError for an unknown kind, a negative number, a pair with one half or a single with two.
    """

    kind: Kind
    micro_batch: int
    stage: int
    micro_batch_b: int = -1
    stage_b: int = -1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ScheduleError("is no kind of action", value=self.kind, remedy=f"Use one of {', '.join(KINDS)}.")
        second = (self.micro_batch_b, self.stage_b)
        if min(self.micro_batch, self.stage) < 0 or (self.kind == "FB" and min(second) < 0):
            raise ScheduleError("names a negative micro-batch or stage", value=str(self), remedy="Count from 0.")
        if self.kind != "FB" and second != (-1, -1):
            raise ScheduleError("has a second half", value=f"{self}&B{second[0]}@{second[1]}", remedy="Use kind FB.")

    def __str__(self) -> str:
        return "&".join(half_text(half) for half in self.halves())

    def halves(self) -> tuple[Half, ...]:
        """Return what this action runs as (kind, micro-batch, stage): forward then backward of a pair, else itself."""
        if self.kind == "FB":
            return ("F", self.micro_batch, self.stage), ("B", self.micro_batch_b, self.stage_b)
        return ((self.kind, self.micro_batch, self.stage),)

    @classmethod
    def parse(cls, text: str) -> Action:
        """Return the action that prints as `text`, such as `F3@1` or `F3@1&B1@6`. Errors: ScheduleError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            remedy = "Write kind, micro-batch, @ and stage, as in F3@1, B3@1, I3@1, W3@1 or, for a pair, F3@1&B1@6."
            raise ScheduleError("is not an action", value=text, remedy=remedy)
        kind, *numbers = match.groups()
        if kind is None:
            return cls("FB", *map(int, numbers[2:]))
        return cls(cast(Kind, kind), *map(int, numbers[:2]))


def half_text(half: Half) -> str:
    """Return a half as it prints, such as `F3@1`."""
    kind, micro_batch, stage = half
    return f"{kind}{micro_batch}@{stage}"

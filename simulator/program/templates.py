"""Rows that occur again and again, written down once: a program is a sequence of templates.

What a rank does for one micro-batch it does for all, so that its actions are few different
templates. Each is the rows of a `ChunkRows`, which are never looked at one by one, and a few others
among them; `sheet` puts all of them into columns, `slots` lays these one behind another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from simulator.costs import Busy
from simulator.ops.streams import Stream
from simulator.program.chunk_columns import ChunkRows
from simulator.program.chunk_rows import After, Mark
from simulator.program.transfers import CoflowKey


class Handed(IntEnum):
    """What actions hand to each other."""

    FORWARD = 0
    """The residual stream, to the next stage."""
    GRADIENT = 1
    """Its gradient, to the stage before."""
    POSTED = 2
    """Within a rank: messages that a later action waits for."""


class FarWait(NamedTuple):
    """A row waits for a row of another template. Slots count from the first one of the rank."""

    slot: int
    """Where the template of the waiting row stands."""
    row: int
    """Row within that template."""
    on_slot: int
    """Where the template of the row stands that it waits for."""
    on_row: int
    """Row within that template."""


class Owed(NamedTuple):
    """Gradients of a block that are summed at the end of the step."""

    block: Mark
    """The block."""
    rows: list[int]
    """Rows of the template that make them."""


def _nothing_handed() -> tuple[list[int], ...]:
    return (
        [],
        [],
        [],
    )  # one for each of Handed; to iterate over an enum takes longer than the rest


class Use(NamedTuple):
    """An action of the schedule, with what its blocks cost."""

    number: int
    """Among those of the program."""
    rows: ChunkRows
    """Its rows."""
    stages: tuple[int, int]
    """Its stage, and that of a pair's backward half, or -1."""
    first: tuple[int, int, int]
    """Where what rows keep busy begins in the columns of the program [Source]."""
    keys: tuple[CoflowKey, ...]
    """Coflows that its rows take part in [call]."""

    def mark(self, mark: Mark) -> Mark:
        """Return a block with the number of its stage, for that of its half."""
        return mark._replace(stage=self.stages[mark.stage])


@dataclass(slots=True)
class Template:
    """Rows of one rank, numbered from 0, and what waits for what among them."""

    speed: float
    """Of the rank's kernels; 1 for a healthy GPU."""
    length: int = 0
    """Number of rows."""
    use: Use | None = None
    """The action whose rows are among them, if any."""
    calls: list[int] = field(default_factory=list)
    """Number in the whole cluster's table of the coflows that it names [call]."""
    place: list[int] = field(default_factory=list)
    """Row of the template of each row of the action [action's row]."""
    own_action: int = 0
    """Index into `kinds` of these."""
    drained: list[int] = field(default_factory=list)
    """Rows that the host launches when what they wait for is done, whatever they keep busy."""
    added: list[int] = field(default_factory=list)
    """The other rows [added]."""
    stream: list[Stream] = field(default_factory=list)
    """A Stream [added]."""
    label: list[str] = field(default_factory=list)
    """What traces call it [added]."""
    busy: list[Busy] = field(default_factory=list)
    """What it keeps busy [added]."""
    coflow: list[int] = field(default_factory=list)
    """Number in the whole cluster's table, -1 of kernels [added]."""
    action: list[int] = field(default_factory=list)
    """Index into `kinds` [added]."""
    kinds: list[str] = field(default_factory=list)
    """Kinds of the actions that the rows belong to [action]."""
    wait_row: list[int] = field(default_factory=list)
    """Row that waits, besides those of the action for each other [wait]."""
    wait_on: list[int] = field(default_factory=list)
    """Row of the same template that it waits for [wait]."""
    input_row: list[int] = field(default_factory=list)
    """Row that waits for what another action hands over [input]."""
    input_kind: list[Handed] = field(default_factory=list)
    """What that is [input]."""
    handed: tuple[list[int], ...] = field(default_factory=_nothing_handed)
    """Rows that make what the action hands on [Handed]."""
    reduced: list[int] = field(default_factory=list)
    """Rows that sum gradients, which the optimizer waits for."""
    owed: list[Owed] = field(default_factory=list)
    """Gradients that are summed at the end of the step."""
    copies: dict[str, float] = field(default_factory=dict)
    """Class of op -> time of kernels that stand outside of chunks, at the rank's speed [s]."""
    optimizer: int = -1
    """Row of the optimizer, in the last template of a rank."""

    def row(
        self, stream: Stream, label: str, busy: Busy, coflow: int = -1, *, action: int = -1
    ) -> int:
        """Add a row; return its number. action: index into `kinds`, -1 for the last."""
        self.added.append(self.length)
        self.stream.append(stream)
        self.label.append(label)
        self.busy.append(busy)
        self.coflow.append(coflow)
        self.action.append(action % len(self.kinds))
        self.length += 1
        return self.length - 1

    def begin(self, use: Use, calls: list[int]) -> None:
        """Take an action, whose rows belong to the last of `kinds`. calls: as `Template.calls`."""
        self.use = use
        self.calls = calls
        self.own_action = len(self.kinds) - 1

    def place_to(self, row: int) -> None:
        """Add the action's rows that stand in front of one of them and have no place yet."""
        count = row - len(self.place)
        self.place += range(self.length, self.length + count)
        self.length += count

    def wait(self, row: int, on: Iterable[int]) -> None:
        """Make a row wait for others of the template."""
        for other in on:
            self.wait_row.append(row)
            self.wait_on.append(other)

    def latest(self, rows: After) -> list[int]:
        """Return rows of the action, or the wait before it if it has none."""
        return self.placed(rows) or list(range(self.length))

    def added_as(self, label: str) -> list[int]:
        """Return the added rows of a label."""
        rows = zip(self.added, self.label, strict=True)
        return [row for row, name in rows if name == label]

    def placed(self, rows: Iterable[int]) -> list[int]:
        """Return rows of the template. rows: of the action."""
        return [self.place[row] for row in rows]

    def wait_for_input(self, row: int, kind: Handed) -> None:
        """Make a row wait for what another action hands over."""
        self.input_row.append(row)
        self.input_kind.append(kind)

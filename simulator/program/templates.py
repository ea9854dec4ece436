"""Rows that occur again and again, written down once: a program is a sequence of templates.

What a rank does for one micro-batch it does for all, so that its actions are few different
templates. Each is written row by row here; `slots` lays them one behind another, all columns of all
rows at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from simulator.costs import Busy
from simulator.ops.streams import Stream
from simulator.program.chunk_rows import Mark


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
    return tuple([] for _ in Handed)


@dataclass(slots=True)
class Template:
    """Rows of one rank as columns, numbered from 0, and what waits for what among them."""

    speed: float
    """Of the rank's kernels; 1 for a healthy GPU."""
    stream: list[Stream] = field(default_factory=list)
    """A Stream [row]."""
    label: list[str] = field(default_factory=list)
    """What traces call it [row]."""
    seconds: list[float] = field(default_factory=list)
    """Of kernels at the rank's speed, 0 of transfers [row] s."""
    sms: list[float] = field(default_factory=list)
    """Sensitivity of kernels to SMs that transfers hold [row]."""
    hbm: list[float] = field(default_factory=list)
    """The same, to HBM bandwidth [row]."""
    both: list[float] = field(default_factory=list)
    """The mean product of both [row]."""
    host: list[float] = field(default_factory=list)
    """How long the host is busy with it [row] s."""
    lead: list[float] = field(default_factory=list)
    """How long until its first kernel, or its transfer, is launched [row] s."""
    lag: list[float] = field(default_factory=list)
    """When its last kernel ends at the rank's speed, were the GPU free, from when the host begins [row] s."""
    drains: list[bool] = field(default_factory=list)
    """Whether the host waits for what the row waits for before it launches it [row]."""
    coflow: list[int] = field(default_factory=list)
    """Number in the whole cluster's table, -1 of kernels [row]."""
    action: list[int] = field(default_factory=list)
    """Index into `kinds` [row]."""
    kinds: list[str] = field(default_factory=list)
    """Kinds of the actions that the rows belong to [action]."""
    wait_row: list[int] = field(default_factory=list)
    """Row that waits [wait]."""
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
    place: list[int] = field(default_factory=list)
    """Row of the template of each row of the action's chunk [chunk row]."""
    copies: dict[str, float] = field(default_factory=dict)
    """Class of op -> time of kernels that stand outside of chunks, at the rank's speed [s]."""
    optimizer: int = -1
    """Row of the optimizer, in the last template of a rank."""

    def row(
        self, stream: Stream, label: str, busy: Busy, coflow: int = -1, *, action: int = -1
    ) -> int:
        """Add a row; return its number. action: index into `kinds`, -1 for the last."""
        self.stream.append(stream)
        self.label.append(label)
        self.seconds.append(busy.seconds / self.speed)
        self.sms.append(busy.sensitivity.sms)
        self.hbm.append(busy.sensitivity.hbm)
        self.both.append(busy.sensitivity.both)
        self.host.append(busy.launches.total)
        self.lead.append(busy.launches.first)
        self.lag.append(busy.launches.lag(self.speed))
        self.drains.append(busy.drains)
        self.coflow.append(coflow)
        self.action.append(action % len(self.kinds))
        return len(self.stream) - 1

    def wait(self, row: int, on: Iterable[int]) -> None:
        """Make a row wait for others of the template."""
        for other in on:
            self.wait_row.append(row)
            self.wait_on.append(other)

    def latest(self, rows: Mapping[Stream, int]) -> list[int]:
        """Return the last row of the action's chunk on each stream, or the wait before it if it has none.

        rows: last row of each stream, counted from where the chunk begins.
        """
        return self.placed(rows.values()) or list(range(len(self.stream)))

    def rows_of(self, label: str) -> list[int]:
        """Return the rows of a label."""
        return [row for row, name in enumerate(self.label) if name == label]

    def placed(self, rows: Iterable[int]) -> list[int]:
        """Return rows of the template. rows: of the action's chunk."""
        return [self.place[row] for row in rows]

    def wait_for_input(self, row: int, kind: Handed) -> None:
        """Make a row wait for what another action hands over."""
        self.input_row.append(row)
        self.input_kind.append(kind)

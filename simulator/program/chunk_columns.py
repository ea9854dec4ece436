"""The rows of actions as arrays, kept from scenario to scenario: equal blocks make equal rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from simulator.costs.segments import Shape
from simulator.program.chunk_rows import After, Call, Chunk, Mark, Recomputed
from simulator.program.chunks import Pairing, chunk, halves
from simulator.program.program import Ints
from simulator.program.step_columns import StageBlocks
from simulator.schedules import Kind

MOST_CHUNKS = 512
"""Actions that are kept; with more of them the first ones go. DeepSeek-V3 has 20."""


class Source(IntEnum):
    """Where a row finds what it keeps busy."""

    LAUNCHED = 0
    """A transfer: among `chunk_rows.LAUNCHED`."""
    AHEAD = 1
    """Among the segments of its stage, of a pair that of the forward half."""
    BACK = 2
    """Among those of the stage of a pair's backward half."""


class Places(NamedTuple):
    """Segments of an action, or transfers."""

    source: Ints
    """A Source [segment]."""
    number: Ints
    """Counted from where that one's begin [segment]."""


class Input(NamedTuple):
    """A row that waits for what another action hands over."""

    row: int
    """The row."""
    due: int
    """FORWARD_INPUT or GRADIENT_INPUT."""


@dataclass(frozen=True, slots=True)
class ChunkRows:
    """The rows of one action, whatever they take, for whichever rank and stage."""

    stream: Ints
    """A Stream [row]."""
    names: tuple[str, ...]
    """Different labels."""
    label: Ints
    """Index into names [row]."""
    busy: Places
    """Where it is said what it keeps busy [row]."""
    calls: tuple[Call, ...]
    """Different transfers that rows take part in."""
    call: Ints
    """Index into calls, -1 of kernels [row]."""
    waiting: Ints
    """Row that waits for another one besides the order of its stream [wait]."""
    waited_for: Ints
    """That other one [wait]."""
    inputs: tuple[Input, ...]
    """What waits for other actions."""
    latest: After
    """The last row of each stream that has one."""
    forward_out: After
    """Rows that make the output of the forward pass."""
    gradient_out: After
    """Rows that make the gradient of the action's input."""
    begins: dict[Mark, int]
    """Block -> the first row that needs its parameters."""
    ends: dict[Mark, After]
    """Block -> the rows after which its gradients are there."""
    counted: Places
    """Every segment that runs, in order [segment]."""
    classes: tuple[str, ...]
    """Classes of the ops of these, in order."""
    dtypes: tuple[str, ...]
    """Dtypes in which they multiply, in order."""
    recomputed: tuple[Recomputed, ...]
    """Runs of them that repeat the forward pass."""

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.stream)


class _Key(NamedTuple):
    """What decides which rows an action has."""

    kind: Kind
    """F, B, I, W or the pair FB."""
    pairing: Pairing
    """How pairs run their blocks."""
    ahead: Shape
    """Of the blocks of its stage, of a pair that of its forward half."""
    back: Shape
    """Of those of a pair's backward half."""


_kept: dict[_Key, ChunkRows] = {}


def chunk_rows(kind: Kind, ahead: StageBlocks, back: StageBlocks, pairing: Pairing) -> ChunkRows:
    """Return the rows of one action. ahead, back: of the stages of its halves."""
    key = _Key(kind, pairing, ahead.shape, back.shape)
    found = _kept.get(key)
    if found is None:
        segments = sum(len(part.cost.columns.counted) for part in ahead.parts)
        found = _columns(chunk(kind, halves(ahead.parts, back.parts), pairing), segments)
        if len(_kept) >= MOST_CHUNKS:
            oldest, *_ = list(_kept)
            _kept.pop(oldest, None)  # another thread may have taken it out
        _kept[key] = found
    return found


def _columns(rows: Chunk, ahead: int) -> ChunkRows:
    """Return rows as arrays. ahead: number of segments of the forward half."""
    names = tuple(dict.fromkeys(rows.label))
    calls = tuple(dict.fromkeys(call for call in rows.call if call.kind))
    waits = [(row, due) for row, after in enumerate(rows.after) for due in after]
    pairs = np.array([wait for wait in waits if wait[1] >= 0], dtype=np.int64).reshape(-1, 2)
    return ChunkRows(
        stream=_ints(rows.stream),
        names=names,
        label=_ints([names.index(label) for label in rows.label]),
        busy=_places(_ints(rows.segment), ahead),
        calls=calls,
        call=_ints([calls.index(call) if call.kind else -1 for call in rows.call]),
        waiting=pairs[:, 0],
        waited_for=pairs[:, 1],
        inputs=tuple(Input(row, due) for row, due in waits if due < 0),
        latest=tuple(rows.latest.values()),
        forward_out=tuple(row for row in rows.forward_out if row >= 0),
        gradient_out=tuple(row for row in rows.gradient_out if row >= 0),
        begins=rows.begins,
        ends=rows.ends,
        counted=_places(_ints(rows.counted), ahead),
        classes=tuple(rows.classes),
        dtypes=tuple(rows.dtypes),
        recomputed=tuple(rows.recomputed),
    )


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _places(segment: Ints, ahead: int) -> Places:
    """Return where segments are found. segment: as in `Chunk`. ahead: number of the forward half's."""
    transfers = segment < 0
    back = segment >= ahead
    source = np.where(transfers, Source.LAUNCHED, np.where(back, Source.BACK, Source.AHEAD))
    number = np.where(transfers, -1 - segment, np.where(back, segment - ahead, segment))
    return Places(source, number)


NO_ROWS = _columns(Chunk(), 0)
"""Of no action."""

"""What the blocks of a step keep busy, those of all its stages one behind another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from simulator.costs import Part
from simulator.costs.columns import BlockColumns, Floats, Sums, Timing, joined
from simulator.costs.segments import Shape
from simulator.program.program import Ints
from simulator.program.ragged import starts


class StageBlocks(NamedTuple):
    """The blocks of a stage."""

    parts: Sequence[Part]
    """In forward order."""
    first: int
    """The first one's first segment among those of the step."""
    shape: Shape
    """What decides which rows they make."""


NO_BLOCKS = StageBlocks((), 0, Shape(()))
"""Of the backward half that an action does not have."""


@dataclass
class StepColumns:
    """The segments of all blocks of a step. Local state of `lower`."""

    blocks: list[BlockColumns] = field(default_factory=list)
    """Columns of each block [block]."""
    segments: int = 0
    """Number of all segments."""

    def add(self, parts: Sequence[Part]) -> StageBlocks:
        """Add the blocks of a stage."""
        shapes = [(part.number, part.is_layer, part.cost.columns.shape) for part in parts]
        added = StageBlocks(parts, self.segments, Shape(tuple(shapes)))
        for part in parts:
            columns = part.cost.columns
            self.blocks.append(columns)
            self.segments += len(columns.counted)
        return added

    def timing(self) -> Timing:
        """Return what the segments keep busy."""
        return joined([block.timing for block in self.blocks])

    def sums(self) -> Sums:
        """Return what each segment adds to the sums of its rank, and behind the last one nothing."""
        parts = [block.sums for block in self.blocks]
        classes = tuple(dict.fromkeys(name for part in parts for name in part.classes))
        dtypes = tuple(dict.fromkeys(name for part in parts for name in part.dtypes))
        column = {name: number for number, name in enumerate((*classes, *dtypes))}
        values = np.zeros((self.segments + 1, len(column) + 1))
        first = 0
        for part in parts:
            end = first + len(part.values)
            own = [column[name] for name in (*part.classes, *part.dtypes)]
            values[first:end, [*own, -1]] = part.values
            first = end
        return Sums(classes, dtypes, values)


def lags(timing: Timing, row: Ints, speed: Floats) -> Floats:
    """Return when the last kernel of each row ends, were the GPU free, from when the host begins [row] s.

    row: of the timing [row]. speed: of the row's GPU [row].
    """
    first = starts(timing.kernels)[row]
    count = timing.kernels[row]
    launched = np.zeros(len(row))
    end = np.zeros(len(row))
    host, seconds = timing.launches
    # Kernel by kernel, each behind its own launch and behind the kernel before it: all rows at once.
    for number in range(int(count.max(initial=0))):
        rows = np.flatnonzero(count > number)
        kernel = first[rows] + number
        launched[rows] += host[kernel]
        end[rows] = np.maximum(launched[rows], end[rows]) + seconds[kernel] / speed[rows]
    return end

"""What the segments of a block take, as columns, from which the rows of a program are copied.

Blocks of a kind have the same rows whatever their load: `shape` says which, and only the numbers
beside it differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.costs.segments import Busy, Segment, Shape
from simulator.ops import Phase

Floats: TypeAlias = NDArray[np.float64]
TIMINGS = ("seconds", "sms", "hbm", "both", "host", "lead")
"""Rows of `Timing.columns`: columns of a program, all but `lag`, which follows from launches."""


class Timing(NamedTuple):
    """What segments, or other rows, keep busy on a healthy GPU."""

    columns: Floats
    """Seconds, sensitivities, and seconds of the host [TIMINGS, segment]."""
    kernels: NDArray[np.int64]
    """How many each launches [segment]."""
    launches: Floats
    """What launching each kernel takes the host, and what the kernel takes [2, kernel] s."""


class Counted(NamedTuple):
    """What of a segment counts in the sums of its rank."""

    seconds: dict[str, float]
    """Class of op -> time on a GPU of mean load [s]."""
    flops: dict[str, float]
    """Dtype -> executed FLOPs there."""
    recomputed: float
    """Of those FLOPs, what the forward pass ran before."""


class Sums(NamedTuple):
    """What segments add to the sums of their ranks, as columns."""

    classes: tuple[str, ...]
    """Classes of ops, in the order in which they appear."""
    dtypes: tuple[str, ...]
    """Likewise."""
    values: Floats
    """Seconds by class, FLOPs by dtype, recomputed FLOPs; 0 of what a segment has not [segment, column]."""


class BlockColumns(NamedTuple):
    """The segments of a block, phase after phase."""

    timing: Timing
    """What each keeps busy."""
    counted: tuple[Counted, ...]
    """What of each counts [segment]."""
    sums: Sums
    """The same as columns."""
    first: dict[Phase, int]
    """Phase -> its first segment."""
    shape: Shape
    """Which rows these make."""


def timing(rows: Sequence[Busy]) -> Timing:
    """Return what rows keep busy as columns."""
    columns = [
        (row.seconds, *row.sensitivity, row.launches.total, row.launches.first) for row in rows
    ]
    launches = [row.launches for row in rows]
    host = [seconds for launch in launches for seconds in launch.host]
    kernels = [seconds for launch in launches for seconds in launch.kernels]
    return Timing(
        np.array(columns, dtype=np.float64).reshape(len(rows), len(TIMINGS)).T,
        np.array([len(launch.kernels) for launch in launches], dtype=np.int64),
        np.array([host, kernels], dtype=np.float64),
    )


def joined(timings: Sequence[Timing]) -> Timing:
    """Return columns one behind another."""
    return Timing(
        np.concatenate([one.columns for one in timings], axis=1),
        np.concatenate([one.kernels for one in timings]),
        np.concatenate([one.launches for one in timings], axis=1),
    )


def sums(counted: Sequence[Counted]) -> Sums:
    """Return what segments add as columns."""
    classes = dict.fromkeys(name for one in counted for name in one.seconds)
    dtypes = dict.fromkeys(name for one in counted for name in one.flops)
    values = [
        (
            *(one.seconds.get(name, 0.0) for name in classes),
            *(one.flops.get(name, 0.0) for name in dtypes),
            one.recomputed,
        )
        for one in counted
    ]
    shape = (len(values), len(classes) + len(dtypes) + 1)
    return Sums(tuple(classes), tuple(dtypes), np.array(values, dtype=np.float64).reshape(shape))


def _counted(busiest: Segment, mean: Segment) -> Counted:
    """Return what a segment adds to the sums.

    What the busiest GPU of an expert group takes beyond a mean one, the mean one waits.
    """
    # Where every GPU has a load of its own, that may be less than the mean. More rows may also
    # take less time, where they fill waves better: time and work are compared apart.
    shorter = mean if mean.total < busiest.total else busiest
    fewer = min(mean, busiest, key=lambda segment: sum(segment.flops.values()))
    seconds = {**shorter.seconds, "expert_waiting": busiest.total - shorter.total}
    return Counted(seconds, fewer.flops, fewer.recomputed)


def counted(own: Sequence[Segment], mean: Sequence[Segment]) -> tuple[Counted, ...]:
    """Return what segments add to the sums [segment]. mean: the same on a GPU of mean load."""
    # A wait for a copy may stand behind those of the busiest GPU alone.
    pairs = zip(own, (*mean, *own[len(mean) :]), strict=False)
    return tuple(_counted(segment, other) for segment, other in pairs)

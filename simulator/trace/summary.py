"""What a profile says: how busy each stream is, what kernels do, how much communication compute hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.timeline import Intervals, covered, measure, union
from simulator.trace.classes import COMMUNICATION, RULES
from simulator.trace.kernels import Kernels

GROUP = {rule.name: rule.group for rule in RULES}
"""Class of kernels -> its group."""


class Busy(NamedTuple):
    """How busy a stream is."""

    kernels: int
    """Number of its kernels."""
    seconds: float
    """Time in which any of them runs [s]."""


@dataclass(frozen=True)
class Summary:
    """One process of a profile."""

    process: str
    """Name of the process."""
    span: float
    """From the start of its first kernel to the end of its last [s]."""
    streams: dict[str, Busy]
    """Stream -> how busy it is."""
    classes: dict[str, float]
    """Class of kernels -> their durations, added up, the longest first [s]."""
    compute: float
    """Time in which some kernel computes [s]."""
    communication: float
    """Time in which some kernel moves bytes between GPUs or waits for peers [s]."""
    hidden: float
    """The part of it in which compute runs as well [s]."""

    @property
    def overlap(self) -> float | None:
        """Return the hidden share of communication; None where there is none."""
        return self.hidden / self.communication if self.communication else None

    @property
    def groups(self) -> dict[str, float]:
        """Return what the simulator tells apart: group -> summed duration [s]."""
        total: dict[str, float] = {}
        for name, seconds in self.classes.items():
            group = GROUP.get(name, name)
            # NCCL's kernels are a class for each collective, which no rule names.
            if name.startswith("nccl"):
                group = "collectives"
            total[group] = total.get(group, 0.0) + seconds
        return total

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as `simulate trace --json` writes it."""
        return {
            "process": self.process,
            "span_s": self.span,
            "streams": [
                {"stream": stream, "kernels": count, "busy_s": busy}
                for stream, (count, busy) in self.streams.items()
            ],
            "classes_s": self.classes,
            "groups_s": self.groups,
            "compute_s": self.compute,
            "communication_s": self.communication,
            "hidden_s": self.hidden,
            "overlap": self.overlap,
        }


def summaries(profile: Sequence[Kernels]) -> tuple[Summary, ...]:
    """Return the summary of each process."""
    return tuple(map(_summary, profile))


def _summary(kernels: Kernels) -> Summary:
    streams = np.array(kernels.stream)  # [kernel]
    moves = np.array([group in COMMUNICATION for group in kernels.group])  # [kernel]
    # Kernels of several streams overlap: union first, or time would count twice.
    communication = _merged(kernels, moves)
    compute = _merged(kernels, ~moves)
    busy = {}
    for name in dict.fromkeys(kernels.stream):
        own = streams == name  # [kernel]
        count = int(own.sum())
        busy[name] = Busy(count, measure(_merged(kernels, own)))
    first, last = kernels.start.min(), kernels.end.max()
    longest_first = sorted(kernels.classes.items(), key=lambda item: -item[1])
    return Summary(
        process=kernels.process,
        span=float(last - first),
        streams=busy,
        classes=dict(longest_first),
        compute=measure(compute),
        communication=measure(communication),
        hidden=covered(communication, compute),
    )


def _merged(kernels: Kernels, rows: NDArray[np.bool_]) -> Intervals:
    """Return when any of some kernels runs. rows: whether it is one of them [kernel]."""
    return union(kernels.start[rows], kernels.end[rows])

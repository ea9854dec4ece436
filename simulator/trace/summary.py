"""What a profile says: how busy each stream is, what kernels do, how much communication compute hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulator.timeline import Intervals, covered, measure, union
from simulator.trace.classes import COMMUNICATION, RULES
from simulator.trace.kernels import Kernels

GROUP = {rule.name: rule.group for rule in RULES}


@dataclass(frozen=True)
class Summary:
    """One process of a profile, in seconds.

    span: from its first kernel to the end of its last. streams: stream -> (kernels, busy time).
    classes: class -> summed duration, longest first. communication: time in which some kernel moves
    bytes between GPUs or waits for peers. hidden: that part of it in which compute runs. compute:
    time in which some other kernel runs.
    """

    process: str
    span: float
    streams: dict[str, tuple[int, float]]
    classes: dict[str, float]
    compute: float
    communication: float
    hidden: float

    @property
    def overlap(self) -> float | None:
        """Return the hidden share of communication; None where there is none."""
        return self.hidden / self.communication if self.communication else None

    @property
    def groups(self) -> dict[str, float]:
        """Return what the simulator tells apart: group -> summed duration [s]."""
        total: dict[str, float] = {}
        for name, seconds in self.classes.items():
            group = "collectives" if name.startswith("nccl") else GROUP.get(name, name)
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
    streams = np.array(kernels.stream)
    moving = np.array([group in COMMUNICATION for group in kernels.group])
    talk, work = _merged(kernels, moving), _merged(kernels, ~moving)
    return Summary(
        process=kernels.process,
        span=float(kernels.end.max() - kernels.start.min()),
        streams={
            name: (int((streams == name).sum()), measure(*_merged(kernels, streams == name)))
            for name in dict.fromkeys(kernels.stream)
        },
        classes=dict(sorted(kernels.classes.items(), key=lambda item: -item[1])),
        compute=measure(*work),
        communication=measure(*talk),
        hidden=covered(talk, work),
    )


def _merged(kernels: Kernels, rows: Any) -> Intervals:
    return union(kernels.start[rows], kernels.end[rows])

"""Series over the time of a step: memory by category, and how busy the links are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.memory import memory, over_time
from simulator.timeline import Timeline

Floats = NDArray[np.float64]
FIXED = ("parameters", "gradients", "optimizer", "buffers")
"""What a rank holds all the time."""


class Spans(NamedTuple):
    """When the kernels of each action of a rank ran."""

    start: Floats
    """Start of the first kernel [position] s; infinite without kernels."""
    end: Floats
    """End of the last kernel [position] s."""


def action_spans(timeline: Timeline, rank: int) -> Spans:
    """Return when the kernels of each action of a class of ranks ran, by position in its order."""
    program = timeline.program
    order = program.schedule.ranks[program.pipeline_index(rank)]
    # Other ranks' actions, and the update, have no position in this rank's order: -1.
    own = []  # [action]
    for owner, position, kind in program.actions:
        is_own = owner == rank and kind != "update"
        own.append(position if is_own else -1)
    of_row = np.array(own)[program.action]  # [op] position
    rows = (of_row >= 0) & (program.coflow < 0)
    positions = of_row[rows]
    start = np.full(len(order), np.inf)
    end = np.zeros(len(order))
    np.minimum.at(start, positions, timeline.start[rows])
    np.maximum.at(end, positions, timeline.end[rows])
    return Spans(start, end)


class MemoryUse(NamedTuple):
    """What a rank holds over a step."""

    times: Floats
    """When something is taken or freed [time] s."""
    held: dict[str, Floats]
    """Category -> bytes from each time on [time] B."""


def memory_over_time(timeline: Timeline, rank: int) -> MemoryUse:
    """Return the memory of a class of ranks over a step."""
    program = timeline.program
    index = program.pipeline_index(rank)
    start, end = action_spans(timeline, rank)
    times, activations = over_time(program, index, start, end)
    # Sums that should end at 0 may fall a rounding error below it.
    activations = np.maximum(activations, 0.0)
    # What is held all the time is there before the first action is.
    times = np.concatenate([[0.0], times])
    activations = np.concatenate([[0.0], activations])
    fixed = memory(program)[index].by_category
    count = len(times)
    held = {name: np.full(count, fixed[name]) for name in FIXED}
    return MemoryUse(times, {**held, "activations": activations})


class LinkUse(NamedTuple):
    """How busy a class of links is over a step."""

    name: str
    """Of the first link of the class."""
    kind: str
    """nvlink, pcie, nic, or fabric between switches."""
    times: Floats
    """When the share changes [time] s."""
    shares: Floats
    """Busy share from each time on [time]."""


class _Change(NamedTuple):
    """A transfer begins or ends on a link."""

    time: float
    """When [s]."""
    share: float
    """Change of the link's busy share."""


def link_use(timeline: Timeline) -> Iterator[LinkUse]:
    """Yield each class of links that carries something with its busy share over time.

    Every transfer counts with its mean rate between its first and its last byte, kernel efficiency
    included; transfers that share a link unevenly over time can add up to a little more than 1 for
    a while.
    """
    program = timeline.program
    for link, changes in enumerate(_changes(timeline)):
        if not changes:
            continue
        moments = [change.time for change in changes]
        times, which = np.unique(moments, return_inverse=True)
        # Changes at one time are one change.
        weights = [change.share for change in changes]
        at_once = np.bincount(which, weights=weights)  # [time]
        shares: Floats = np.cumsum(at_once)
        yield LinkUse(
            name=program.link_names[link],
            kind=program.link_kinds[link],
            times=times,
            shares=shares,
        )


def _changes(timeline: Timeline) -> list[list[_Change]]:
    """Return the beginnings and ends of all transfers on each class of links [link class][change]."""
    program = timeline.program
    changes: list[list[_Change]] = [[] for _ in program.link_names]
    # All members of a coflow have a row of their own for it: one of them is enough.
    instance = np.where(program.instance >= 0, program.instance, -1)
    _, rows = np.unique(instance, return_index=True)
    transfers = rows[program.coflow[rows] >= 0]
    for row in transfers.tolist():
        flow = program.coflows[program.coflow[row]]
        start = float(timeline.start[row]) + flow.latency
        end = float(timeline.end[row])
        if end <= start:
            continue
        seconds = end - start
        for link, weight in flow.links:
            rate = weight * flow.size / seconds
            share = rate / float(program.capacity[link])
            changes[link].append(_Change(start, share))
            changes[link].append(_Change(end, -share))
    return changes


def means(times: Floats, values: Floats, edges: Floats) -> Floats:
    """Return the means of a series between edges [edge - 1]; areas stay what they are.

    times: [time] s, in order. values: from each time on; 0 before the first. edges: [edge] s,
    rising.
    """
    # The area under the series is linear between its times, so it can be read off at any edge.
    pieces = values[:-1] * np.diff(times)  # [time - 1]
    area = np.concatenate([[0.0], np.cumsum(pieces)])  # [time]
    at_edges = np.interp(edges, times, area)
    between: Floats = np.diff(at_edges) / np.diff(edges)
    return between

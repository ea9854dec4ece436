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


def action_spans(timeline: Timeline, rank: int) -> tuple[Floats, Floats]:
    """Return the start of the first and the end of the last kernel of each action of a class of ranks [position]."""
    program = timeline.program
    count = len(program.schedule.ranks[program.pipeline_index(rank)])
    first, last = np.full(count, np.inf), np.zeros(count)
    position = np.array(
        [
            place if owner == rank and kind != "update" else -1
            for owner, place, kind in program.actions
        ]
    )[program.action]
    rows = (position >= 0) & (program.coflow < 0)
    np.minimum.at(first, position[rows], timeline.start[rows])
    np.maximum.at(last, position[rows], timeline.end[rows])
    return first, last


def memory_over_time(timeline: Timeline, rank: int) -> tuple[Floats, dict[str, Floats]]:
    """Return times [s] and the bytes of each category from each on [B], of a class of ranks."""
    program = timeline.program
    index = program.pipeline_index(rank)
    times, held = over_time(program, index, *action_spans(timeline, rank))
    times, held = np.concatenate([[0.0], times]), np.concatenate([[0.0], np.maximum(held, 0.0)])
    fixed = memory(program)[index].by_category
    return times, {
        **{name: np.full(len(times), fixed[name]) for name in FIXED},
        "activations": held,
    }


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


def link_use(timeline: Timeline) -> Iterator[LinkUse]:
    """Yield each class of links that carries something with its busy share over time.

    Every transfer counts with its mean rate between its first and its last byte, kernel efficiency
    included; transfers that share a link unevenly over time can add up to a little more than 1 for
    a while.
    """
    program = timeline.program
    _, rows = np.unique(np.where(program.instance >= 0, program.instance, -1), return_index=True)
    edges: list[list[tuple[float, float]]] = [[] for _ in program.link_names]
    for row in rows[program.coflow[rows] >= 0].tolist():
        flow = program.coflows[program.coflow[row]]
        start, end = float(timeline.start[row]) + flow.latency, float(timeline.end[row])
        if end <= start:
            continue
        for link, weight in flow.links:
            share = weight * flow.size / (end - start) / float(program.capacity[link])
            edges[link] += [(start, share), (end, -share)]
    for link, steps in enumerate(edges):
        if steps:
            times, which = np.unique([time for time, _ in steps], return_inverse=True)
            changes = np.bincount(which, weights=[step for _, step in steps])
            shares: Floats = np.cumsum(changes)
            yield LinkUse(program.link_names[link], program.link_kinds[link], times, shares)


def means(times: Floats, values: Floats, edges: Floats) -> Floats:
    """Return the means of a series between edges [edge - 1]; areas stay what they are.

    times: [time] s, in order. values: from each time on; 0 before the first. edges: [edge] s,
    rising.
    """
    area = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(times))])
    found: Floats = np.diff(np.interp(edges, times, area)) / np.diff(edges)
    return found

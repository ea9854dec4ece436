"""Counters of a trace: memory over time by category, and how busy the links are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
    position = np.array([place if owner == rank and kind != "update" else -1
                         for owner, place, kind in program.actions])[program.action]
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
    return times, {**{name: np.full(len(times), fixed[name]) for name in FIXED}, "activations": held}


def link_use(timeline: Timeline) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield each link with times [s] and the busy share from each on.

    Every transfer counts with its mean rate between its first and its last byte, kernel efficiency included; transfers
    that share a link unevenly over time can add up to a little more than 1 for a while.
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
    for name, steps in zip(program.link_names, edges, strict=True):
        if steps:
            times, which = np.unique([time for time, _ in steps], return_inverse=True)
            yield name, times, np.cumsum(np.bincount(which, weights=[step for _, step in steps]))


def memory_events(timeline: Timeline, rank: int, process: int) -> Iterator[dict[str, Any]]:
    """Yield the memory counter of a class of ranks [GB]."""
    times, held = memory_over_time(timeline, rank)
    for number, time in enumerate(times.tolist()):
        yield _counter("memory GB", process, time, {name: float(size[number]) / 1e9 for name, size in held.items()})


def link_events(timeline: Timeline, process: int) -> Iterator[dict[str, Any]]:
    """Yield the utilisation counters of all links [%]."""
    for name, times, shares in link_use(timeline):
        for time, share in zip(times.tolist(), shares.tolist(), strict=True):
            yield _counter(f"busy % {name}", process, time, {"busy": max(0.0, 100.0 * share)})


def _counter(name: str, process: int, time: float, values: dict[str, float]) -> dict[str, Any]:
    return {"ph": "C", "name": name, "pid": process, "tid": 0, "ts": round(1e6 * time, 3),
            "args": {key: round(value, 4) for key, value in values.items()}}

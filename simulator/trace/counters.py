"""Counters of a trace: memory over time by category, and how busy the links are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from simulator.report.series import link_use, memory_over_time
from simulator.timeline import Timeline
from simulator.trace.events import Event, micro


def memory_events(timeline: Timeline, rank: int, process: int) -> Iterator[Event]:
    """Yield the memory counter of a class of ranks [GB]."""
    times, held = memory_over_time(timeline, rank)
    for number, time in enumerate(times.tolist()):
        sizes = {name: float(size[number]) / 1e9 for name, size in held.items()}
        yield _counter("memory GB", process, time, sizes)


def link_events(timeline: Timeline, process: int) -> Iterator[Event]:
    """Yield the utilisation counters of all links [%]."""
    for name, _, times, shares in link_use(timeline):
        for time, share in zip(times.tolist(), shares.tolist(), strict=True):
            yield _counter(f"busy % {name}", process, time, {"busy": max(0.0, 100.0 * share)})


def _counter(name: str, process: int, time: float, values: Mapping[str, float]) -> Event:
    return {
        "ph": "C",
        "name": name,
        "pid": process,
        "tid": 0,
        "ts": micro(time),
        "args": {key: round(value, 4) for key, value in values.items()},
    }

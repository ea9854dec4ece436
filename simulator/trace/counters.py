"""Counters of a trace: memory over time by category, and how busy the links are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from simulator.report.series import link_use, memory_over_time
from simulator.timeline import Timeline
from simulator.trace.events import Event, micro


def memory_events(timeline: Timeline, rank: int, process: int) -> Iterator[Event]:
    """Yield the memory counter of a class of ranks [GB]."""
    times, held = memory_over_time(timeline, rank)
    # All categories in one event: the viewer stacks the values of a counter.
    columns = [size.tolist() for size in held.values()]  # [category][time] B
    for time, *sizes in zip(times.tolist(), *columns, strict=True):
        shown = [size / 1e9 for size in sizes]
        values = dict(zip(held, shown, strict=True))
        yield _counter("memory GB", process, time, values)


def link_events(timeline: Timeline, process: int) -> Iterator[Event]:
    """Yield the utilisation counters of all links [%]."""
    for name, _, times, shares in link_use(timeline):
        counter = f"busy % {name}"
        for time, share in zip(times.tolist(), shares.tolist(), strict=True):
            # Shares are sums of rates that come and go: rounding may leave one just below zero.
            percent = max(0.0, 100.0 * share)
            yield _counter(counter, process, time, {"busy": percent})


def _counter(name: str, process: int, time: float, values: Mapping[str, float]) -> Event:
    return {
        "ph": "C",
        "name": name,
        "pid": process,
        "tid": 0,
        "ts": micro(time),
        # Four digits are 0.1 MB of memory, and keep the file small.
        "args": {key: round(value, 4) for key, value in values.items()},
    }

"""Traces on disk: one file with all classes of ranks, or one file for each."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from simulator.errors import InputError
from simulator.store import check_writable, write_bytes
from simulator.timeline import Timeline
from simulator.trace.counters import link_events, memory_events
from simulator.trace.events import Event, Line, Writer, metadata
from simulator.trace.hosts import host_events

ENDINGS = (".json", ".json.gz")
RANK = "{rank}"
"""Stands for the rank in the name of a file."""


def check_target(text: str) -> Path:
    """Return where a trace goes. Errors: InputError on a file that no viewer would open or that cannot be written."""
    path = Path(text)
    # Asked of `os`, which takes a path that no folder can have for none.
    if os.path.isdir(path) or text.endswith("/"):  # noqa: PTH112
        check_writable(path / "trace.json")
        return path / f"rank-{RANK}.json.gz"
    if not path.name.endswith(ENDINGS):
        raise InputError(
            "is not a trace",
            value=path.name,
            remedy=f"End it in {' or '.join(ENDINGS)}, or name a folder for one file per class of ranks.",
        )
    check_writable(path)
    return path


def write(timeline: Timeline, path: Path) -> tuple[Path, ...]:
    """Write a timeline; return the files: one, or where the name holds {rank} one per class of ranks."""
    classes = range(timeline.program.ranks)
    if RANK not in path.name:
        trace = tree(timeline, classes, links=True)
        write_bytes(path, encode(trace, path))
        return (path,)
    paths = []
    # Links belong to no rank: files of ranks go without them, as those of a profiler do.
    for rank in classes:
        first = int(timeline.program.first_rank[rank])
        target = path.with_name(path.name.replace(RANK, f"{first:05d}"))
        trace = tree(timeline, [rank])
        write_bytes(target, encode(trace, target))
        paths.append(target)
    return tuple(paths)


def encode(trace: dict[str, Any], path: Path) -> bytes:
    """Return a trace as bytes, compressed if its name ends so; the same trace gives the same bytes."""
    # Tools that look for `"rank": 3` ask for the blank.
    text = json.dumps(
        trace,
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ": "),
    )
    # Half a surrogate pair, which UTF-8 has no bytes for, becomes an escape of JSON.
    plain = text.encode("utf-8", "backslashreplace")
    if path.suffix != ".gz":
        return plain
    return gzip.compress(plain, compresslevel=6, mtime=0)


def tree(timeline: Timeline, classes: Sequence[int], *, links: bool = False) -> dict[str, Any]:
    """Return the trace of some classes of ranks. links: with a process that has their counters."""
    scenario = timeline.program.scenario
    writer = Writer(timeline)
    return {
        "schemaVersion": 1,
        "distributedInfo": {
            "backend": "nccl",
            "rank": writer.rows.process(classes[0]),
            "world_size": scenario.topology.gpus,
        },
        "deviceProperties": [
            {
                "id": 0,
                "name": scenario.gpu.name.upper(),
                "totalGlobalMem": int(scenario.gpu.memory.capacity),
                "numSms": scenario.gpu.sms,
            }
        ],
        "displayTimeUnit": "ms",
        "traceName": f"{scenario.workload.name} on {scenario.topology.name}, one simulated step",
        "traceEvents": list(_events(timeline, writer, classes, links=links)),
    }


def _events(
    timeline: Timeline, writer: Writer, classes: Sequence[int], *, links: bool
) -> Iterator[Event]:
    for rank in classes:
        yield from writer.rank(rank)
        yield from host_events(timeline, rank)
        process = writer.rows.process(rank)
        yield from memory_events(timeline, rank, process)
    # After all ranks: an arrow needs the lines of both its ends.
    yield from writer.arrows()
    if links:
        yield from _links(timeline)


def _links(timeline: Timeline) -> Iterator[Event]:
    # Links belong to no rank: their process comes after those of all ranks.
    process = timeline.program.scenario.topology.gpus
    yield metadata("process_name", Line(process, 0), name="links")
    yield metadata("process_sort_index", Line(process, 0), sort_index=process)
    yield from link_events(timeline, process)

"""Kernels of a profile as columns, whether a GPU ran them or the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.errors import InputError
from simulator.program import STREAMS
from simulator.program.chunks import chunk
from simulator.schedules import Action
from simulator.timeline import Timeline
from simulator.trace.classes import classify

Floats = NDArray[np.float64]
CATEGORIES = ("kernel", "Kernel", "gpu_memcpy", "gpu_memset")
"""What a profiler calls that which runs on a GPU."""


@dataclass(frozen=True)
class Kernels:
    """What ran on one GPU.

    process: its name. stream, name, group: [kernel], group as `trace.classes` has it. start, end:
    [kernel] s. classes: class -> summed duration [s].
    """

    process: str
    stream: tuple[str, ...]
    name: tuple[str, ...]
    group: tuple[str, ...]
    start: Floats
    end: Floats
    classes: dict[str, float]


def of_tree(trace: Any, file: str) -> tuple[Kernels, ...]:
    """Return the kernels of each process of a profile that ran any. file: for messages. Errors: InputError."""
    events = trace.get("traceEvents") if isinstance(trace, dict) else trace
    if not isinstance(events, list):
        raise InputError(
            "has no list 'traceEvents'", file=file, remedy="Give what torch.profiler exports."
        )
    names: dict[Any, str] = {}
    rows: dict[Any, list[Mapping[str, Any]]] = {}
    for event in events:
        if not isinstance(event, dict):
            raise InputError("holds an event that is no group of keys", file=file, value=event)
        if event.get("name") == "process_name":
            names[event.get("pid")] = str(event.get("args", {}).get("name", ""))
        if event.get("ph") == "X" and event.get("cat") in CATEGORIES:
            rows.setdefault(event.get("pid"), []).append(event)
    if not rows:
        raise InputError(
            "holds no kernels",
            file=file,
            remedy="Profile with ProfilerActivity.CUDA, or give a trace that `simulate run` wrote.",
        )
    return tuple(
        _process(f"{names.get(pid) or 'process'} ({pid})", found, file)
        for pid, found in rows.items()
    )


def _process(name: str, events: list[Mapping[str, Any]], file: str) -> Kernels:
    try:
        stamps = np.array([float(event["ts"]) for event in events])
        start = (
            stamps - stamps.min()
        ) * 1e-6  # of an epoch in microseconds a float keeps no nanoseconds
        end = start + np.array([float(event["dur"]) for event in events]) * 1e-6
        names = tuple(str(event["name"]) for event in events)
        streams = tuple(
            str(event.get("args", {}).get("stream", event.get("tid"))) for event in events
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"holds a kernel without a valid {error}", file=file) from error
    classes: dict[str, float] = {}
    for kernel, seconds in zip(names, (end - start).tolist(), strict=True):
        label = classify(kernel)[0]
        classes[label] = classes.get(label, 0.0) + seconds
    groups = tuple(classify(kernel)[1] for kernel in names)
    return Kernels(name, streams, names, groups, start, end, classes)


def of_timeline(timeline: Timeline, name: str, action: str = "") -> Kernels:
    """Return the kernels of the first class of ranks. action: only those of its first action of this kind."""
    program = timeline.program
    wanted = next(
        (
            number
            for number, (rank, _, kind) in enumerate(program.actions)
            if (rank, kind) == (0, action)
        ),
        -1,
    )
    rows = np.flatnonzero((program.rank == 0) & ((program.action == wanted) | (not action)))
    labels = tuple(program.labels[label] for label in program.label[rows].tolist())
    streams = tuple(STREAMS[stream] for stream in program.stream[rows].tolist())
    groups = tuple(_group(timeline, row) for row in rows.tolist())
    start, end = timeline.start[rows], timeline.end[rows]
    classes = _compute(timeline, wanted) if action else dict(program.class_seconds[0])
    for group, seconds in zip(groups, (end - start).tolist(), strict=True):
        if group != "phase":
            classes[group] = classes.get(group, 0.0) + seconds
    transfers = rows[program.coflow[rows] >= 0]
    classes["waiting for peers"] = float(
        np.sum(timeline.start[transfers] - timeline.arrive[transfers])
    )
    shown = {label: seconds for label, seconds in classes.items() if seconds}
    return Kernels(name, streams, labels, groups, start, end, shown)


def _group(timeline: Timeline, row: int) -> str:
    program = timeline.program
    if program.coflow[row] < 0:
        return "phase"
    kind = program.coflows[program.coflow[row]].label[0]
    return {"dispatch": "dispatch", "cached_dispatch": "dispatch", "combine": "combine"}.get(
        kind, "collectives"
    )


def _compute(timeline: Timeline, number: int) -> dict[str, float]:
    """Return class of op -> seconds of one action of the first class of ranks."""
    program = timeline.program
    _, position, _ = program.actions[number]
    action: Action = program.schedule.ranks[program.pipeline_index(0)][position]
    return dict(chunk(action, program.costs).classes)

"""Kernels of a profile as columns, whether a GPU ran them or the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.kinds import CoflowKind
from simulator.errors import InputError
from simulator.ops.streams import Stream
from simulator.program import Program
from simulator.program.chunks import chunk
from simulator.schedules import Action
from simulator.timeline import Timeline
from simulator.trace.classes import classify

Floats = NDArray[np.float64]
Event = Mapping[str, Any]
"""An event of a profile."""
CATEGORIES = ("kernel", "Kernel", "gpu_memcpy", "gpu_memset")
"""What a profiler calls that which runs on a GPU."""
PHASE = "phase"
"""Group of the simulator's compute, which is not divided into kernels."""
EXCHANGES = {
    CoflowKind.DISPATCH: "dispatch",
    CoflowKind.CACHED_DISPATCH: "dispatch",
    CoflowKind.COMBINE: "combine",
}
"""Kind of a coflow -> group of its kernel, where it is not a collective."""


@dataclass(frozen=True)
class Kernels:
    """What ran on one GPU."""

    process: str
    """Name of the process."""
    stream: tuple[str, ...]
    """Stream of each kernel [kernel]."""
    name: tuple[str, ...]
    """Its name [kernel]."""
    group: tuple[str, ...]
    """What it does, as `trace.classes` groups it [kernel]."""
    start: Floats
    """When it starts [kernel] s."""
    end: Floats
    """When it ends [kernel] s."""
    classes: dict[str, float]
    """Class of kernels -> their durations, added up [s]."""


def of_tree(trace: Any, file: str) -> tuple[Kernels, ...]:
    """Return the kernels of each process of a profile that ran any. file: for messages. Errors: InputError."""
    names: dict[Any, str] = {}
    kernels: dict[Any, list[Event]] = {}
    for event in _events(trace, file):
        process = event.get("pid")
        if event.get("name") == "process_name":
            names[process] = str(event.get("args", {}).get("name", ""))
        if event.get("ph") == "X" and event.get("cat") in CATEGORIES:
            kernels.setdefault(process, []).append(event)
    if not kernels:
        raise InputError(
            "holds no kernels",
            file=file,
            remedy="Profile with ProfilerActivity.CUDA, or give a trace that `simulate run` wrote.",
        )
    return tuple(
        _process(f"{names.get(process) or 'process'} ({process})", events, file)
        for process, events in kernels.items()
    )


def _events(trace: Any, file: str) -> Iterator[Event]:
    """Yield the events of a profile. Errors: InputError."""
    events = trace.get("traceEvents") if isinstance(trace, dict) else trace
    if not isinstance(events, list):
        remedy = "Give what torch.profiler exports."
        raise InputError("has no list 'traceEvents'", file=file, remedy=remedy)
    for event in events:
        if not isinstance(event, dict):
            raise InputError("is an event that is not a group of keys", file=file, value=event)
        yield event


def _process(name: str, events: Sequence[Event], file: str) -> Kernels:
    """Return the kernels of one process. Errors: InputError where one lacks a name or a time."""
    try:
        stamps = np.array([float(event["ts"]) for event in events])
        lengths = np.array([float(event["dur"]) for event in events])
        names = tuple(str(event["name"]) for event in events)
        streams = tuple(map(_stream, events))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"holds a kernel without a valid {error}", file=file) from error
    # Microseconds of an epoch leave a float no digits for nanoseconds: count from the first kernel.
    start = (stamps - stamps.min()) * 1e-6
    end = start + lengths * 1e-6
    kinds = [classify(kernel) for kernel in names]
    classes: dict[str, float] = {}
    for (label, _), seconds in zip(kinds, (end - start).tolist(), strict=True):
        classes[label] = classes.get(label, 0.0) + seconds
    groups = tuple(group for _, group in kinds)
    return Kernels(name, streams, names, groups, start, end, classes)


def _stream(event: Event) -> str:
    """Return the stream of a kernel, its thread where the profiler names none."""
    return str(event.get("args", {}).get("stream", event.get("tid")))


def of_timeline(timeline: Timeline, name: str, action: str = "") -> Kernels:
    """Return the kernels of the first class of ranks. action: only those of its first action of this kind."""
    program = timeline.program
    chosen = program.rank == 0  # [op]
    classes = dict(program.class_seconds[0])
    if action:
        number = _first_action(program, action)
        chosen &= program.action == number
        classes = _compute(timeline, number)
    rows = np.flatnonzero(chosen)
    start, end = timeline.start[rows], timeline.end[rows]
    groups = tuple(_group(program, row) for row in rows.tolist())
    for group, seconds in zip(groups, (end - start).tolist(), strict=True):
        if group != PHASE:
            classes[group] = classes.get(group, 0.0) + seconds
    transfers = rows[program.coflow[rows] >= 0]
    waited = timeline.start[transfers] - timeline.arrive[transfers]
    classes["waiting for peers"] = float(np.sum(waited))
    return Kernels(
        process=name,
        stream=tuple(Stream(stream).label for stream in program.stream[rows].tolist()),
        name=tuple(program.labels[label] for label in program.label[rows].tolist()),
        group=groups,
        start=start,
        end=end,
        classes={label: seconds for label, seconds in classes.items() if seconds},
    )


def _first_action(program: Program, kind: str) -> int:
    """Return the first action of a kind of the first class of ranks, -1 if it has none."""
    for number, (rank, _, name) in enumerate(program.actions):
        if rank == 0 and name == kind:
            return number
    return -1


def _group(program: Program, row: int) -> str:
    """Return the group of a row: a phase of compute, or what its transfer does."""
    if program.coflow[row] < 0:
        return PHASE
    kind = program.coflows[program.coflow[row]].label.kind
    return EXCHANGES.get(kind, "collectives")


def _compute(timeline: Timeline, number: int) -> dict[str, float]:
    """Return class of op -> seconds of one action of the first class of ranks."""
    program = timeline.program
    _, position, _ = program.actions[number]
    action: Action = program.schedule.ranks[program.pipeline_index(0)][position]
    return dict(chunk(action, program.costs).classes)

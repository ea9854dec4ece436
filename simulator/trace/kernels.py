"""Kernels of a profile as columns, whether a GPU ran them or the simulator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.collectives.kinds import EXCHANGES
from simulator.errors import InputError
from simulator.ops.streams import Stream
from simulator.program import Program
from simulator.program.totals import action_seconds
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
            arguments = event.get("args", {})
            names[process] = str(arguments.get("name", ""))
        is_complete = event.get("ph") == "X"
        if is_complete and event.get("cat") in CATEGORIES:
            kernels.setdefault(process, []).append(event)
    if not kernels:
        raise InputError(
            "holds no kernels",
            file=file,
            remedy="Profile with ProfilerActivity.CUDA, or give a trace that `simulate run` wrote.",
        )
    profile = []
    for process, events in kernels.items():
        name = names.get(process) or "process"
        profile.append(_process(f"{name} ({process})", events, file))
    return tuple(profile)


def _events(trace: Any, file: str) -> Iterator[Event]:
    """Yield the events of a profile. Errors: InputError."""
    # The format allows the bare list as well.
    events = trace
    if isinstance(trace, dict):
        events = trace.get("traceEvents")
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
        stamps = np.array([float(event["ts"]) for event in events])  # [kernel] us
        lengths = np.array([float(event["dur"]) for event in events])  # [kernel] us
        names = tuple(str(event["name"]) for event in events)
        streams = tuple(map(_stream, events))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"holds a kernel without a valid {error}", file=file) from error
    # Microseconds of an epoch leave a float no digits for nanoseconds: count from the first kernel.
    start = (stamps - stamps.min()) * 1e-6
    end = start + lengths * 1e-6
    kinds = [classify(kernel) for kernel in names]
    classes: dict[str, float] = {}
    durations = (end - start).tolist()
    for (label, _), seconds in zip(kinds, durations, strict=True):
        classes[label] = classes.get(label, 0.0) + seconds
    return Kernels(
        process=name,
        stream=streams,
        name=names,
        group=tuple(group for _, group in kinds),
        start=start,
        end=end,
        classes=classes,
    )


def _stream(event: Event) -> str:
    """Return the stream of a kernel, its thread where the profiler names none."""
    arguments = event.get("args", {})
    return str(arguments.get("stream", event.get("tid")))


def of_timeline(timeline: Timeline, name: str, action: str = "") -> Kernels:
    """Return the kernels of the first class of ranks. action: only those of its first action of this kind."""
    program = timeline.program
    chosen = program.rank == 0  # [op]
    # Rows of compute are whole phases; what kernels are in them, only the costs know.
    classes = dict(program.class_seconds[0])
    if action:
        number = _first_action(program, action)
        chosen &= program.action == number
        classes = _compute(timeline, number)
    rows = np.flatnonzero(chosen)  # [kernel] row
    start = timeline.start[rows]  # [kernel] s
    end = timeline.end[rows]  # [kernel] s
    groups = tuple(_group(program, row) for row in rows.tolist())
    durations = (end - start).tolist()
    for group, seconds in zip(groups, durations, strict=True):
        if group != PHASE:
            classes[group] = classes.get(group, 0.0) + seconds
    # Simulated transfers start when the last peer is there; a real kernel spins until then.
    transfers = rows[program.coflow[rows] >= 0]
    waited = timeline.start[transfers] - timeline.arrive[transfers]  # [transfer] s
    classes["waiting for peers"] = float(np.sum(waited))
    streams = program.stream[rows].tolist()
    labels = program.label[rows].tolist()
    return Kernels(
        process=name,
        stream=tuple(Stream(stream).label for stream in streams),
        name=tuple(program.labels[label] for label in labels),
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
    flow = program.coflows[program.coflow[row]]
    kind = flow.label.kind
    if kind not in EXCHANGES:
        return "collectives"
    return "combine" if kind.returns else "dispatch"


def _compute(timeline: Timeline, number: int) -> dict[str, float]:
    """Return class of op -> seconds of one action of the first class of ranks."""
    program = timeline.program
    _, position, _ = program.actions[number]
    order = program.schedule.ranks[program.pipeline_index(0)]
    action: Action = order[position]
    return action_seconds(action, program.costs)

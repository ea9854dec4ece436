"""A step's spans as columns that a page can draw."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from simulator.program import STREAMS
from simulator.timeline import Timeline
from simulator.trace.events import LANES, Writer

MOST = 200_000
"""Spans of one scene: about four megabytes. A step with more shows classes of ranks spread over all of them."""
TENTHS = 1e7
"""Units of the columns: a tenth of a microsecond."""
COLOURS = (
    # part of a label -> fill, ink on it; the first that fits
    ("attn(F)", "#0072B2", "#ffffff"),
    ("(F)", "#56B4E9", "#10202b"),
    ("attn(B)", "#00694d", "#ffffff"),
    ("(B)", "#35b48b", "#06251b"),
    ("(W)", "#CC79A7", "#2b0f20"),
    ("(I)", "#35b48b", "#06251b"),
    ("optimizer", "#6b7280", "#ffffff"),
)
TRANSFERS = {
    "Dispatch": ("#E69F00", "#2b1d00"),
    "Combine": ("#D55E00", "#ffffff"),
    "SendRecv": ("#F0E442", "#2b2900"),
}
"""kernel -> fill and ink; other collectives are brown"""
OTHER = ("#8C6D4F", "#ffffff")
LEGEND = (
    ("attention forward", "#0072B2"),
    ("MLP forward", "#56B4E9"),
    ("attention backward", "#00694d"),
    ("MLP backward", "#35b48b"),
    ("weight gradients", "#CC79A7"),
    ("optimizer", "#6b7280"),
    ("dispatch", "#E69F00"),
    ("combine", "#D55E00"),
    ("pipeline send", "#F0E442"),
    ("other collectives", "#8C6D4F"),
)


def scene(name: str, timeline: Timeline) -> dict[str, Any]:
    """Return one step: its ranks, their lanes, the spans of each lane sorted by start."""
    writer, program = Writer(timeline), timeline.program
    shown, labels = _labels(writer)
    actions, acts = _actions(writer)
    ranks = []
    for rank in chosen(timeline):
        rows = np.flatnonzero(program.rank == rank)
        lanes: defaultdict[int, list[int]] = defaultdict(list)
        for row, thread in writer.threads(rows.tolist()).items():
            lanes[thread].append(row)
        first, index = writer.process(rank), program.pipeline_index(rank)
        ranks.append(
            {
                "short": f"index {index}"
                if program.ranks <= program.scenario.layout.pp
                else f"rank {first}",
                "name": f"pipeline index {index}: rank {first}, stands for {int(program.multiplicity[rank]):,} GPUs",
                "lanes": [
                    _lane(timeline, thread, found, (labels, acts))
                    for thread, found in sorted(lanes.items())
                ],
            }
        )
    return {
        "name": name,
        "step": timeline.step_time,
        "labels": shown,
        "actions": actions,
        "ranks": ranks,
        "classes": program.ranks,
    }


def chosen(timeline: Timeline) -> list[int]:
    """Return the classes of ranks that a scene shows: all, or as many as MOST allows, spread evenly."""
    program = timeline.program
    count = min(program.ranks, max(1, program.ranks * MOST // max(1, len(program.rank))))
    return sorted({round(place) for place in np.linspace(0, program.ranks - 1, count).tolist()})


def _lane(
    timeline: Timeline, thread: int, found: list[int], codes: tuple[list[int], list[int]]
) -> dict[str, Any]:
    rows = np.array(found)[np.argsort(timeline.start[found], kind="stable")]
    start = np.round(timeline.start[rows] * TENTHS).astype(np.int64)
    end = np.round(timeline.end[rows] * TENTHS).astype(np.int64)
    wait = np.round((timeline.start[rows] - timeline.arrive[rows]) * TENTHS).astype(np.int64)
    lane = f" {thread % LANES + 1}" if thread % LANES else ""
    return {
        "name": STREAMS[thread // LANES] + lane,
        "start": np.diff(start, prepend=0).tolist(),
        "length": (end - start).tolist(),
        "wait": wait.tolist(),
        "label": [codes[0][row] for row in rows.tolist()],
        "action": [codes[1][row] for row in rows.tolist()],
    }


def _labels(writer: Writer) -> tuple[list[dict[str, str]], list[int]]:
    """Return the different labels with their colours, and the code of each row's."""
    codes: dict[tuple[str, str], int] = {}
    of_row = [
        codes.setdefault((writer.label(row), writer.kernel(row)), len(codes))
        for row in range(len(writer.begin))
    ]
    return [_coloured(text, kernel) for text, kernel in codes], of_row


def _coloured(text: str, kernel: str) -> dict[str, str]:
    fill, ink = TRANSFERS.get(kernel, OTHER)
    if not kernel:
        fill, ink = next(((fill, ink) for part, fill, ink in COLOURS if part in text), OTHER)
    return {"text": text, "colour": fill, "ink": ink}


def _actions(writer: Writer) -> tuple[list[str], list[int]]:
    codes: dict[str, int] = {}
    of_action = [
        codes.setdefault(str(writer.act(number) or "update"), len(codes))
        for number in range(len(writer.timeline.program.actions))
    ]
    return list(codes), [of_action[action] for action in writer.timeline.program.action.tolist()]

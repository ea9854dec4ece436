"""A step's spans as columns that a page can draw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.escapes import visible
from simulator.report.palette import darker, ink
from simulator.report.parts import CHUNK_KINDS, TRAFFIC_KINDS
from simulator.timeline import Timeline
from simulator.trace.rows import Rows, thread_name

Scene = dict[str, Any]
"""What the page draws, as JSON."""
Ints = NDArray[np.int64]

MOST = 200_000
"""Spans of one scene: about four megabytes. A step with more shows classes of ranks spread over all of them."""
TENTHS = 1e7
"""Units of the columns: a tenth of a microsecond."""
CHUNKS = {kind.name: kind for kind in CHUNK_KINDS}
TRAFFIC = {kind.name: kind for kind in TRAFFIC_KINDS}


class Legend(NamedTuple):
    """An entry of the timeline's legend."""

    text: str
    """What has the colour."""
    colour: str
    """Colour as #RRGGBB."""


@dataclass(frozen=True, slots=True)
class Codes:
    """Text of rows, each different one once."""

    texts: list[Any]
    """The different ones."""
    of_row: list[int]
    """Index into them [row]."""


def scene(name: str, timeline: Timeline) -> Scene:
    """Return one step: its ranks, their lanes, the spans of each lane sorted by start."""
    rows, program = Rows(timeline), timeline.program
    labels, actions = _labels(rows), _actions(rows)
    ranks = []
    for rank in chosen(timeline):
        lanes: defaultdict[int, list[int]] = defaultdict(list)
        own = np.flatnonzero(program.rank == rank)  # rows of this class
        for row, thread in rows.threads(own.tolist()).items():
            lanes[thread].append(row)
        drawn = []
        # By stream, then by lane: the order in which the page stacks them.
        for thread, rows_of_lane in sorted(lanes.items()):
            drawn.append(_lane(timeline, thread, rows_of_lane, labels, actions))
        ranks.append({**_rank_names(rows, rank), "lanes": drawn})
    return {
        "name": visible(name),
        "step": timeline.step_time,
        "labels": labels.texts,
        "actions": actions.texts,
        "ranks": ranks,
        "classes": program.ranks,
    }


def _rank_names(rows: Rows, rank: int) -> Scene:
    """Return what a class of ranks is called: on its button, and above its lanes."""
    program = rows.program
    first = rows.process(rank)
    index = program.pipeline_index(rank)
    # Where several classes share a pipeline index, only their first ranks tell them apart.
    unique = program.ranks <= program.scenario.layout.pp
    count = int(program.multiplicity[rank])
    return {
        "short": f"index {index}" if unique else f"rank {first}",
        "name": f"pipeline index {index}: rank {first}, stands for {count:,} GPUs",
    }


def chosen(timeline: Timeline) -> list[int]:
    """Return the classes of ranks that a scene shows: all, or as many as MOST allows, spread evenly."""
    program = timeline.program
    # Classes have about as many rows each, so a share of them has that share of the spans.
    spans = max(1, len(program.rank))
    allowed = max(1, program.ranks * MOST // spans)
    count = min(program.ranks, allowed)
    spread = np.linspace(0, program.ranks - 1, count)
    return sorted({round(rank) for rank in spread.tolist()})


def _lane(
    timeline: Timeline, thread: int, rows: Sequence[int], labels: Codes, actions: Codes
) -> Scene:
    """Return the spans of a thread as columns: starts as differences, which take fewer digits."""
    by_start = np.argsort(timeline.start[rows], kind="stable")  # [span]
    order = np.array(rows)[by_start]  # [span] row
    waited = timeline.start[order] - timeline.arrive[order]  # [span] s
    start = _tenths(timeline.start[order])  # [span] 0.1 us
    # Ends are rounded, not lengths, so that neighbours do not overlap.
    end = _tenths(timeline.end[order])
    return {
        "name": thread_name(thread),
        "start": np.diff(start, prepend=0).tolist(),
        "length": (end - start).tolist(),
        "wait": _tenths(waited).tolist(),
        "label": [labels.of_row[row] for row in order.tolist()],
        "action": [actions.of_row[row] for row in order.tolist()],
    }


def _tenths(seconds: NDArray[np.float64]) -> Ints:
    rounded: Ints = np.round(seconds * TENTHS).astype(np.int64)
    return rounded


def _labels(rows: Rows) -> Codes:
    """Return the different labels with their colours."""
    codes: dict[tuple[str, str], int] = {}
    of_row = []
    for row in range(len(rows)):
        key = (rows.label(row), colour(rows, row))
        of_row.append(codes.setdefault(key, len(codes)))
    texts = [{"text": text, "colour": fill, "ink": ink(fill)} for text, fill in codes]
    return Codes(texts, of_row)


def colour(rows: Rows, row: int) -> str:
    """Return the colour of a row: that of its traffic, or of the kind of chunk that it computes for.

    Attention is darker than the MLP, combine darker than dispatch.
    """
    flow = rows.coflow(row)
    label = rows.label(row)
    if flow >= 0:
        fill = TRAFFIC[rows.program.coflows[flow].traffic].colour
        return darker(fill) if rows.kernel(row) == "Combine" else fill
    for kind in ("F", "B", "I", "W"):
        if f"({kind})" in label:
            fill = CHUNKS[kind].colour
            return darker(fill) if label.startswith("attn") else fill
    return CHUNKS["update"].colour


def legend() -> list[Legend]:
    """Return what the timeline's colours mean."""
    shown = [CHUNKS[name] for name in ("F", "B", "I", "W", "update")]
    chunks = [Legend(kind.text, kind.colour) for kind in shown]
    # Expert traffic is one kind, of which the timeline shows two: see `colour`.
    fill = TRAFFIC["expert"].colour
    experts = [Legend("dispatch", fill), Legend("combine", darker(fill))]
    others = [kind for kind in TRAFFIC_KINDS if kind.name != "expert"]
    rest = [Legend(kind.text, kind.colour) for kind in others]
    return [*chunks, *experts, *rest]


def _actions(rows: Rows) -> Codes:
    codes: dict[str, int] = {}
    of_row = []
    for row in range(len(rows)):
        text = str(rows.action(row) or "update")
        of_row.append(codes.setdefault(text, len(codes)))
    return Codes(list(codes), of_row)

"""One training step over time: what every class of ranks computes and sends, above where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simulator.plot.canvas import PAGE, Sheet, opened, swatch
from simulator.plot.steps import caption, draw_parts
from simulator.program import Program
from simulator.report import Report
from simulator.report.parts import CHUNK_KINDS, HOST_LANE, TRAFFIC_KINDS, TrafficKind
from simulator.timeline import Intervals, Timeline, union

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
MOST_RANKS = 64
"""Classes of ranks that are drawn; of more, as many spread evenly."""
BINS = 1000
"""Spans of a step over which a lane's transfers are averaged: about as many as a page has pixels."""
FLOOR = 0.35
"""Height of a lane with next to nothing in flight, of its full height."""
BAR = 0.44
"""Height of a bar of chunks, of the distance between two classes of ranks."""
LANES = 0.44
"""Height of all lanes of transfers together, likewise."""


def step(timeline: Timeline, report: Report, path: Path) -> None:
    """Draw the pipeline of one step with a lane for each kind of traffic, above the parts of its time."""
    ranks = drawn_ranks(timeline.program)
    kinds = carried(timeline.program)
    # A bar of chunks as high as a line of text, and six points for each lane below it.
    of_rank = 0.26 + 0.085 * len(kinds)
    height = of_rank * len(ranks) + 0.9
    options = {"height_ratios": [height, 0.95]}
    sheet = Sheet(
        PAGE,
        height + 1.75,
        rows=2,
        options=options,
    )
    with opened(path, sheet) as (figure, [lanes, parts]):
        _draw_lanes(lanes, timeline, ranks, kinds)
        draw_parts(parts, [report])
        figure.suptitle(caption(report), fontsize=9)


def drawn_ranks(program: Program) -> list[int]:
    """Return the classes of ranks that are drawn: all, or MOST_RANKS of them spread evenly."""
    count = min(program.ranks, MOST_RANKS)
    spread = np.linspace(0, program.ranks - 1, count)
    return sorted({round(rank) for rank in spread.tolist()})


def carried(program: Program) -> list[TrafficKind]:
    """Return the kinds of traffic that a program has any of, and hosts where launching takes time."""
    names = {flow.traffic for flow in program.coflows}
    kinds = [kind for kind in TRAFFIC_KINDS if kind.name in names]
    return [*kinds, HOST_LANE] if program.host.any() else kinds


def busy_share(timeline: Timeline, rank: int, traffic: str) -> Floats:
    """Return the share of each of BINS equal spans of a step in which a rank has transfers in flight [bin].

    traffic: their kind; of `HOST_LANE` the share in which its host launches something.
    """
    start, end = _busy(timeline, rank, traffic)
    # The busy time so far rises only inside of intervals: linear between their ends.
    times = np.column_stack([start, end]).ravel()  # [start or end] s
    nothing = np.zeros(len(start))
    gained = np.column_stack([nothing, end - start])  # [interval, 2] s
    busy = np.cumsum(gained.ravel())  # [start or end] s
    edges = np.linspace(0.0, timeline.step_time, BINS + 1)
    so_far = np.zeros(len(edges))  # [edge] s
    if len(times):
        so_far = np.interp(edges, times, busy)
    shares: Floats = np.diff(so_far) / np.diff(edges)
    return shares


def _busy(timeline: Timeline, rank: int, traffic: str) -> Intervals:
    """Return when a rank has transfers of a kind in flight, or its host launches."""
    program = timeline.program
    own = program.rank == rank  # [op]
    if traffic == HOST_LANE.name:
        rows = np.flatnonzero(own & (program.host > 0))
        issue = timeline.issue[rows]
        return union(issue, issue + program.host[rows])
    # -1, "no transfer", reads the last item.
    carries = [flow.traffic == traffic for flow in program.coflows]
    of_kind = np.array([*carries, False])  # [coflow]
    rows = np.flatnonzero(own & of_kind[program.coflow])
    return union(timeline.start[rows], timeline.end[rows])


def _draw_lanes(
    axes: Axes, timeline: Timeline, ranks: Sequence[int], kinds: Sequence[TrafficKind]
) -> None:
    # First, for what is drawn must not widen the axis beyond the step.
    axes.set_xlim(0, timeline.step_time)
    axes.autoscale(enable=False)
    # From the top of a row: the bar of chunks, a gap, then a lane for each kind, a fifth of it free.
    for row, rank in enumerate(ranks):
        _draw_chunks(axes, timeline, rank, row - 0.46)
        for number, kind in enumerate(kinds):
            height = LANES / len(kinds)
            first = row - 0.46 + BAR + 0.03
            top = first + number * height
            shares = busy_share(timeline, rank, kind.name)
            _draw_traffic(axes, kind, shares, top, 0.8 * height)
    program = timeline.program
    rank_names = [_rank_name(program, rank) for rank in ranks]
    axes.set_yticks(range(len(ranks)), rank_names, fontsize=6.5)
    # From above, as a pipeline is read.
    axes.set_ylim(len(ranks) - 0.4, -0.6)
    axes.set_xlabel(_time_label(program, ranks), fontsize=7.5)
    axes.tick_params(labelsize=7)
    axes.tick_params(axis="y", length=0)
    _legend(axes, program, kinds)


def _time_label(program: Program, ranks: Sequence[int]) -> str:
    shown = "time [s]; height of a lane: share of the time with transfers in flight, or launches"
    if len(ranks) == program.ranks:
        return shown
    count = f"{len(ranks)} of {program.ranks}"
    return f"{shown}; {count} classes of ranks"


def _draw_chunks(axes: Axes, timeline: Timeline, rank: int, top: float) -> None:
    spans = _chunk_spans(timeline)
    actions = timeline.program.actions
    # By kind, so that all bars of a colour are one object of the figure.
    for kind in CHUNK_KINDS:
        bars: list[tuple[float, float]] = []  # start and length, as matplotlib takes them
        for (owner, _, name), (first, last) in zip(actions, spans, strict=True):
            is_chosen = owner == rank and name == kind.name
            if is_chosen and last > first:
                bars.append((first, last - first))
        if not bars:
            continue
        # A white edge sets chunks apart, but would drown colours of bars that are hardly wider.
        lengths = [length for _, length in bars]
        typical = float(np.median(lengths))
        points = 72.0 * 0.8 * PAGE * typical / timeline.step_time
        edge = 0.3 if points > 2.5 else 0.0
        axes.broken_barh(
            bars,
            (top, BAR),
            facecolors=kind.colour,
            edgecolor="white",
            linewidth=edge,
        )


def _chunk_spans(timeline: Timeline) -> list[tuple[float, float]]:
    """Return when the first kernel of each action starts and the last one ends [action] s."""
    program = timeline.program
    # Communication is drawn in the lanes: an action's bar is as long as it computes.
    kernels = program.coflow < 0  # [op]
    actions = program.action[kernels]  # [kernel]
    # An action without kernels keeps an end before its start, and is not drawn.
    first = np.full(len(program.actions), np.inf)
    last = np.full(len(program.actions), -np.inf)
    np.minimum.at(first, actions, timeline.start[kernels])
    np.maximum.at(last, actions, timeline.end[kernels])
    return list(zip(first.tolist(), last.tolist(), strict=True))


def _draw_traffic(axes: Axes, kind: TrafficKind, shares: Floats, top: float, height: float) -> None:
    """Draw a lane: as high as the share of the time in which transfers are in flight, but never invisible."""
    _, step_time = axes.get_xlim()
    edges = np.linspace(0.0, step_time, len(shares) + 1)
    raised = FLOOR + (1.0 - FLOOR) * shares
    visible = np.where(shares > 0.0, raised, 0.0)  # [bin], of the lane's height
    # The axis points down: a lane stands on its bottom and grows to smaller numbers.
    bottom = top + height
    axes.stairs(
        bottom - height * visible,
        edges,
        baseline=bottom,
        fill=True,
        color=kind.colour,
        linewidth=0,
    )


def _legend(axes: Axes, program: Program, kinds: Sequence[TrafficKind]) -> None:
    """Explain the colours above the panel: chunks in the first row, traffic in the second."""
    used = {name for _, _, name in program.actions}
    shown = [kind for kind in CHUNK_KINDS if kind.name in used]
    chunks = [swatch(kind.colour, kind.text) for kind in shown]
    traffic = [swatch(kind.colour, kind.text) for kind in kinds]
    # A legend is filled column by column; where a row is shorter, nothing stands in its column.
    columns = zip_longest(chunks, traffic, fillvalue=swatch("none", ""))
    axes.legend(
        handles=list(chain.from_iterable(columns)),
        fontsize=6.5,
        ncols=max(len(chunks), len(traffic)),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
        handlelength=1.3,
        columnspacing=1.4,
    )


def _rank_name(program: Program, rank: int) -> str:
    index = program.pipeline_index(rank)
    hosted: set[int] = set()
    for action in program.schedule.ranks[index]:
        hosted.update(stage for _, _, stage in action.halves())
    stages = sorted(hosted)
    # Interleaved stages are evenly spaced: the first two and the last one say which they are.
    shown = [str(stage) for stage in stages]
    if len(shown) > 3:
        shown = [*shown[:2], "...", shown[-1]]
    word = "stage" if len(stages) == 1 else "stages"
    gpus = program.multiplicity[rank]
    return f"{word} {', '.join(shown)}\n{gpus:,} GPUs"

"""One training step as lanes and parts, and several beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simulator.compare import names
from simulator.errors import InputError
from simulator.program import STREAMS
from simulator.report import Report
from simulator.report.palette import ink
from simulator.report.parts import CHUNK_KINDS, PARTS
from simulator.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
CHUNK_COLOURS = {kind.name: kind.colour for kind in CHUNK_KINDS}
CHUNK_NAMES = {kind.name: kind.text for kind in CHUNK_KINDS}


def check_format(path: Path) -> None:
    """Refuse a figure whose ending is no image format. Errors: InputError."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(
            "is no image format",
            key="--plot",
            value=path.name,
            remedy=f"End it in {', '.join(FORMATS)}.",
        )


def step(timeline: Timeline, report: Report, path: Path) -> None:
    """Draw the pipeline of one step, with its communication lanes, over the parts that it spends its time on."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "simulate"  # else SVG's ids are random
    import matplotlib.pyplot as plt

    figure, (lanes, parts) = plt.subplots(
        2,
        1,
        figsize=(7.2, 0.42 * timeline.program.ranks + 3.2),
        layout="constrained",
        height_ratios=[0.42 * timeline.program.ranks + 1.0, 1.6],
    )
    _lanes(lanes, timeline)
    _parts(parts, [report])
    figure.suptitle(caption(report), fontsize=9)
    figure.savefig(path, dpi=160, metadata=metadata(path))
    plt.close(figure)


def comparison(reports: Sequence[Report], path: Path) -> None:
    """Draw the parts of several steps as stacked bars."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "simulate"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 1.6 + 0.5 * len(reports)), layout="constrained")
    _parts(axes, reports)
    figure.suptitle(
        f"One step of {', '.join(dict.fromkeys(r.scenario.workload.name for r in reports))}",
        fontsize=9,
    )
    figure.savefig(path, dpi=160, metadata=metadata(path))
    plt.close(figure)


def metadata(path: Path) -> dict[str, str | None]:
    """Return what is written into a figure's file beside the figure."""
    # The same figure gives the same bytes: no date of making.
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower(), {})  # type: ignore[return-value]


def caption(report: Report) -> str:
    """Return the scenario of a step in one line."""
    scenario = report.scenario
    return (
        f"{scenario.workload.name} on {scenario.topology.name}: {scenario.topology.gpus} GPUs, "
        f"{scenario.workload.schedule.name}, step {report.step_time:.2f} s, {scenario.micro_batches} micro-batches"
    )


def _lanes(axes: Axes, timeline: Timeline) -> None:
    program = timeline.program
    starts, ends = _spans(timeline)
    for rank in range(program.ranks):
        for kind, colour in CHUNK_COLOURS.items():
            chosen = [
                i
                for i, action in enumerate(program.actions)
                if action[0] == rank and action[2] == kind
            ]
            bars = [(starts[i], ends[i] - starts[i]) for i in chosen if ends[i] > starts[i]]
            axes.broken_barh(
                bars, (rank - 0.4, 0.52), facecolors=colour, edgecolor="white", linewidth=0.15
            )
        talk = (
            (program.rank == rank)
            & (program.coflow >= 0)
            & (program.stream == STREAMS.index("communication"))
        )
        bars = list(zip(timeline.start[talk], (timeline.end - timeline.start)[talk], strict=True))
        axes.broken_barh(bars, (rank + 0.14, 0.2), facecolors="#333333", linewidth=0)
    axes.set_yticks(
        range(program.ranks),
        [_rank_name(timeline, rank) for rank in range(program.ranks)],
        fontsize=7,
    )
    axes.invert_yaxis()
    axes.set_xlim(0, timeline.step_time)
    axes.set_xlabel("time [s]", fontsize=8)
    axes.tick_params(labelsize=7)
    used = {action[2] for action in program.actions}
    handles = [
        _patch(colour, CHUNK_NAMES[kind]) for kind, colour in CHUNK_COLOURS.items() if kind in used
    ]
    handles.append(_patch("#333333", "expert and pipeline communication"))
    axes.legend(
        handles=handles,
        fontsize=6.5,
        ncols=4,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
    )


def _spans(timeline: Timeline) -> tuple[list[float], list[float]]:
    program = timeline.program
    kernels = program.coflow < 0
    first = np.full(len(program.actions), np.inf)
    last = np.full(len(program.actions), -np.inf)
    np.minimum.at(first, program.action[kernels], timeline.start[kernels])
    np.maximum.at(last, program.action[kernels], timeline.end[kernels])
    return first.tolist(), last.tolist()


def _rank_name(timeline: Timeline, rank: int) -> str:
    program = timeline.program
    index = program.pipeline_index(rank)
    stages = sorted(
        {stage for action in program.schedule.ranks[index] for _, _, stage in action.halves()}
    )
    return f"stage {' + '.join(str(stage) for stage in stages)}\n{program.multiplicity[rank]} GPUs"


def _parts(axes: Axes, reports: Sequence[Report]) -> None:
    labels = names(reports)
    left = np.zeros(len(reports))
    for part in PARTS:
        values = np.array([report.breakdown.get(part.name, 0.0) for report in reports])
        if values.max() < 1e-4 * max(report.step_time for report in reports):
            continue
        axes.barh(
            labels,
            values,
            left=left,
            color=part.colour,
            label=part.text,
            edgecolor="white",
            height=0.6,
        )
        for row, value in enumerate(values):
            if value > 0.06 * left.max() and value > 0.04 * reports[row].step_time:
                axes.text(
                    left[row] + value / 2,
                    row,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color=ink(part.colour),
                )
        left += values
    axes.invert_yaxis()
    axes.set_xlabel("exposed time in a step, mean over ranks [s]", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6.5, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _patch(colour: str, label: str) -> object:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, label=label)

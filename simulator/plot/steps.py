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
from simulator.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, told apart by most colour-blind readers.
CHUNK_COLOURS = {
    "F": "#E69F00",
    "B": "#009E73",
    "I": "#56B4E9",
    "W": "#0072B2",
    "FB": "#CC79A7",
    "update": "#666666",
}
CHUNK_NAMES = {
    "F": "forward",
    "B": "full backward",
    "I": "input gradient",
    "W": "weight gradient",
    "FB": "overlapped pair",
    "update": "optimizer",
}
PART_COLOURS = {
    "gemm": "#0072B2",
    "attention": "#56B4E9",
    "memory_bound": "#009E73",
    "kernel_gaps": "#F0E442",
    "optimizer": "#666666",
    "expert_waiting": "#8C510A",
    "expert_exposed": "#D55E00",
    "tensor_exposed": "#542788",
    "context_exposed": "#998EC3",
    "pipeline_exposed": "#E69F00",
    "data_exposed": "#CC79A7",
    "bubble": "#DDDDDD",
}


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
    for part, colour in PART_COLOURS.items():
        values = np.array([report.breakdown.get(part, 0.0) for report in reports])
        if values.max() < 1e-4 * max(report.step_time for report in reports):
            continue
        axes.barh(
            labels,
            values,
            left=left,
            color=colour,
            label=part.replace("_", " "),
            edgecolor="white",
            height=0.6,
        )
        for row, value in enumerate(values):
            if value > 0.06 * left.max() and value > 0.04 * reports[row].step_time:
                dark = colour in ("#0072B2", "#D55E00", "#009E73", "#666666", "#8C510A")
                axes.text(
                    left[row] + value / 2,
                    row,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color="white" if dark else "black",
                )
        left += values
    axes.invert_yaxis()
    axes.set_xlabel("exposed time in a step, mean over ranks [s]", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6.5, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _patch(colour: str, label: str) -> object:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour, label=label)

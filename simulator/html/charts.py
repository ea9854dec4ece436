"""Charts as plotly describes them: data and layout, without colours of the theme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simulator.compare import names
from simulator.html.blocks import label
from simulator.plot import MEMORY_COLOURS
from simulator.report import Report
from simulator.report.overlap import Overlap
from simulator.report.palette import GREEN, SERIES, VERMILLION
from simulator.report.parts import PARTS
from simulator.report.series import memory_over_time
from simulator.timeline import Timeline

Chart = dict[str, Any]
"""What plotly draws, or one of its traces, as JSON."""

DASHES = ("solid", "dash", "dot", "dashdot")
TALL = 340
"""Height of a chart that stands next to another [px]."""
MOST_LABELS = 16
"""Numbers along an axis of pipeline indices."""
NARROW = 1e-4
"""A part below this share of the longest step is not drawn."""


def chart(traces: list[Chart], height: int, **layout: Any) -> Chart:
    """Return a chart of some height [px] with the margins and the legend that all have."""
    margin = {"l": 10, "r": 16, "t": 10, "b": 44}
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    common = {"height": height, "margin": margin, "legend": legend}
    return {"data": traces, "layout": {**common, **layout}}


def title(text: str) -> Chart:
    """Return the title of an axis. text: from input, or not."""
    return {"title": {"text": label(text)}}


def breakdown(reports: Sequence[Report]) -> Chart:
    """Return where the step goes: stacked bars, a bar per report."""
    longest = max(report.step_time for report in reports)
    labels = [label(name) for name in names(reports)]
    traces = []
    for part in PARTS:
        values = [report.breakdown.get(part.name, 0.0) for report in reports]
        if max(values) < NARROW * longest:
            continue
        shares = []  # [report] %
        for value, report in zip(values, reports, strict=True):
            shares.append(100.0 * value / report.step_time)
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": part.text,
                "y": labels,
                "x": values,
                "customdata": shares,
                "marker": {"color": part.colour},
                "hovertemplate": "%{fullData.name}: %{x:.4g} s, %{customdata:.1f}% of the step"
                f"<extra>{label(part.meaning)}</extra>",
            }
        )
    return chart(
        traces,
        130 + 46 * len(reports),
        barmode="stack",
        bargap=0.35,
        xaxis=title("exposed time in a step, mean over ranks [s]"),
        yaxis={
            "autorange": "reversed",
            "showticklabels": len(reports) > 1,
            "type": "category",  # a name that is a number stays a name
        },
    )


def bounds(reports: Sequence[Report]) -> Chart:
    """Return the step next to its lower bounds, a colour per report."""
    traces: list[Chart] = []
    for name, report in zip(names(reports), reports, strict=True):
        # Colours begin again after the last: names tell so many reports apart.
        colour = SERIES[len(traces) % len(SERIES)]
        traces.append(_bounds_of(report, name, colour))
    return chart(
        traces,
        190 + 60 * len(reports),
        barmode="group",
        showlegend=len(reports) > 1,
        xaxis=title("no step can be shorter [s]"),
        yaxis={"autorange": "reversed"},
    )


def _bounds_of(report: Report, name: str, colour: str) -> Chart:
    bounds_ = report.bounds
    seconds = [report.step_time, *(bound.seconds for bound in bounds_)]
    formulas = ["simulated", *(bound.formula for bound in bounds_)]
    return {
        "type": "bar",
        "orientation": "h",
        "name": label(name),
        "y": ["step", *(bound.name for bound in bounds_)],
        "x": seconds,
        "text": [label(formula) for formula in formulas],
        "textposition": "none",
        "customdata": [100.0 * value / report.step_time for value in seconds],
        "marker": {"color": colour},
        "hovertemplate": "%{y}: %{x:.4g} s, %{customdata:.0f}% of the step<br>%{text}"
        "<extra>%{fullData.name}</extra>",
    }


def memory_by_stage(report: Report) -> Chart:
    """Return peak memory of each pipeline index by category, and what the GPU has."""
    indices = [rank.pipeline_index for rank in report.memory]
    traces: list[Chart] = [
        {
            "type": "bar",
            "name": name,
            "x": indices,
            "y": [rank.by_category[name] / 1e9 for rank in report.memory],
            "marker": {"color": colour},
            "hovertemplate": f"{name}: %{{y:.2f}} GB<extra>pipeline index %{{x}}</extra>",
        }
        for name, colour in MEMORY_COLOURS.items()
    ]
    capacity = report.scenario.gpu.memory.capacity / 1e9
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "capacity",
            "x": [indices[0] - 0.5, indices[-1] + 0.5],
            "y": [capacity, capacity],
            "line": {"color": VERMILLION, "dash": "dash", "width": 2},
            "hovertemplate": "capacity: %{y:.2f} GB<extra></extra>",
        }
    )
    # Whole indices only, and no more than fit.
    step = max(1, round(len(indices) / MOST_LABELS))
    return chart(
        traces,
        TALL,
        barmode="stack",
        xaxis={**title("pipeline index"), "dtick": step},
        yaxis=title("peak memory [GB]"),
    )


def memory_lines(timeline: Timeline) -> Chart:
    """Return kept activations over the step, a line per class of ranks."""
    ranks = timeline.program.ranks
    # More lines than two rounds of colours, told apart by their dashes, nobody can follow.
    drawn = min(ranks, 2 * len(SERIES))
    traces = [_memory_line(timeline, rank) for rank in range(drawn)]
    return chart(
        traces,
        TALL,
        showlegend=1 < ranks <= len(SERIES),
        hovermode="closest",
        xaxis=title("time in the step [s]"),
        yaxis=title("kept activations [GB]"),
    )


def _memory_line(timeline: Timeline, rank: int) -> Chart:
    times, held = memory_over_time(timeline, rank)
    activations = held["activations"]  # [time] B
    line = {
        "shape": "hv",
        "width": 1.3,
        "color": SERIES[rank % len(SERIES)],
        "dash": DASHES[rank // len(SERIES) % len(DASHES)],
    }
    return {
        "type": "scatter",
        "mode": "lines",
        "line": line,
        "name": f"pipeline index {timeline.program.pipeline_index(rank)}",
        # Microseconds and 0.1 MB are as fine as anybody sees, and keep the page small.
        "x": [round(time, 6) for time in times.tolist()],
        "y": [round(size / 1e9, 4) for size in activations.tolist()],
        "hovertemplate": "%{y:.2f} GB at %{x:.4g} s<extra>%{fullData.name}</extra>",
    }


def overlap(report: Report) -> Chart:
    """Return communication of each class of ranks: hidden by compute, and not."""
    classes = report.overlap
    hidden = [ranks.hidden for ranks in classes]  # [class] s
    exposed = [ranks.communication - ranks.hidden for ranks in classes]  # [class] s
    return chart(
        [
            _overlap_bar("hidden by compute", GREEN, classes, hidden),
            _overlap_bar("exposed", VERMILLION, classes, exposed),
        ],
        TALL,
        barmode="stack",
        xaxis={**title("pipeline index"), "type": "category"},
        yaxis=title("communication in a step [s]"),
    )


def _overlap_bar(
    name: str, colour: str, classes: Sequence[Overlap], seconds: Sequence[float]
) -> Chart:
    """Return one part of the communication of each class of ranks. seconds: [class] s."""
    shares = []  # [class] %
    for ranks, value in zip(classes, seconds, strict=True):
        # A class that sends nothing has no share to divide.
        share = 0.0
        if ranks.communication:
            share = 100.0 * value / ranks.communication
        shares.append(share)
    return {
        "type": "bar",
        "name": name,
        "x": _class_labels(classes),
        "y": list(seconds),
        "marker": {"color": colour},
        "customdata": shares,
        "hovertemplate": f"{name}: %{{y:.4g}} s, %{{customdata:.1f}}% of communication"
        "<extra>pipeline index %{x}</extra>",
    }


def _class_labels(classes: Sequence[Overlap]) -> list[str]:
    """Return the pipeline index of each class of ranks, with a rank where several classes share one."""
    # GPUs of different speeds, or several columns of a pipeline, make several classes of one index.
    indices = [ranks.pipeline_index for ranks in classes]
    if len(set(indices)) == len(indices):
        return [f"{index}" for index in indices]
    return [f"{ranks.pipeline_index}: rank {ranks.rank}" for ranks in classes]


def links(report: Report) -> Chart:
    """Return how busy the busiest link of each kind is."""
    shares = report.utilisation
    traces: list[Chart] = [
        {
            "type": "bar",
            "x": list(shares),
            "y": [100.0 * share for share in shares.values()],
            "marker": {"color": SERIES[0]},
            "hovertemplate": "%{x}: %{y:.1f}% of the step<extra></extra>",
        }
    ]
    return chart(
        traces,
        TALL,
        showlegend=False,
        xaxis=title("busiest link of each kind"),
        yaxis={**title("busy [% of the step]"), "range": [0, 100]},
    )

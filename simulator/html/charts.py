"""Charts as plotly describes them: data and layout, without colours of the theme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simulator.compare import names
from simulator.plot import MEMORY_COLOURS
from simulator.report import Report
from simulator.report.palette import GREEN, SERIES, VERMILLION
from simulator.report.parts import PARTS
from simulator.report.series import memory_over_time
from simulator.timeline import Timeline

Chart = dict[str, Any]
DASHES = ("solid", "dash", "dot", "dashdot")


def chart(data: list[Chart], height: int, **layout: Any) -> Chart:
    """Return a chart of some height [px] with the margins and the legend that all have."""
    margin = {"l": 10, "r": 16, "t": 10, "b": 44}
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    return {
        "data": data,
        "layout": {"height": height, "margin": margin, "legend": legend, **layout},
    }


def breakdown(reports: Sequence[Report]) -> Chart:
    """Return where the step goes: stacked bars, a bar per report."""
    most = max(report.step_time for report in reports)
    data = []
    for part in PARTS:
        values = [report.breakdown.get(part.name, 0.0) for report in reports]
        if max(values) < 1e-4 * most:
            continue
        shares = [
            100.0 * value / report.step_time for value, report in zip(values, reports, strict=True)
        ]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": part.text,
                "y": list(names(reports)),
                "x": values,
                "customdata": shares,
                "marker": {"color": part.colour},
                "hovertemplate": "%{fullData.name}: %{x:.4g} s, %{customdata:.1f}% of the step<extra></extra>",
            }
        )
    return chart(
        data,
        130 + 46 * len(reports),
        barmode="stack",
        bargap=0.35,
        xaxis={"title": {"text": "exposed time in a step, mean over ranks [s]"}},
        yaxis={"autorange": "reversed", "showticklabels": len(reports) > 1},
    )


def bounds(reports: Sequence[Report]) -> Chart:
    """Return the step beside its lower bounds, a colour per report."""
    data = []
    for number, (name, report) in enumerate(zip(names(reports), reports, strict=True)):
        rows = [("step", report.step_time, "simulated")]
        rows += [(bound.name, bound.seconds, bound.formula) for bound in report.bounds]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": name,
                "y": [row[0] for row in rows],
                "x": [row[1] for row in rows],
                "text": [row[2] for row in rows],
                "textposition": "none",
                "customdata": [100.0 * row[1] / report.step_time for row in rows],
                "marker": {"color": SERIES[number % len(SERIES)]},
                "hovertemplate": "%{y}: %{x:.4g} s, %{customdata:.0f}% of the step<br>%{text}"
                "<extra>%{fullData.name}</extra>",
            }
        )
    return chart(
        data,
        150 + 60 * len(reports) + 40,
        barmode="group",
        showlegend=len(reports) > 1,
        xaxis={"title": {"text": "no step can be shorter [s]"}},
        yaxis={"autorange": "reversed"},
    )


def memory_by_stage(report: Report) -> Chart:
    """Return peak memory of each pipeline index by category, and what the GPU has."""
    indices = [rank.pipeline_index for rank in report.memory]
    data: list[Chart] = [
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
    data.append(
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
    return chart(
        data,
        340,
        barmode="stack",
        xaxis={"title": {"text": "pipeline index"}, "dtick": _tick(len(indices))},
        yaxis={"title": {"text": "peak memory [GB]"}},
    )


def memory_lines(timeline: Timeline) -> Chart:
    """Return kept activations over the step, a line per class of ranks."""
    program = timeline.program
    data = []
    for rank in range(min(program.ranks, 2 * len(SERIES))):
        times, held = memory_over_time(timeline, rank)
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "line": {
                    "shape": "hv",
                    "width": 1.3,
                    "color": SERIES[rank % len(SERIES)],
                    "dash": DASHES[rank // len(SERIES) % len(DASHES)],
                },
                "name": f"pipeline index {program.pipeline_index(rank)}",
                "x": [round(time, 6) for time in times.tolist()],
                "y": [round(size / 1e9, 4) for size in held["activations"].tolist()],
                "hovertemplate": "%{y:.2f} GB at %{x:.4g} s<extra>%{fullData.name}</extra>",
            }
        )
    return chart(
        data,
        340,
        showlegend=1 < program.ranks <= len(SERIES),
        hovermode="closest",
        xaxis={"title": {"text": "time in the step [s]"}},
        yaxis={"title": {"text": "kept activations [GB]"}},
    )


def overlap(report: Report) -> Chart:
    """Return communication of each class of ranks: hidden beside compute and not."""
    indices = [one.pipeline_index for one in report.overlap]
    alone = len(set(indices)) == len(indices)
    labels = [
        f"{one.pipeline_index}" if alone else f"{one.pipeline_index}: rank {one.rank}"
        for one in report.overlap
    ]
    parts = {
        "beside compute": (GREEN, [one.hidden for one in report.overlap]),
        "exposed": (VERMILLION, [one.communication - one.hidden for one in report.overlap]),
    }
    data = [
        {
            "type": "bar",
            "name": name,
            "x": labels,
            "y": values,
            "marker": {"color": colour},
            "customdata": [
                100.0 * value / one.communication if one.communication else 0.0
                for value, one in zip(values, report.overlap, strict=True)
            ],
            "hovertemplate": f"{name}: %{{y:.4g}} s, %{{customdata:.1f}}% of communication"
            "<extra>pipeline index %{x}</extra>",
        }
        for name, (colour, values) in parts.items()
    ]
    return chart(
        data,
        340,
        barmode="stack",
        xaxis={"title": {"text": "pipeline index"}, "type": "category"},
        yaxis={"title": {"text": "communication in a step [s]"}},
    )


def links(report: Report) -> Chart:
    """Return how busy the busiest link of each kind is, and the traffic that a GPU sends by kind."""
    shares = report.utilisation
    data = [
        {
            "type": "bar",
            "x": list(shares),
            "y": [100.0 * share for share in shares.values()],
            "marker": {"color": SERIES[0]},
            "hovertemplate": "%{x}: %{y:.1f}% of the step<extra></extra>",
        }
    ]
    return chart(
        data,
        340,
        showlegend=False,
        xaxis={"title": {"text": "busiest link of each kind"}},
        yaxis={"title": {"text": "busy [% of the step]"}, "range": [0, 100]},
    )


def _tick(count: int) -> int:
    return max(1, round(count / 16))

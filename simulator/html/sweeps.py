"""A sweep as charts that plotly draws, and as a table of its points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from simulator.html.charts import Chart, chart
from simulator.html.tables import number, table
from simulator.plot.sweep_values import (
    Columns,
    Point,
    Shown,
    SweepFigure,
    axis_name,
    default,
    knee,
    numbers,
)
from simulator.report.palette import SERIES
from simulator.units import format_bytes

MOST_ROWS = 1000
"""Points that a page lists; results.csv has them all."""


def charts(columns: Columns, figures: Sequence[SweepFigure]) -> dict[str, Chart]:
    """Return a chart for each figure of a sweep, none where no point is legal. Errors: InputError."""
    if "ok" not in columns["status"]:
        return {}
    chosen = list(figures) or [default(columns)]
    return {
        f"figure{place}": KINDS[one.kind](Shown(one, columns)) for place, one in enumerate(chosen)
    }


def _curves(shown: Shown) -> Chart:
    """Return a line for each value of `by`, the knee in its name where there is one."""
    data, unit = [], ""
    for place, (name, pairs) in enumerate(shown.lines().items()):
        scale = numbers([x for x, _ in pairs])
        unit = scale[1] if scale else ""
        places = scale[0] if scale else [str(x) for x, _ in pairs]
        values = [value for _, value in pairs]
        points = sorted(zip(places, values, strict=True))
        bend = knee(list(map(Point, scale[0], values))) if scale and len(values) > 2 else None
        label = ", ".join([str(name)] * bool(name) + ([f"knee {bend[0]:.3g}"] if bend else []))
        data.append(_line(label or shown.label, points, place))
    return _drawn(data, axis_name(shown.figure.x, unit), shown.label)


def _scaling(shown: Shown) -> Chart:
    """Return a value over GPUs, both logarithmic."""
    by = shown.axis(shown.figure.by) if shown.figure.by else [""] * len(shown.values)
    data = []
    for place, name in enumerate(dict.fromkeys(by)):
        rows = zip(shown.columns["gpus"], shown.values, by, strict=True)
        points = sorted(
            (gpus, value) for gpus, value, other in rows if value is not None and other == name
        )
        data.append(_line(str(name) or "simulated", points, place))
    found = _drawn(data, "GPUs", shown.label)
    for axis in ("xaxis", "yaxis"):
        found["layout"][axis]["type"] = "log"
    return found


def _line(name: str, points: Sequence[tuple[Any, Any]], place: int) -> Chart:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "line": {"color": SERIES[place % len(SERIES)], "width": 1.5},
        "hovertemplate": "%{x}: %{y:.5g}<extra>%{fullData.name}</extra>",
    }


def _heat_map(shown: Shown) -> Chart:
    """Return a cell for each pair of values, empty where the point is not legal."""
    columns, rows = (
        [str(value) for value in shown.axis(path)] for path in (shown.figure.x, shown.figure.y)
    )
    across, up = list(dict.fromkeys(columns)), list(dict.fromkeys(rows))
    cells: list[list[float | None]] = [[None] * len(across) for _ in up]
    for x, y, value in zip(columns, rows, shown.values, strict=True):
        cells[up.index(y)][across.index(x)] = value
    data = [
        {
            "type": "heatmap",
            "x": across,
            "y": up,
            "z": cells,
            "colorscale": "Cividis",
            "texttemplate": "%{z:.3g}",
            "colorbar": {"title": {"text": shown.label, "side": "right"}},
            "hovertemplate": "%{x}, %{y}: %{z:.5g}<extra></extra>",
            "hoverongaps": False,
        }
    ]
    found = _drawn(data, axis_name(shown.figure.x), axis_name(shown.figure.y))
    for axis in ("xaxis", "yaxis"):
        found["layout"][axis]["type"] = "category"
    return found


def _bars(shown: Shown) -> Chart:
    data = [
        {
            "type": "bar",
            "name": str(name) or shown.label,
            "x": [str(x) for x, _ in pairs],
            "y": [value for _, value in pairs],
            "marker": {"color": SERIES[place % len(SERIES)]},
            "hovertemplate": "%{x}: %{y:.5g}<extra>%{fullData.name}</extra>",
        }
        for place, (name, pairs) in enumerate(shown.lines().items())
    ]
    return _drawn(data, axis_name(shown.figure.x), shown.label)


def _drawn(data: list[Chart], x: str, y: str) -> Chart:
    legend = len(data) > 1 or "knee" in str(data[0].get("name"))
    return chart(
        data,
        380,
        showlegend=legend,
        hovermode="closest",
        xaxis={"title": {"text": x}},
        yaxis={"title": {"text": y}},
    )


KINDS: dict[str, Callable[[Shown], Chart]] = {
    "knee": _curves,
    "scaling": _scaling,
    "heat_map": _heat_map,
    "bars": _bars,
}
"""kind of a figure -> what makes its chart"""


def titles(columns: Columns, figures: Sequence[SweepFigure]) -> list[str]:
    """Return what each chart shows over what."""
    shown = [Shown(one, columns) for one in list(figures) or [default(columns)]]
    return [
        f"{one.label} over {' and '.join(axis_name(path) for path in (one.figure.x, one.figure.y) if path)}"
        for one in shown
    ]


def counts(columns: Columns) -> str:
    """Return what became of the points."""
    said = ", ".join(f"{count} {status}" for status, count in Counter(columns["status"]).items())
    return f"{len(columns['point'])} points: {said}"


def note(columns: Columns) -> str:
    """Return whether the table leaves points out."""
    total = len(columns["point"])
    return f"The first {MOST_ROWS} of {total}; results.csv has all." if total > MOST_ROWS else ""


def points(columns: Columns) -> str:
    """Return the points: their axes, what decides, and what became of each."""
    axes = [name for name in columns if name.startswith("axis.")]
    known = [name for name in (*OUTPUTS, *_derived(columns)) if name in columns]
    heads = [
        *(name.removeprefix("axis.") for name in axes),
        *(OUTPUTS.get(name, name) for name in known),
        "",
    ]
    body = []
    for place in range(min(MOST_ROWS, len(columns["point"]))):
        row = [_cell(name, columns[name][place]) for name in (*axes, *known)]
        body.append([*row, columns["status"][place]])
    return table(heads, body, range(len(axes), len(axes) + len(known))) + _refusals(columns)


def _refusals(columns: Columns) -> str:
    """Return why points are none, each reason once."""
    found = Counter(error for error in columns["error"] if error)
    return (
        table(("points", "why not"), [(str(count), error) for error, count in found.most_common()])
        if found
        else ""
    )


def _derived(columns: Columns) -> list[str]:
    """Return the columns that the sweep computes by expressions of its own: they stand before those of the inputs."""
    heads = takewhile(lambda name: not name.startswith(("topology.", "workload.")), columns)
    return [
        name
        for name in heads
        if not name.startswith("axis.") and name not in ("point", "status", "error")
    ]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    return format_bytes(value) if name.endswith("_bytes") else number(value)


OUTPUTS = {
    "step_time_s": "step [s]",
    "tflops_per_gpu": "TFLOP/s per GPU",
    "mfu": "MFU",
    "bubble_fraction": "bubble",
    "run.gpu_hours": "GPU-hours",
    "memory.peak_bytes": "peak memory",
    "memory.fits": "fits",
}
"""Column -> its head in the table."""

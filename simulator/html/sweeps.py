"""A sweep as charts that plotly draws, and as a table of its points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from simulator.html.blocks import label, number, table
from simulator.html.charts import Chart, chart, title
from simulator.plot.sweep_panels import scaling_lines
from simulator.plot.sweep_values import (
    Columns,
    Point,
    Shown,
    SweepFigure,
    axis_name,
    axis_paths,
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
    return {
        f"figure{number}": KINDS[shown.figure.kind](shown)
        for number, shown in enumerate(_shown(columns, figures))
    }


def _shown(columns: Columns, figures: Sequence[SweepFigure]) -> Iterator[Shown]:
    """Yield each figure with the columns, the default one if a sweep names none."""
    for figure in list(figures) or [default(columns)]:
        yield Shown(figure, columns)


def _curves(shown: Shown) -> Chart:
    """Return a line for each value of `by`, the knee in its name where there is one."""
    traces: list[Chart] = []
    unit = ""
    for name, points in shown.lines().items():
        values = [point.value for point in points]
        scale = numbers([point.x for point in points])
        bend = None
        if scale:
            unit = scale.unit
            curve = list(map(Point, scale.values, values))
            bend = knee(curve) if len(curve) > 2 else None
        else:
            curve = [Point(str(point.x), point.value) for point in points]
        parts = [str(name)] if name else []
        if bend:
            parts.append(f"knee {bend.x:.3g}")
        said = ", ".join(parts) or shown.label
        traces.append(_line(said, sorted(curve), len(traces)))
    return _drawn(traces, axis_name(shown.figure.x, unit), shown.label)


def _scaling(shown: Shown) -> Chart:
    """Return a value over GPUs, both logarithmic."""
    traces: list[Chart] = []
    for name, points in scaling_lines(shown).items():
        traces.append(_line(str(name) or "simulated", points, len(traces)))
    drawn = _drawn(traces, "GPUs", shown.label)
    for axis in ("xaxis", "yaxis"):
        drawn["layout"][axis]["type"] = "log"
    return drawn


def _line(name: str, points: Sequence[Point], index: int) -> Chart:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(name),
        "x": [label(x) if isinstance(x, str) else x for x, _ in points],
        "y": [value for _, value in points],
        "line": {"color": SERIES[index % len(SERIES)], "width": 1.5},
        "hovertemplate": "%{x}: %{y:.5g}<extra>%{fullData.name}</extra>",
    }


def _heat_map(shown: Shown) -> Chart:
    """Return a cell for each pair of values, empty where the point is not legal."""
    # Labels, not values: quantities are text, and plotly would sort numbers of its own accord.
    columns = _labels(shown.axis(shown.figure.x))  # [point]
    rows = _labels(shown.axis(shown.figure.y))  # [point]
    across = list(dict.fromkeys(columns))
    up = list(dict.fromkeys(rows))
    # None, unlike NaN, is JSON; plotly leaves such a cell empty.
    cells: list[list[float | None]] = []  # [y][x]
    for _ in up:
        cells.append([None] * len(across))
    for x, y, value in zip(columns, rows, shown.values, strict=True):
        row, column = up.index(y), across.index(x)
        cells[row][column] = value
    trace = {
        "type": "heatmap",
        "x": across,
        "y": up,
        "z": cells,
        "colorscale": "Cividis",
        "texttemplate": "%{z:.3g}",
        "colorbar": {"title": {"text": label(shown.label), "side": "right"}},
        "hovertemplate": "%{x}, %{y}: %{z:.5g}<extra></extra>",
        "hoverongaps": False,
    }
    x_name, y_name = axis_name(shown.figure.x), axis_name(shown.figure.y)
    drawn = _drawn([trace], x_name, y_name)
    for axis in ("xaxis", "yaxis"):
        drawn["layout"][axis]["type"] = "category"
    return drawn


def _labels(values: Sequence[Any]) -> list[str]:
    return [label(value) for value in values]


def _bars(shown: Shown) -> Chart:
    traces: list[Chart] = []
    for name, points in shown.lines().items():
        traces.append(
            {
                "type": "bar",
                "name": label(name) or label(shown.label),
                "x": _labels([point.x for point in points]),
                "y": [point.value for point in points],
                "marker": {"color": SERIES[len(traces) % len(SERIES)]},
                "hovertemplate": "%{x}: %{y:.5g}<extra>%{fullData.name}</extra>",
            }
        )
    drawn = _drawn(traces, axis_name(shown.figure.x), shown.label)
    drawn["layout"]["xaxis"]["type"] = "category"  # a name that is a number stays a name
    return drawn


def _drawn(traces: list[Chart], x: str, y: str) -> Chart:
    # A lone line needs no name, unless the name says where its knee is.
    name = str(traces[0].get("name"))
    legend = len(traces) > 1 or "knee" in name
    return chart(
        traces,
        380,
        showlegend=legend,
        hovermode="closest",
        xaxis=title(x),
        yaxis=title(y),
    )


KINDS: dict[str, Callable[[Shown], Chart]] = {
    "knee": _curves,
    "scaling": _scaling,
    "heat_map": _heat_map,
    "bars": _bars,
}
"""Kind of a figure -> what makes its chart."""


def titles(columns: Columns, figures: Sequence[SweepFigure]) -> list[str]:
    """Return what each chart shows over what."""
    said = []
    for shown in _shown(columns, figures):
        paths = [path for path in (shown.figure.x, shown.figure.y) if path]
        axes = " and ".join(map(axis_name, paths))
        said.append(f"{shown.label} over {axes}")
    return said


def counts(columns: Columns) -> str:
    """Return what became of the points."""
    counted = Counter(columns["status"])
    said = [f"{count} {status}" for status, count in counted.items()]
    total = len(columns["point"])
    return f"{total} points: {', '.join(said)}"


def note(columns: Columns) -> str:
    """Return whether the table leaves points out."""
    total = len(columns["point"])
    if total <= MOST_ROWS:
        return ""
    return f"The first {MOST_ROWS} of {total}; results.csv has all."


def points(columns: Columns) -> str:
    """Return the points: their axes, what decides, and what became of each."""
    paths = axis_paths(columns)
    wanted = [*OUTPUTS, *_derived(columns)]
    # A sweep may choose its outputs: only what it kept is shown.
    known = [name for name in wanted if name in columns]
    known_heads = [OUTPUTS.get(name, name) for name in known]
    heads = [*paths, *known_heads, ""]
    shown = [*(f"axis.{path}" for path in paths), *known]
    body = []
    for row in range(min(MOST_ROWS, len(columns["point"]))):
        cells = [_cell(name, columns[name][row]) for name in shown]
        body.append([*cells, columns["status"][row]])
    numeric = range(len(paths), len(shown))
    return table(heads, body, numeric) + _refusals(columns)


def _refusals(columns: Columns) -> str:
    """Return why some points have no result, each reason once."""
    errors = Counter(error for error in columns["error"] if error)
    if not errors:
        return ""
    body = [(str(count), error) for error, count in errors.most_common()]
    return table(("points", "why not"), body)


def _derived(columns: Columns) -> list[str]:
    """Return the columns that the sweep computes by expressions of its own: they stand before those of the inputs."""
    # `sweep.table` writes derived columns before the inputs that each point was made from.
    inputs = ("topology.", "workload.")
    heads = takewhile(lambda name: not name.startswith(inputs), columns)
    own = {"point", "status", "error"}
    derived = [name for name in heads if name not in own]
    return [name for name in derived if not name.startswith("axis.")]


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

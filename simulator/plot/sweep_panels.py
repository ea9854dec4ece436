"""The panels of a sweep's figure, one function for each kind: curves with their knee, scaling, heat maps, bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.errors import InputError
from simulator.plot.canvas import label
from simulator.plot.sweep_values import WITHIN, Point, Shown, axis_name, knee, numbers
from simulator.report import palette
from simulator.report.palette import GRID, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^vPX<"
"""They tell lines apart in grey as well."""


def _style(number: int) -> dict[str, Any]:
    """Return how the line of a number looks."""
    return {
        "color": SERIES[number % len(SERIES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 3,
        "linewidth": 1,
    }


def _digits(value: float) -> str:
    # "#" keeps zeros at the end, so that neighbours have as many digits.
    if abs(value) < 100:
        return f"{value:#.3g}"
    return f"{value:.0f}"


def _legend(axes: Axes, shown: Shown) -> None:
    """Put the legend above a panel: in one row if it fits there, else in two columns."""
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return
    # A column of a paper holds some 60 characters of this size; a line and its gaps take 8 each.
    characters = sum(len(name) + 8 for name in labels)
    across = len(labels) if characters < 60 else 2
    title = axis_name(shown.figure.by) if shown.figure.by else None
    axes.legend(
        fontsize=6,
        title=title,
        title_fontsize=6,
        frameon=False,
        ncols=across,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        columnspacing=1.0,
        handlelength=1.6,
        borderaxespad=0.2,
    )


def _knee(axes: Axes, shown: Shown) -> None:
    """Draw a value over an axis of numbers, a line for each value of `by`, and mark the knees."""
    unit, marked = "", False
    for number, (name, points) in enumerate(shown.lines().items()):
        scale = numbers([point.x for point in points])
        if scale is None:
            raise InputError(
                "is not an axis of numbers",
                key="figures",
                value=shown.figure.x,
                remedy="Draw it as bars.",
            )
        unit = scale.unit
        values = [point.value for point in points]
        curve = sorted(map(Point, scale.values, values))
        # Two points are a straight line, wherever they lie.
        bend = knee(curve) if len(curve) > 2 else None
        xs, ys = zip(*curve, strict=True)
        said = _knee_label(name, bend)
        axes.plot(
            xs,
            ys,
            label=said,
            **_style(number),
        )
        if bend:
            _circle(axes, bend, SERIES[number % len(SERIES)])
            marked = True
    if marked:
        _explain_circles(axes)
    axes.set_xlabel(axis_name(shown.figure.x, unit), fontsize=7)
    axes.set_ylabel(shown.label, fontsize=7)
    axes.margins(y=0.12)
    axes.grid(linewidth=0.3, color=GRID)
    _legend(axes, shown)


def _knee_label(name: object, bend: Point | None) -> str:
    where = f"knee {bend.x:.3g}" if bend else "no knee"
    return label(f"{name}, {where}" if name else where)


def _circle(axes: Axes, bend: Point, colour: str) -> None:
    axes.plot(
        *bend,
        marker="o",
        markersize=8,
        markerfacecolor="none",
        markeredgecolor=colour,
        linewidth=0,
    )


def _explain_circles(axes: Axes) -> None:
    axes.text(
        0.98,
        0.97,
        f"circle: knee, from where on the rest\nstays within {WITHIN:.0%} of the last",
        transform=axes.transAxes,
        fontsize=6,
        ha="right",
        va="top",
        color=palette.NOTE,
    )


def _scaling(axes: Axes, shown: Shown) -> None:
    """Draw a value over GPUs, both logarithmic, next to proportional growth from each line's smallest cluster."""
    if "gpus" not in shown.columns:
        raise InputError("was simulated of no point", key="figures", value="gpus")
    # A line without a legal point keeps its number, so that colours mean the same in every panel.
    for number, (name, points) in enumerate(scaling_lines(shown).items()):
        if points:
            _scaling_line(axes, number, name, points)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.margins(x=0.1, y=0.1)
    sizes = set(shown.columns["gpus"]) - {None}
    ticks = sorted(sizes)
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=6)
    axes.set_xlabel("GPUs (next to a point: its share of proportional growth)", fontsize=7)
    axes.set_ylabel(shown.label, fontsize=7)
    axes.grid(linewidth=0.3, color=GRID)
    _legend(axes, shown)


def scaling_lines(shown: Shown) -> dict[Any, list[Point]]:
    """Return the legal points over GPUs for each value of `by`, from the smallest cluster on."""
    lines: dict[Any, list[Point]] = {name: [] for name in shown.by}
    rows = zip(shown.by, shown.columns["gpus"], shown.values, strict=True)
    for name, gpus, value in rows:
        if value is not None:
            lines[name].append(Point(gpus, value))
    return {name: sorted(points) for name, points in lines.items()}


def _scaling_line(axes: Axes, number: int, name: object, points: Sequence[Point]) -> None:
    first, last = points[0], points[-1]
    style = _style(number)
    proportional = first.value * last.x / first.x
    axes.plot(
        [first.x, last.x],
        [first.value, proportional],
        color=style["color"],
        linestyle=":",
        linewidth=1,
        # Once in the legend: the dots say the same for every colour.
        label=None if number else "proportional",
    )
    xs, ys = zip(*points, strict=True)
    axes.plot(
        xs,
        ys,
        label=label(name or "simulated"),
        **style,
    )
    # Above to the left of a point, then below to the right, so that two lines do not collide.
    offset, side = (-3, 4), "right"
    if number % 2:
        offset, side = (3, -8), "left"
    for gpus, value in points[1:]:
        expected = first.value * gpus / first.x
        share = value / expected
        axes.annotate(
            f"{share:.0%}",
            (gpus, value),
            xytext=offset,
            textcoords="offset points",
            fontsize=6,
            ha=side,
            color=style["color"],
        )


def _heat_map(axes: Axes, shown: Shown) -> None:
    """Draw a cell for each pair of values, its number inside; hatched where the point is not legal."""
    columns = shown.axis(shown.figure.x)  # [point]
    rows = shown.axis(shown.figure.y)  # [point]
    # In the order in which the sweep names them, which need not be that of numbers.
    across = list(dict.fromkeys(columns))
    up = list(dict.fromkeys(rows))
    cells = np.full((len(up), len(across)), np.nan)  # [y, x]
    for x, y, value in zip(columns, rows, shown.values, strict=True):
        if value is not None:
            row, column = up.index(y), across.index(x)
            cells[row, column] = value
    # Where there is no value, the hatched background shows through.
    axes.set_facecolor(palette.BAND)
    axes.patch.set(hatch="////", edgecolor=palette.PALE)
    image = axes.imshow(
        cells,
        cmap="cividis",
        aspect="auto",
        origin="lower",
    )
    # Cividis is dark below its middle and light above it.
    least, most = np.nanmin(cells), np.nanmax(cells)
    middle = (least + most) / 2
    for (row, column), value in np.ndenumerate(cells):
        if not np.isfinite(value):
            continue
        ink = "black" if value > middle else "white"
        axes.text(
            column,
            row,
            _digits(value),
            ha="center",
            va="center",
            fontsize=5.5,
            color=ink,
        )
    axes.set_xticks(range(len(across)), _tick_labels(across))
    axes.set_yticks(range(len(up)), _tick_labels(up))
    axes.set_xlabel(_name_with_unit(shown.figure.x, across), fontsize=7)
    axes.set_ylabel(_name_with_unit(shown.figure.y, up), fontsize=7)
    if np.isnan(cells).any():
        axes.set_title("hatched: not legal", fontsize=6, loc="right", pad=2)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(shown.label, fontsize=7)
    bar.ax.tick_params(labelsize=6.5)


def _tick_labels(values: Sequence[Any]) -> list[str]:
    scale = numbers(values)
    if scale:
        return [f"{number:g}" for number in scale.values]
    return [label(value) for value in values]


def _name_with_unit(path: str, values: Sequence[Any]) -> str:
    scale = numbers(values)
    return axis_name(path, scale.unit if scale else "")


def _bars(axes: Axes, shown: Shown) -> None:
    """Draw a bar for each value of an axis of names, a colour for each value of `by`."""
    lines = shown.lines()
    axis = map(str, shown.axis(shown.figure.x))
    names = list(dict.fromkeys(axis))
    # Bars of one name stand together around its tick, with a fifth of the room left free.
    width = 0.8 / max(len(lines), 1)
    centre = (len(lines) - 1) / 2
    legal = set()
    for number, (name, points) in enumerate(lines.items()):
        rows = [names.index(str(point.x)) for point in points]
        legal.update(rows)
        shift = (number - centre) * width
        bars = axes.barh(
            [row + shift for row in rows],
            [point.value for point in points],
            height=width * 0.9,
            label=label(name) or None,
            color=SERIES[number % len(SERIES)],
        )
        written = [_digits(point.value) for point in points]
        axes.bar_label(bars, written, fontsize=6, padding=2)
    # A name without any bar would look like a value of zero.
    rest = set(range(len(names))) - legal
    for row in sorted(rest):
        axes.text(
            0,
            row,
            " not legal",
            va="center",
            fontsize=6,
            color=palette.GREY,
        )
    labels = [label(name) for name in names]
    axes.set_yticks(range(len(names)), labels)
    axes.invert_yaxis()
    axes.margins(x=0.16)
    axes.set_xlabel(shown.label, fontsize=7)
    axes.set_ylabel(axis_name(shown.figure.x), fontsize=7)
    _legend(axes, shown)


PANELS: dict[str, Callable[[Axes, Shown], None]] = {
    "knee": _knee,
    "scaling": _scaling,
    "heat_map": _heat_map,
    "bars": _bars,
}
"""Kind of a figure -> what draws it."""

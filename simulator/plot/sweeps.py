"""Figures of sweeps, as wide as a paper's column: curves with their knee, scaling, heat maps, bars."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from simulator.errors import InputError
from simulator.plot.steps import metadata

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Columns = Mapping[str, Sequence[Any]]
WIDTH, HEIGHT = 3.5, 2.35  # [inch] a column of most two-column papers
# Okabe and Ito's colours, told apart by most colour-blind readers; markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
WITHIN = 0.01
"""A knee is the least value from which on the figure stays within this share of that at the largest value."""
NAMES = {
    "topology.node.nvlink": "NVLink",
    "topology.node.nic": "NIC",
    "topology.nodes": "nodes",
    "layout.ep": "expert-parallel size",
    "layout.pp": "pipeline stages",
    "layout.tp": "tensor-parallel size",
    "schedule.name": "schedule",
    "training.global_batch_size": "sequences per step",
    "model.topk_group": "groups of experts per token",
    "training.micro_batch_size": "sequences per micro-batch",
    "topology.gpu": "GPU",
    "precision.recipe": "precision",
    "experts.max_violation": "imbalance of experts, MaxVio",
    "topology": "cluster",
    "workload": "workload",
}
"""Path of an axis -> its name in a figure; another one is called by its path."""
VALUES: dict[str, tuple[str, float]] = {
    "step_time_s": ("step time [s]", 1.0),
    "tokens_per_second": ("tokens per second [M/s]", 1e-6),
    "tokens_per_day": ("tokens per day [G]", 1e-9),
    "tflops_per_gpu": ("model FLOP/s per GPU [TFLOP/s]", 1.0),
    "mfu": ("MFU, BF16 peak [%]", 100.0),
    "bubble_fraction": ("bubble [% of the step]", 100.0),
    "memory.peak_bytes": ("peak memory [GB]", 1e-9),
    "run.gpu_hours": ("GPU-hours of the run [M]", 1e-6),
    "run.cost_usd": ("cost of the run [M USD]", 1e-6),
    "run.wall_days": ("wall time of the run [d]", 1.0),
}
"""Column -> its name with the unit, and the factor from SI to it; another one is called as it is."""


class SweepFigure(BaseModel):
    """One panel of a sweep's figure."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["knee", "scaling", "heat_map", "bars"] = Field(
        description="knee: a value over an axis, the knee marked; scaling: over GPUs, beside proportional growth; "
        "heat_map: over two axes; bars: over an axis of names"
    )
    x: str = Field(description="path of the horizontal axis")
    y: str = Field("", description="heat_map: path of the vertical axis")
    by: str = Field(
        "", description="path of an axis, or a column: a line or a colour for each of its values"
    )
    value: str = Field(
        "step_time_s", description="column that is shown: an output or a derived one"
    )
    label: str = Field(
        "", description="the value's name with its unit, where the column's name does not say it"
    )


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure beside the columns that it draws."""

    figure: SweepFigure
    columns: Columns

    def axis(self, path: str) -> list[Any]:
        """Return an axis as it was written, or another column, row by row. Errors: InputError."""
        if path in self.columns and f"axis.{path}" not in self.columns:
            return list(self.columns[path])
        if f"axis.{path}" not in self.columns:
            known = [
                name.removeprefix("axis.") for name in self.columns if name.startswith("axis.")
            ]
            raise InputError(
                "is no axis of the sweep",
                key="figures",
                value=path,
                remedy=f"Axes: {', '.join(known)}.",
            )
        return list(self.columns[f"axis.{path}"])

    @property
    def values(self) -> list[float | None]:
        """Return the value row by row in the unit of its label, None where there is none. Errors: InputError."""
        name = self.figure.value
        if name not in self.columns:
            raise InputError(
                "is no column of the sweep",
                key="figures",
                value=name,
                remedy="Name an output as in `simulate run --json`, or a derived column.",
            )
        factor = (
            1e3 if self._short else 1.0 if self.figure.label else VALUES.get(name, ("", 1.0))[1]
        )
        if any(
            value is not None and not isinstance(value, int | float) for value in self.columns[name]
        ):
            raise InputError(
                "holds no numbers", key="figures", value=name, remedy="Name a column that does."
            )
        return [None if value is None else value * factor for value in self.columns[name]]

    @property
    def _short(self) -> bool:
        """Tell whether steps are so short that milliseconds read better."""
        if self.figure.value != "step_time_s" or self.figure.label:
            return False
        return max(filter(None, self.columns["step_time_s"]), default=1.0) < 0.1

    @property
    def label(self) -> str:
        """Return the value's name with its unit."""
        if self._short:
            return "step time [ms]"
        return self.figure.label or VALUES.get(self.figure.value, (self.figure.value, 1.0))[0]

    def lines(self) -> dict[Any, list[tuple[Any, float]]]:
        """Return for each value of `by` its points (x, value), those of illegal rows left out."""
        by = self.axis(self.figure.by) if self.figure.by else [""] * len(self.columns["point"])
        found: dict[Any, list[tuple[Any, float]]] = {name: [] for name in by}
        for name, x, value in zip(by, self.axis(self.figure.x), self.values, strict=True):
            if value is not None:
                found[name].append((x, value))
        return {name: pairs for name, pairs in found.items() if pairs}


def sweep(columns: Columns, figures: Sequence[SweepFigure], caption: str, path: Path) -> None:
    """Draw a sweep, a panel for each figure, one below the other. columns: as `sweep.table` makes them."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "simulate"  # else SVG's ids are random
    import matplotlib.pyplot as plt

    chosen = list(figures) or [default(columns)]
    figure, panels = plt.subplots(
        len(chosen),
        1,
        figsize=(WIDTH, HEIGHT * len(chosen) + 0.35),
        squeeze=False,
        layout="constrained",
    )
    for axes, one in zip(panels[:, 0], chosen, strict=True):
        PANELS[one.kind](axes, Shown(one, columns))
        axes.tick_params(labelsize=6.5)
    figure.suptitle(textwrap.fill(caption, 66), fontsize=7)
    figure.savefig(path, dpi=200, metadata=metadata(path))
    plt.close(figure)


def default(columns: Columns) -> SweepFigure:
    """Return the figure of a sweep that names none: a curve over its longest axis of numbers, or bars."""
    axes = [name.removeprefix("axis.") for name in columns if name.startswith("axis.")]
    lengths = {path: len(set(map(str, columns[f"axis.{path}"]))) for path in axes}
    numeric = [path for path in axes if numbers(columns[f"axis.{path}"])]
    x = max(numeric or axes, key=lambda path: lengths[path])
    rest = [path for path in axes if path != x]
    by = rest[0] if len(rest) == 1 else ""
    return SweepFigure(kind="knee" if numeric else "bars", x=x, by=by)


def numbers(values: Sequence[Any]) -> tuple[list[float], str] | None:
    """Return an axis as numbers and their common unit, None where it is of names or of several units."""
    found, units = [], set()
    for value in values:
        text = str(value).split(" ", 1)
        try:
            found.append(float(text[0]))
        except ValueError:
            return None
        units.add(text[1] if len(text) > 1 else "")
    return (found, units.pop()) if len(units) == 1 else None


def knee(
    pairs: Sequence[tuple[float, float]], within: float = WITHIN
) -> tuple[float, float] | None:
    """Return the point from which on the value stays within a share of the last one, None if it never does before."""
    ordered = sorted(pairs)
    last = ordered[-1][1]
    found = None
    for x, value in reversed(ordered[:-1]):
        if abs(value / last - 1.0) > within:
            break
        found = (x, value)
    return found


def axis_name(path: str, unit: str = "") -> str:
    """Return how a figure calls an axis."""
    name = NAMES.get(path, path)
    return f"{name} [{unit}]" if unit else name


def _digits(value: float) -> str:
    return f"{value:#.3g}" if abs(value) < 100 else f"{value:.0f}"


def _legend(axes: Axes, shown: Shown) -> None:
    labels = axes.get_legend_handles_labels()[1]
    if not labels:
        return
    across = len(labels) if sum(len(label) + 8 for label in labels) < 60 else 2
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
    marked = False
    unit = ""
    for number, (name, pairs) in enumerate(shown.lines().items()):
        scale = numbers([x for x, _ in pairs])
        if scale is None:
            raise InputError(
                "is no axis of numbers",
                key="figures",
                value=shown.figure.x,
                remedy="Draw it as bars.",
            )
        unit = scale[1]
        points = sorted(zip(scale[0], (value for _, value in pairs), strict=True))
        colour = COLOURS[number % len(COLOURS)]
        bend = knee(points) if len(points) > 2 else None
        label = ", ".join([str(name)] * bool(name) + [f"knee {bend[0]:.3g}" if bend else "no knee"])
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=3,
            linewidth=1,
            label=label,
        )
        if bend:
            axes.plot(
                *bend,
                marker="o",
                markersize=8,
                markerfacecolor="none",
                markeredgecolor=colour,
                linewidth=0,
            )
            marked = True
    if marked:
        axes.text(
            0.98,
            0.97,
            f"circle: knee, from where on the rest\nstays within {WITHIN:.0%} of the last",
            transform=axes.transAxes,
            fontsize=6,
            ha="right",
            va="top",
            color="#444444",
        )
    axes.set_xlabel(axis_name(shown.figure.x, unit), fontsize=7)
    axes.set_ylabel(shown.label, fontsize=7)
    axes.margins(y=0.12)
    axes.grid(linewidth=0.3, color="#DDDDDD")
    _legend(axes, shown)


def _scaling(axes: Axes, shown: Shown) -> None:
    """Draw throughput over GPUs, both logarithmic, beside proportional growth from each line's smallest cluster."""
    if "gpus" not in shown.columns:
        raise InputError("was simulated of no point", key="figures", value="gpus")
    by = shown.axis(shown.figure.by) if shown.figure.by else [""] * len(shown.values)
    for number, name in enumerate(dict.fromkeys(by)):
        points = sorted(
            (gpus, value)
            for gpus, value, other in zip(shown.columns["gpus"], shown.values, by, strict=True)
            if value is not None and other == name
        )
        if not points:
            continue
        colour = COLOURS[number % len(COLOURS)]
        first, ends = points[0], (points[0][0], points[-1][0])
        axes.plot(
            ends,
            [first[1] * end / first[0] for end in ends],
            color=colour,
            linestyle=":",
            linewidth=1,
            label="proportional" if not number else None,
        )
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            markersize=3,
            linewidth=1,
            label=str(name) or "simulated",
        )
        for gpus, value in points[1:]:
            share = value / (first[1] * gpus / first[0])
            place, side = ((-3, 4), "right") if number % 2 == 0 else ((3, -8), "left")
            axes.annotate(
                f"{share:.0%}",
                (gpus, value),
                xytext=place,
                textcoords="offset points",
                fontsize=6,
                ha=side,
                color=colour,
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.margins(x=0.1, y=0.1)
    ticks = sorted({gpus for gpus in shown.columns["gpus"] if gpus is not None})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=6)
    axes.set_xlabel("GPUs (beside a point: its share of proportional growth)", fontsize=7)
    axes.set_ylabel(shown.label, fontsize=7)
    axes.grid(linewidth=0.3, color="#DDDDDD")
    _legend(axes, shown)


def _heat_map(axes: Axes, shown: Shown) -> None:
    """Draw a cell for each pair of values, its number inside; hatched where the point is not legal."""
    import numpy as np

    columns, rows = shown.axis(shown.figure.x), shown.axis(shown.figure.y)
    across, up = list(dict.fromkeys(columns)), list(dict.fromkeys(rows))
    cells = np.full((len(up), len(across)), np.nan)
    for x, y, value in zip(columns, rows, shown.values, strict=True):
        if value is not None:
            cells[up.index(y), across.index(x)] = value
    axes.set_facecolor("#EEEEEE")
    axes.patch.set(hatch="////", edgecolor="#BBBBBB")
    image = axes.imshow(cells, cmap="cividis", aspect="auto", origin="lower")
    middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            axes.text(
                column,
                row,
                _digits(value),
                ha="center",
                va="center",
                fontsize=5.5,
                color="black" if value > middle else "white",
            )
    for setter, path, found, axis in (
        (axes.set_xticks, shown.figure.x, across, axes.set_xlabel),
        (axes.set_yticks, shown.figure.y, up, axes.set_ylabel),
    ):
        scale = numbers(found)
        setter(
            range(len(found)),
            [f"{number:g}" for number in scale[0]] if scale else list(map(str, found)),
        )
        axis(axis_name(path, scale[1] if scale else ""), fontsize=7)
    if np.isnan(cells).any():
        axes.set_title("hatched: not legal", fontsize=6, loc="right", pad=2)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(shown.label, fontsize=7)
    bar.ax.tick_params(labelsize=6.5)


def _bars(axes: Axes, shown: Shown) -> None:
    lines = shown.lines()
    names = list(dict.fromkeys(map(str, shown.axis(shown.figure.x))))
    width = 0.8 / max(len(lines), 1)
    for number, (name, pairs) in enumerate(lines.items()):
        places = [names.index(str(x)) + (number - (len(lines) - 1) / 2) * width for x, _ in pairs]
        bars = axes.barh(
            places,
            [value for _, value in pairs],
            height=width * 0.9,
            label=str(name) or None,
            color=COLOURS[number % len(COLOURS)],
        )
        axes.bar_label(bars, [_digits(value) for _, value in pairs], fontsize=6, padding=2)
    missing = set(range(len(names))) - {
        names.index(str(x)) for pairs in lines.values() for x, _ in pairs
    }
    for place in missing:
        axes.text(0, place, " not legal", va="center", fontsize=6, color="#666666")
    axes.set_yticks(range(len(names)), names)
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
"""kind of a figure -> what draws it"""

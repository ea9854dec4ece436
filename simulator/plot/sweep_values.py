"""What a figure of a sweep shows: its axes and values, picked from the sweep's columns, with names and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

from simulator.errors import InputError
from simulator.escapes import visible
from simulator.frozen import FINITE

Columns = Mapping[str, Sequence[Any]]
"""Column -> its values, point by point, as `sweep.table` makes them."""

WITHIN = 0.01
"""A knee is the least value from which on the figure stays within this share of that at the largest value."""
SHORT = 0.1
"""Steps below this read better in milliseconds [s]."""
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
"""Path of an axis -> its name in a figure; any other is called by its path."""


class Scale(NamedTuple):
    """How a column is shown."""

    label: str
    """Name with the unit."""
    factor: float
    """From SI to that unit."""


VALUES = {
    "step_time_s": Scale("step time [s]", 1.0),
    "tokens_per_second": Scale("tokens per second [M/s]", 1e-6),
    "tokens_per_day": Scale("tokens per day [G]", 1e-9),
    "tflops_per_gpu": Scale("model FLOP/s per GPU [TFLOP/s]", 1.0),
    "mfu": Scale("MFU, BF16 peak [%]", 100.0),
    "bubble_fraction": Scale("bubble [% of the step]", 100.0),
    "memory.peak_bytes": Scale("peak memory [GB]", 1e-9),
    "run.gpu_hours": Scale("GPU-hours of the run [M]", 1e-6),
    "run.cost_usd": Scale("cost of the run [M USD]", 1e-6),
    "run.wall_days": Scale("wall time of the run [d]", 1.0),
}
"""Column -> how it is shown; any other as it is, under its own name."""


class SweepFigure(BaseModel):
    """One panel of a sweep's figure."""

    model_config = FINITE

    kind: Literal["knee", "scaling", "heat_map", "bars"] = Field(
        description=(
            "What is drawn: a value over an axis with its knee marked (knee), over GPUs next to "
            "proportional growth (scaling), over two axes (heat_map), or over an axis of names "
            "(bars)."
        )
    )
    x: str = Field(
        description="Path of the horizontal axis.", examples=["layout.ep", "node.nvlink"]
    )
    y: str = Field("", description="Path of the vertical axis, of heat_map.", examples=["node.nic"])
    by: str = Field(
        "",
        description="Path of an axis, or a column: each of its values has its line or colour.",
        examples=["schedule.name"],
    )
    value: str = Field(
        "step_time_s",
        description="Column that is shown, an output or a derived one.",
        examples=["run.cost_usd"],
    )
    label: str = Field(
        "",
        description=(
            "Name of the value with its unit, where the name of the column does not say it."
        ),
        examples=["step time [s]"],
    )


class Point(NamedTuple):
    """A legal point of a sweep."""

    x: Any
    """Value of the horizontal axis, as it was written."""
    value: float
    """What is shown, in the unit of its label."""


class Numbers(NamedTuple):
    """An axis of numbers."""

    values: list[float]
    """In the order of the axis."""
    unit: str
    """Unit that all of them have; empty for bare numbers."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure with the columns that it draws."""

    figure: SweepFigure
    """What to draw."""
    columns: Columns
    """The sweep."""

    def axis(self, path: str) -> list[Any]:
        """Return an axis as it was written, or another column, row by row. Errors: InputError."""
        if f"axis.{path}" in self.columns:
            return list(self.columns[f"axis.{path}"])
        if path in self.columns:
            return list(self.columns[path])
        raise InputError(
            "is not an axis of the sweep",
            key="figures",
            value=path,
            remedy=f"Axes: {', '.join(axis_paths(self.columns))}.",
        )

    @property
    def by(self) -> list[Any]:
        """Return what tells lines or colours apart, row by row; empty text where there is one line."""
        if self.figure.by:
            return self.axis(self.figure.by)
        return [""] * len(self.columns["point"])

    @property
    def values(self) -> list[float | None]:
        """Return the value row by row in the unit of its label, None where there is none. Errors: InputError."""
        name = self.figure.value
        if name not in self.columns:
            raise InputError(
                "is not a column of the sweep",
                key="figures",
                value=name,
                remedy="Name an output as in `simulate run --json`, or a derived column.",
            )
        column = self.columns[name]
        # Points that were refused have no value; text or a list in one place spoils all.
        held = [value for value in column if value is not None]
        if not all(isinstance(value, int | float) for value in held):
            raise InputError(
                "holds no numbers", key="figures", value=name, remedy="Name a column that does."
            )
        factor = self._scale.factor
        return [None if value is None else value * factor for value in column]

    @property
    def label(self) -> str:
        """Return the value's name with its unit."""
        return visible(self._scale.label)

    @property
    def _scale(self) -> Scale:
        name, own = self.figure.value, self.figure.label
        if own:
            return Scale(own, 1.0)
        # One unit for all points of a panel, by the longest step, so that they compare.
        if name == "step_time_s":
            longest = max(filter(None, self.columns[name]), default=1.0)
            if longest < SHORT:
                return Scale("step time [ms]", 1e3)
        return VALUES.get(name, Scale(name, 1.0))

    def lines(self) -> dict[Any, list[Point]]:
        """Return the legal points for each value of `by` that has any."""
        points: dict[Any, list[Point]] = {}
        names = self.by
        xs = self.axis(self.figure.x)
        for name, x, value in zip(names, xs, self.values, strict=True):
            if value is not None:
                points.setdefault(name, []).append(Point(x, value))
        # In the order in which the sweep first names them, legal or not.
        ordered = dict.fromkeys(names)
        return {name: points[name] for name in ordered if name in points}


def axis_paths(columns: Columns) -> list[str]:
    """Return the paths of a sweep's axes."""
    return [name.removeprefix("axis.") for name in columns if name.startswith("axis.")]


def default(columns: Columns) -> SweepFigure:
    """Return the figure of a sweep that names none: a curve over its longest axis of numbers, or bars."""
    lengths: dict[str, int] = {}
    numeric = []
    for path in axis_paths(columns):
        axis = columns[f"axis.{path}"]
        lengths[path] = len(set(map(str, axis)))
        if numbers(axis):
            numeric.append(path)
    # Numbers before names: a curve shows more of a long axis than bars do.
    paths = list(lengths)
    x = max(numeric or paths, key=lengths.__getitem__)
    # Of three axes and more, no line or colour could tell the rest apart.
    rest = [path for path in paths if path != x]
    by = rest[0] if len(rest) == 1 else ""
    return SweepFigure(
        kind="knee" if numeric else "bars",
        x=x,
        by=by,
    )


def numbers(values: Sequence[Any]) -> Numbers | None:
    """Return an axis as numbers and their common unit, None where it is of names or of several units."""
    amounts, units = [], set()
    for value in values:
        # Quantities are text such as `50 GB/s per direction`: all behind the blank is the unit.
        amount, _, unit = str(value).partition(" ")
        try:
            amounts.append(float(amount))
        except ValueError:
            return None
        units.add(unit)
    # Two units would need conversion before they share an axis: such an axis is one of names.
    if len(units) != 1:
        return None
    return Numbers(amounts, units.pop())


def knee(points: Sequence[Point], within: float = WITHIN) -> Point | None:
    """Return the point from which on the value stays within a share of the last one, None if it never does before."""
    # From the largest value down, as long as the figure stays close.
    *before, last = sorted(points)
    bend = None
    for point in reversed(before):
        away = abs(point.value / last.value - 1.0)
        if away > within:
            break
        bend = point
    return bend


def axis_name(path: str, unit: str = "") -> str:
    """Return how a figure calls an axis."""
    name = visible(NAMES.get(path, path))
    return f"{name} [{visible(unit)}]" if unit else name

"""What a sweep file says: validated configuration, with its axes and expressions."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from simulator import inputs
from simulator.errors import InputError
from simulator.frozen import FINITE
from simulator.inputs import Document, Path_
from simulator.plot import SweepFigure
from simulator.store import check_name
from simulator.sweep import expressions
from simulator.sweep.axes import values as read_axis
from simulator.sweep.expressions import Expression
from simulator.sweep.paths import check_path
from simulator.units import Integer

WHOLE_FILES = ("topology", "workload")
"""Axes that name a file instead of a key."""


class SweepConfig(BaseModel):
    """A base scenario, what varies, and what to make of it."""

    model_config = FINITE

    name: str = Field(
        description="Name of the sweep in captions, and of its folder unless -o gives another.",
        examples=["nvlink"],
    )
    topology: str = Field(
        description="A topology file: its path relative to this file, or a shipped one's name.",
        examples=["h800-2048"],
    )
    workload: str = Field(
        "deepseek-v3",
        description="A workload file: its path relative to this file, or a shipped one's name.",
        examples=["deepseek-v3"],
    )
    set: dict[str, Any] = Field(
        {},
        description="Changes that hold in every point: path of a key -> its value.",
        examples=[{"layout.ep": 32}],
    )
    axes: dict[str, Any] = Field(
        description=(
            "What varies: path of a key, or topology or workload -> its values, as a list, a range "
            "or random draws."
        ),
        examples=[{"node.nvlink": "100 .. 900 GB/s bidirectional", "layout.ep": [32, 64]}],
    )
    mode: Literal["grid", "list", "random"] = Field(
        "grid",
        description=(
            "How values are combined: every combination, the first axis slowest (grid), the n-th "
            "values of all axes together (list), or `points` combinations of the grid (random)."
        ),
    )
    points: Integer | None = Field(
        None, gt=0, description="Number of combinations, in mode random and only there."
    )
    seed: Integer = Field(0, ge=0, description="Seed of random axes and of mode random.")
    constraints: tuple[str, ...] = Field(
        (),
        description="Expressions over keys; points that break one are left out.",
        examples=[["layout.ep <= 64"]],
    )
    derived: dict[str, str] = Field(
        {},
        description="Name of a column -> expression over the other columns.",
        examples=[{"per_gpu": "tokens_per_second / gpus"}],
    )
    penalties: bool = Field(
        False,
        description=(
            "Whether to find what unequal experts and slow GPUs cost, and what would make a run "
            "fit, by simulating again: a point takes twice as long."
        ),
    )
    figures: tuple[SweepFigure, ...] = Field(
        (), description="Panels of --plot; default: chosen from the axes."
    )

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        check_name(name)
        return name

    @model_validator(mode="after")
    def _fits(self) -> SweepConfig:
        if not self.axes:
            raise InputError(
                "varies nothing",
                key="axes",
                value="{}",
                remedy="Add an axis: 'layout.ep: [32, 64]'.",
            )
        if self.mode == "random" and self.points is None:
            remedy = "Add 'points: 50'."
            raise InputError("needs a number of points", key="mode", value=self.mode, remedy=remedy)
        if self.mode != "random" and self.points is not None:
            remedy = "Leave out points, or write mode: random."
            raise InputError("draws no points", key="mode", value=self.mode, remedy=remedy)
        for path in self.axes:
            if path in self.set:
                raise InputError(
                    "is an axis too", key=f"set.{path}", value=path, remedy="Keep one of them."
                )
        return self


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read."""

    config: SweepConfig
    """The file as configuration."""
    document: Document
    """The file with its lines, for messages."""
    axes: dict[str, tuple[Any, ...]]
    """Path -> values, in the order of the file."""
    constraints: tuple[Expression, ...]
    """What every point keeps."""
    derived: dict[str, Expression]
    """Column -> expression."""

    def told(self, error: InputError, *path: str | int) -> InputError:
        """Return an error with the place of a key in this file. path: of the key."""
        return error.at(**self.document.locate(path))

    def file(self, name: str, kind: str) -> Path:
        """Return the file of a topology or workload: next to the sweep's, a path, or a shipped one.

        Errors: InputError.
        """
        neighbour = Path(self.document.file).parent / name
        if name and inputs.is_file(neighbour):
            return neighbour
        return inputs.find(name, kind)


def read(name: str) -> Sweep:
    """Read a sweep file, a path or the bare name of a shipped one. Errors: InputError."""
    document = inputs.read(inputs.find(name, "sweeps"))
    config = inputs.validate(document, SweepConfig)
    axes = {path: _axis(document, config, path) for path in config.axes}
    if config.mode == "list":
        _check_lengths(document, axes)
    # What can be told without a point is told now, with its line: a sweep of hours does not stop at
    # a misspelt key.
    for path in config.set:
        _located(document, ("set", path), check_path, path)
    constraints = [
        _located(document, ("constraints", index), expressions.read, text)
        for index, text in enumerate(config.constraints)
    ]
    derived = {
        column: _located(document, ("derived", column), expressions.read, text)
        for column, text in config.derived.items()
    }
    return Sweep(config, document, axes, tuple(constraints), derived)


def _check_lengths(document: Document, axes: Mapping[str, Sequence[Any]]) -> None:
    """Refuse axes of different lengths, which cannot go together. Errors: InputError."""
    lengths = {path: len(values) for path, values in axes.items()}
    if len(set(lengths.values())) < 2:
        return
    listed = [f"{path} {length}" for path, length in lengths.items()]
    shown = ", ".join(listed)
    error = InputError(
        f"takes all axes together, and their lengths differ: {shown}",
        value="list",
        remedy="Give all the same number of values, or write mode: grid.",
    )
    raise error.at(**document.locate(("mode",)))


def _axis(document: Document, config: SweepConfig, path: str) -> tuple[Any, ...]:
    if path not in WHOLE_FILES:
        _located(document, ("axes", path), check_path, path)
    # A generator of its own: another axis does not change what this one draws.
    chance = random.Random(f"{config.seed}/{path}")
    key = ("axes", path)
    spec = config.axes[path]
    values: tuple[Any, ...] = _located(document, key, read_axis, spec, chance)
    return values


def _located(document: Document, key: Path_, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; tell where in the file is what it refuses. Errors: InputError."""
    try:
        return function(*arguments)
    except InputError as error:
        # The function knows its own keys, from which the document finds the line.
        inner = error.key.split(".") if error.key else []
        error.key = error.file = ""
        path = (*key, *inner)
        raise error.at(**document.locate(path)) from error

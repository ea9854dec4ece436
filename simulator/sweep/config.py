"""What a sweep file says, as validated configuration, and the axes and expressions that were read from it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator import inputs
from simulator.errors import InputError
from simulator.inputs import Document
from simulator.plot import SweepFigure
from simulator.sweep import axes, expressions
from simulator.sweep.expressions import Expression
from simulator.sweep.paths import check_path

WHOLE_FILES = ("topology", "workload")
"""Axes that name a file instead of a key."""


class SweepConfig(BaseModel):
    """A base scenario, what varies, and what to make of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="for captions, and of the folder unless -o names one")
    topology: str = Field(
        description="a topology file: its path seen from this file, or a shipped one's name"
    )
    workload: str = Field("deepseek-v3", description="a workload file, likewise")
    set: dict[str, Any] = Field({}, description="keys replaced in every point, by path")
    axes: dict[str, Any] = Field(
        description="path of a key, or topology or workload -> its values; see sweep.axes"
    )
    mode: Literal["grid", "list", "random"] = Field(
        "grid",
        description="grid: every combination, the first axis slowest; list: the n-th values of all axes "
        "together; random: `points` combinations of the grid",
    )
    points: int | None = Field(None, gt=0, description="mode random: how many combinations")
    seed: int = Field(0, ge=0, description="of random axes and of mode random")
    constraints: tuple[str, ...] = Field(
        (), description="expressions over keys; points that break one do not exist"
    )
    derived: dict[str, str] = Field(
        {}, description="name of a column -> expression over the others"
    )
    penalties: bool = Field(
        False,
        description="also what unequal experts and slow GPUs cost, and what would make a run fit; each is found "
        "by simulating again, so that a point takes twice as long",
    )
    figures: tuple[SweepFigure, ...] = Field(
        (), description="panels of --plot; chosen from the axes where none"
    )

    @model_validator(mode="after")
    def _fits(self) -> SweepConfig:
        if not self.axes:
            raise InputError(
                "varies nothing",
                key="axes",
                value="{}",
                remedy="Add an axis: 'layout.ep: [32, 64]'.",
            )
        if (self.mode == "random") != (self.points is not None):
            rule = "needs a number of points" if self.mode == "random" else "draws no points"
            remedy = (
                "Add 'points: 50'."
                if self.mode == "random"
                else "Leave out points, or write mode: random."
            )
            raise InputError(rule, key="mode", value=self.mode, remedy=remedy)
        for path in self.axes:
            if path in self.set:
                raise InputError(
                    "is an axis too", key=f"set.{path}", value=path, remedy="Keep one of them."
                )
        return self


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read. axes: path -> values. constraints: what every point keeps. derived: column -> expression."""

    config: SweepConfig
    document: Document
    axes: dict[str, tuple[Any, ...]]
    constraints: tuple[Expression, ...]
    derived: dict[str, Expression]

    def file(self, name: str, kind: str) -> Path:
        """Return a topology's or workload's file: beside the sweep's, a path, or a shipped one. Errors: InputError."""
        beside = Path(self.document.file).parent / name
        return beside if name and beside.is_file() else inputs.find(name, kind)


def read(name: str) -> Sweep:
    """Read a sweep file, a path or the bare name of a shipped one. Errors: InputError."""
    document = inputs.read(inputs.find(name, "sweeps"))
    config = inputs.validate(document, SweepConfig)
    found = {path: _axis(document, config, path) for path in config.axes}
    lengths = {path: len(values) for path, values in found.items()}
    if config.mode == "list" and len(set(lengths.values())) > 1:
        shown = ", ".join(f"{path} {length}" for path, length in lengths.items())
        error = InputError(
            f"goes through axes side by side, which are unlike in length: {shown}",
            value="list",
            remedy="Give all the same number of values, or write mode: grid.",
        )
        raise error.at(**document.locate(("mode",)))
    for path in config.set:
        _placed(document, ("set", path), check_path, path)
    constraints = tuple(
        _placed(document, ("constraints", number), expressions.read, text)
        for number, text in enumerate(config.constraints)
    )
    derived = {
        column: _placed(document, ("derived", column), expressions.read, text)
        for column, text in config.derived.items()
    }
    return Sweep(config, document, found, constraints, derived)


def _axis(document: Document, config: SweepConfig, path: str) -> tuple[Any, ...]:
    if path not in WHOLE_FILES:
        _placed(document, ("axes", path), check_path, path)
    # A generator of its own: another axis does not change what this one draws.
    chance = random.Random(f"{config.seed}/{path}")
    found: tuple[Any, ...] = _placed(
        document, ("axes", path), axes.values, config.axes[path], chance
    )
    return found


def _placed(
    document: Document, place: tuple[str | int, ...], function: Any, *arguments: Any
) -> Any:
    """Call a function and tell where in the file its complaint stands."""
    try:
        return function(*arguments)
    except InputError as error:
        inner = tuple(error.key.split(".")) if error.key else ()
        error.key = error.file = ""
        raise error.at(**document.locate((*place, *inner))) from error

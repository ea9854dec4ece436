"""What an axis may say -> its values.

| a file says                                              | values                                                  |
|----------------------------------------------------------|---------------------------------------------------------|
| `[8, 16, 32]`, `[1f1b, dualpipe]`                        | as they stand                                           |
| `100 .. 900 GB/s bidirectional`, alone or in a list      | nine, evenly apart                                      |
| `{from: 100 GB/s per direction, to: ..., steps: 5, scale: log}` | `steps` of them, evenly apart or by equal factors |
| `{from: 8, to: 64, factor: 2}`                           | 8, 16, 32, 64                                           |
| `{random: {low: 0, high: 1, scale: linear, count: 5}}`   | `count` draws from the sweep's seed, in rising order    |

Whole ends without a unit draw whole numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simulator import inputs
from simulator.errors import InputError
from simulator.inputs import Document

STEPS = 9
"""Values of a range that does not say how many: 100 to 900 in hundreds."""
MOST = 100_000
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_QUANTITY = re.compile(rf"^\s*({_NUMBER})\s*(\D.*?)?\s*$")
_RANGE = re.compile(rf"^\s*({_NUMBER})\s*(\D.*?)?\s*\.\.\s*({_NUMBER})\s*(\D.*?)?\s*$")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and what stands behind it, `400` and `GB/s bidirectional`; no unit where it is bare."""

    number: float
    unit: str = ""

    @classmethod
    def read(cls, value: object) -> Quantity:
        """Read `400 GB/s bidirectional`, `8`, or `0.5`. Errors: InputError."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls(value)
        match = _QUANTITY.match(value) if isinstance(value, str) else None
        if match is None:
            raise InputError(
                "is no number, nor one with a unit",
                value=value,
                remedy="Write for example 8 or '50 us'.",
            )
        return cls(float(match[1]), match[2] or "")


def _ends(value: object) -> Quantity:
    return value if isinstance(value, Quantity) else Quantity.read(value)


End = Annotated[Quantity, BeforeValidator(_ends)]


class _Spread(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )

    def _check(self, low: Quantity, high: Quantity, names: tuple[str, str], log: bool) -> None:
        """Refuse ends of unlike units, ends in the wrong order, and logarithms of what is not positive."""
        if low.unit and high.unit and low.unit != high.unit:
            raise InputError(
                f"has another unit than {names[0]}: {low.unit}",
                key=names[1],
                value=high.unit,
                remedy="Write both in one unit.",
            )
        if low.number >= high.number:
            raise InputError(
                f"does not lie above {names[0]} {low.number:g}",
                key=names[1],
                value=high.number,
                remedy=f"Write {names[0]} below {names[1]}.",
            )
        if log and low.number <= 0:
            raise InputError(
                "has no logarithm",
                key=names[0],
                value=low.number,
                remedy="Write scale: linear, or begin above 0.",
            )


class Range(_Spread):
    """Values between two ends, both included."""

    start: End = Field(alias="from", description="the first value, with its unit where one is due")
    to: End = Field(description="the last value")
    steps: int | None = Field(None, ge=2, le=MOST, description="how many values; 9 unless said")
    factor: float | None = Field(
        None, gt=1, description="each value over the one before it, instead of steps"
    )
    scale: Literal["linear", "log"] = Field(
        "linear", description="log: equal factors between values"
    )

    @model_validator(mode="after")
    def _fits(self) -> Range:
        self._check(
            self.start, self.to, ("from", "to"), self.scale == "log" or self.factor is not None
        )
        if self.factor and self.steps:
            raise InputError(
                "stands beside steps", key="factor", value=self.factor, remedy="Keep one of them."
            )
        if (
            self.factor
            and math.log(self.to.number / self.start.number) / math.log(self.factor) > MOST
        ):
            raise InputError(f"makes more than {MOST:,} values", key="factor", value=self.factor)
        return self

    def values(self, _: Random) -> list[Any]:
        """Return the values; a factor ends at the last one that is not beyond `to`."""
        low, high = self.start.number, self.to.number
        if self.factor:
            count = int(math.log(high / low) / math.log(self.factor) * (1 + 1e-12)) + 1
            numbers = [low * self.factor**step for step in range(count)]
        else:
            shares = [step / ((self.steps or STEPS) - 1) for step in range(self.steps or STEPS)]
            numbers = [
                low * (high / low) ** share if self.scale == "log" else low + (high - low) * share
                for share in shares
            ]
        return [_written(number, self.start.unit or self.to.unit) for number in numbers]


class Draws(_Spread):
    """Values drawn between two ends."""

    low: End = Field(description="no value is below it")
    high: End = Field(description="no value is above it")
    scale: Literal["linear", "log"] = Field("linear", description="log: every factor is as likely")
    count: int = Field(gt=0, le=MOST, description="how many values")

    @model_validator(mode="after")
    def _fits(self) -> Draws:
        self._check(self.low, self.high, ("low", "high"), self.scale == "log")
        return self

    def values(self, chance: Random) -> list[Any]:
        """Return the values in rising order."""
        low, high = self.low.number, self.high.number
        unit = self.low.unit or self.high.unit
        whole = not unit and isinstance(low, int) and isinstance(high, int)
        below, above = (low - 0.5, high + 0.5) if whole and self.scale == "linear" else (low, high)
        drawn = []
        for _ in range(self.count):
            share = chance.random()
            number = (
                low * (high / low) ** share
                if self.scale == "log"
                else below + (above - below) * share
            )
            drawn.append(min(max(round(number), low), high) if whole else number)
        return [_written(number, unit) for number in sorted(drawn)]


class _Random(_Spread):
    random: Draws = Field(description="how to draw")

    def values(self, chance: Random) -> list[Any]:
        """Return the values in rising order."""
        return self.random.values(chance)


def _written(number: float, unit: str) -> Any:
    """Return a number as a file would say it: to nine digits, whole where it is, with its unit."""
    rounded = float(f"{number:.9g}")
    plain: Any = int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded
    return f"{plain} {unit}" if unit else plain


def values(spec: Any, chance: Random) -> tuple[Any, ...]:
    """Return the values of an axis. chance: what random axes draw from. Errors: InputError, keys seen from the axis."""
    if isinstance(spec, Mapping):
        model: type[Range] | type[_Random] = _Random if "random" in spec else Range
        return tuple(inputs.validate(Document("", dict(spec), {}), model).values(chance))
    if isinstance(spec, str) and _RANGE.match(spec):
        return tuple(_range(spec))
    if not isinstance(spec, list):
        raise InputError(
            "is no axis",
            value=spec,
            remedy="Write a list, a range as '100 .. 900 GB/s "
            "bidirectional', {from:, to:, steps:}, or {random: {low:, high:, count:}}.",
        )
    if not spec:
        raise InputError("has no values", value="[]", remedy="Give at least one.")
    return tuple(value for item in spec for value in _items(item))


def _items(item: Any) -> list[Any]:
    return _range(item) if isinstance(item, str) and _RANGE.match(item) else [item]


def _range(text: str) -> list[Any]:
    match = _RANGE.match(text)
    if match is None:
        return []
    first, second = (
        Quantity(float(match[1]), match[2] or ""),
        Quantity(float(match[3]), match[4] or ""),
    )
    return Range(**{"from": first, "to": second}).values(Random(0))

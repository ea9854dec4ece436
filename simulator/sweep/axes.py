"""What an axis may say -> its values.

| a file says                                            | values                                  |
|--------------------------------------------------------|-----------------------------------------|
| `[8, 16, 32]`, `[1f1b, dualpipe]`                      | as written                              |
| `100 .. 900 GB/s bidirectional`, alone or in a list    | nine, evenly spaced                     |
| `{from: 100 GB/s per direction, to: ..., steps: 5}`    | five, evenly spaced                     |
| `{from: ..., to: ..., steps: 5, scale: log}`           | five, by equal factors                  |
| `{from: 8, to: 64, factor: 2}`                         | 8, 16, 32, 64                           |
| `{random: {low: 0, high: 1, scale: linear, count: 5}}` | five draws by the sweep's seed, sorted  |

Integers without a unit as ends draw integers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from simulator import inputs
from simulator.errors import InputError
from simulator.frozen import FINITE
from simulator.inputs import Document
from simulator.units import Integer, Number

STEPS = 9
"""Values of a range that does not say how many: 100 to 900 in hundreds."""
MOST = 100_000
"""Values that an axis may have."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_QUANTITY = re.compile(rf"^\s*({_NUMBER})\s*(\D.*?)?\s*$")
_RANGE = re.compile(rf"^\s*({_NUMBER})\s*(\D.*?)?\s*\.\.\s*({_NUMBER})\s*(\D.*?)?\s*$")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with the unit that follows it: `400` and `GB/s bidirectional`."""

    number: float
    """The number, in its own unit; an int where it was written as one."""
    unit: str = ""
    """The unit as written, empty for a bare number."""

    @classmethod
    def read(cls, value: object) -> Quantity:
        """Read `400 GB/s bidirectional`, `8`, or `0.5`. Errors: InputError."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls(value)
        match = None
        if isinstance(value, str):
            match = _QUANTITY.match(value)
        if match is None:
            raise InputError(
                "is not a number, with or without a unit",
                value=value,
                remedy="Write for example 8 or '50 us'.",
            )
        number, unit = match.groups()
        return cls(float(number), unit or "")


def _quantity(value: object) -> Quantity:
    if isinstance(value, Quantity):
        return value
    return Quantity.read(value)


End = Annotated[Quantity, BeforeValidator(_quantity)]


class _Ends(NamedTuple):
    """Two ends of an axis under the keys that a file has them by."""

    low_key: str
    """Key of the lower end, for messages."""
    low: Quantity
    """The lower end."""
    high_key: str
    """Key of the upper end."""
    high: Quantity
    """The upper end."""

    def check(self, *, log: bool) -> None:
        """Refuse unlike units, a wrong order, and logarithms of 0 or less. Errors: InputError."""
        # One end may leave the unit to the other.
        units = {self.low.unit, self.high.unit} - {""}
        if len(units) > 1:
            raise InputError(
                f"has another unit than {self.low_key}: {self.low.unit}",
                key=self.high_key,
                value=self.high.unit,
                remedy="Write both in one unit.",
            )
        if self.low.number >= self.high.number:
            raise InputError(
                f"is not above {self.low_key} {self.low.number:g}",
                key=self.high_key,
                value=self.high.number,
                remedy=f"Write {self.low_key} below {self.high_key}.",
            )
        if log and self.low.number <= 0:
            raise InputError(
                "has no logarithm",
                key=self.low_key,
                value=self.low.number,
                remedy="Write scale: linear, or begin above 0.",
            )

    def at(self, share: float, *, log: bool) -> float:
        """Return the number at a share of the way, 0 at the low end and 1 at the high one."""
        low, high = self.low.number, self.high.number
        if log:
            return float(low * (high / low) ** share)
        return low + (high - low) * share

    def written(self, number: float) -> Any:
        """Return a number as a file says it: nine digits, an int where it is one, with the unit."""
        # Nine digits hide how the number was computed: 0.1 + 0.2 is 0.3 in a name and in a table.
        rounded = float(f"{number:.9g}")
        # Beyond 1e15 a float need not be the integer that it looks like.
        is_integer = rounded.is_integer() and abs(rounded) < 1e15
        plain = int(rounded) if is_integer else rounded
        unit = self.low.unit or self.high.unit
        return f"{plain} {unit}" if unit else plain


class _Spread(BaseModel):
    model_config = FINITE | {"populate_by_name": True}


class Range(_Spread):
    """Values between two ends, both included."""

    start: End = Field(
        alias="from",
        description="The first value, with its unit if the key has one.",
        examples=[8, "100 GB/s per direction"],
    )
    to: End = Field(
        description="The last value, with its unit if the key has one.",
        examples=[64, "900 GB/s per direction"],
    )
    steps: Integer | None = Field(None, ge=2, le=MOST, description="Number of values; default: 9.")
    factor: Number | None = Field(
        None,
        gt=1,
        description="Ratio of each value to the one before it, instead of steps.",
        examples=[2],
    )
    scale: Literal["linear", "log"] = Field(
        "linear",
        description="Spacing of the values: equal differences (linear) or equal factors (log).",
    )

    @property
    def _ends(self) -> _Ends:
        return _Ends("from", self.start, "to", self.to)

    @model_validator(mode="after")
    def _fits(self) -> Range:
        # Equal factors do not reach from 0 or across it.
        log = self.scale == "log" or self.factor is not None
        self._ends.check(log=log)
        if self.factor is None:
            return self
        if self.steps:
            raise InputError(
                "cannot stand next to steps",
                key="factor",
                value=self.factor,
                remedy="Keep one of them.",
            )
        if self._factors() > MOST:
            rule = f"makes more than {MOST:,} values"
            raise InputError(rule, key="factor", value=self.factor)
        return self

    def _factors(self) -> float:
        """Return how many factors lie between the ends."""
        if self.factor is None:
            return 0.0
        ratio = self.to.number / self.start.number  # above 1, since ends of factors are positive
        return math.log(ratio) / math.log(self.factor)

    def values(self, _: Random) -> list[Any]:
        """Return the values; with a factor, those up to the last that is not beyond `to`."""
        return [self._ends.written(number) for number in self._numbers()]

    def _numbers(self) -> list[float]:
        if self.factor:
            # 8 x 2 x 2 x 2 is 64 although log 8 / log 2 may come out below 3.
            count = int(self._factors() * (1 + 1e-12)) + 1
            first = self.start.number
            return [first * self.factor**step for step in range(count)]
        steps = self.steps or STEPS
        gaps = steps - 1
        log = self.scale == "log"
        shares = [step / gaps for step in range(steps)]
        return [self._ends.at(share, log=log) for share in shares]


class Draws(_Spread):
    """Values drawn between two ends."""

    low: End = Field(
        description="Lower end of the draws, with its unit if the key has one.", examples=[0]
    )
    high: End = Field(
        description="Upper end of the draws, with its unit if the key has one.", examples=["50 us"]
    )
    scale: Literal["linear", "log"] = Field(
        "linear",
        description="What is uniform: the value (linear) or its logarithm (log).",
    )
    count: Integer = Field(gt=0, le=MOST, description="Number of values.")

    @property
    def _ends(self) -> _Ends:
        return _Ends("low", self.low, "high", self.high)

    @model_validator(mode="after")
    def _fits(self) -> Draws:
        self._ends.check(log=self.scale == "log")
        return self

    def values(self, chance: Random) -> list[Any]:
        """Return the values in rising order."""
        shares = [chance.random() for _ in range(self.count)]
        numbers = [self._draw(share) for share in shares]
        numbers.sort()
        return [self._ends.written(number) for number in numbers]

    def _draw(self, share: float) -> float:
        """Return the number that a uniform share in [0, 1) draws."""
        low, high = self.low.number, self.high.number
        number = self._ends.at(share, log=self.scale == "log")
        bare = not (self.low.unit or self.high.unit)
        integers = bare and isinstance(low, int) and isinstance(high, int)
        if not integers:
            return number
        if self.scale == "linear":
            # Half a step beyond both ends, so that these are as likely as the integers between.
            number = low - 0.5 + (high - low + 1) * share
        return min(max(round(number), low), high)


class _Random(_Spread):
    random: Draws = Field(description="How to draw the values.")

    def values(self, chance: Random) -> list[Any]:
        """Return the values in rising order."""
        return self.random.values(chance)


def values(spec: Any, chance: Random) -> tuple[Any, ...]:
    """Return the values of an axis.

    chance: what random axes draw from. Errors: InputError, with keys as seen from the axis.
    """
    if isinstance(spec, Mapping):
        model: type[Range | _Random] = _Random if "random" in spec else Range
        document = Document("", dict(spec), {})
        spread = inputs.validate(document, model)
        return tuple(spread.values(chance))
    if isinstance(spec, str) and _RANGE.match(spec):
        return tuple(_items(spec))
    if not isinstance(spec, list):
        raise InputError(
            "is not an axis",
            value=spec,
            remedy="Write a list, a range as '100 .. 900 GB/s bidirectional', "
            "{from:, to:, steps:}, or {random: {low:, high:, count:}}.",
        )
    if not spec:
        raise InputError("has no values", value="[]", remedy="Give at least one.")
    # An item of a list may be a range itself: ['1 .. 3 us', 10 us].
    items = [_items(item) for item in spec]
    return tuple(chain.from_iterable(items))


def _items(item: Any) -> list[Any]:
    """Return the values of `1 .. 9 us`, or the item itself where it is not a range."""
    match = None
    if isinstance(item, str):
        match = _RANGE.match(item)
    if match is None:
        return [item]
    # `100 .. 900 GB/s per direction`: the last unit serves both ends.
    low, low_unit, high, high_unit = match.groups()
    ends = {
        "from": Quantity(float(low), low_unit or ""),
        "to": Quantity(float(high), high_unit or ""),
    }
    return Range(**ends).values(Random(0))

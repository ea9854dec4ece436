"""Text with a unit <-> SI numbers. A bare number is refused where a unit is due.

| quantity  | inside                  | as text                                              |
|-----------|-------------------------|------------------------------------------------------|
| Bandwidth | B/s in one direction    | `400 GB/s bidirectional`, `50 GB/s per direction`    |
| Memory bandwidth | B/s              | `3.35 TB/s`                                          |
| Time      | s                       | `3.7 us`                                             |
| Size      | B                       | `80 GB`, `1 MiB`                                     |
| Rate      | FLOP/s                  | `989.4 TFLOP/s`                                      |
| Power     | W                       | `500 W`                                              |
| Price     | USD per GPU-hour        | `2 USD per GPU-hour`                                 |
| Dollars   | USD                     | `20000 USD`, `20 kUSD`                               |
| EnergyPrice | USD/J                 | `0.08 USD per kWh`                                   |
| Emissions | kg CO2e per J           | `0.4 kg per kWh`                                     |

Counts and ratios have no unit and are numbers: `Integer`, `Number`. A number given as text, or
true or false in its stead, is refused.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from simulator.errors import InputError, UnitError

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_BARE = re.compile(rf"\s*{_NUMBER}\s*")
_QUANTITY = re.compile(rf"^\s*{_NUMBER}\s*([^\W\d_].*?)\s*$")

_DECIMAL = {
    "": 1.0,
    "k": 1e3,
    "K": 1e3,  # not SI, but files say it
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
}
_BINARY = {
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}
_PREFIXES = _DECIMAL | _BINARY
SIZES = {f"{prefix}B": factor for prefix, factor in _PREFIXES.items()}
TIMES = {
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
BYTE_RATES = {f"{unit}/s": factor for unit, factor in SIZES.items()}
BIT_RATES = {f"{prefix}b/s": factor / 8 for prefix, factor in _DECIMAL.items()}
_RATES = BYTE_RATES | BIT_RATES
FLOP_RATES = {f"{prefix}FLOP/s": factor for prefix, factor in _DECIMAL.items()}
POWERS = {"W": 1.0, "kW": 1e3}
PRICES = {"USD per GPU-hour": 1.0}
SUMS = {"USD": 1.0, "kUSD": 1e3}
KWH = 3.6e6
"""A kilowatt-hour [J]."""
ENERGY_PRICES = {"USD per kWh": 1.0 / KWH}
EMISSIONS = {"kg per kWh": 1.0 / KWH}
# Links are full duplex: datasheets add both directions up.
DIRECTIONS = {"per direction": 1.0, "bidirectional": 0.5}


def parse(value: object, units: dict[str, float], example: str) -> float:
    """Return the SI value of text such as `80 GB`.

    units: unit -> factor to SI. example: a legal text, for the message. Errors: UnitError on
    anything else.
    """
    remedy = f"Write for example '{example}'."
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise UnitError("has no unit", value=str(value), remedy=remedy)
    text = str(value)
    # First the whole text: `_QUANTITY` would read the last letters of `1e5` as a unit.
    if _BARE.fullmatch(text):
        raise UnitError("has no unit", value=value, remedy=remedy)
    match = _QUANTITY.match(text)
    if match is None:
        raise UnitError("is not a number with a unit", value=value, remedy=remedy)
    number, unit = match.groups()
    if unit not in units:
        known = ", ".join(list(units)[:8])
        raise UnitError(
            f"has the unit '{unit}', which is none of {known}", value=value, remedy=remedy
        )
    result = float(number) * units[unit]
    if not 0 <= result < math.inf:
        raise UnitError("is negative or not finite", value=value, remedy=remedy)
    return result


def bandwidth(value: object) -> float:
    """Return a link's bandwidth in one direction [B/s].

    The text must say which direction it counts.
    """
    text = str(value).strip()
    # A figure without its direction is off by 2 half of the time, hence no default.
    words = next(filter(text.endswith, DIRECTIONS), "")
    amount = text.removesuffix(words).strip()
    if re.fullmatch(_NUMBER, amount):
        raise _bare_bandwidth(text, float(amount), words)
    direction = words or "per direction"
    try:
        rate = parse(amount, _RATES, f"50 GB/s {direction}")
    except UnitError as error:
        raise UnitError(error.rule, value=text, remedy=error.remedy) from error
    if words:
        return DIRECTIONS[words] * rate
    raise UnitError(
        "does not say which direction it counts",
        value=text,
        remedy=f"Write '{text} per direction', or '{text} bidirectional' for the sum of both.",
    )


def _bare_bandwidth(text: str, amount: float, words: str) -> UnitError:
    """Return the complaint of a bandwidth without a unit.

    words: the direction that it names, if any.
    """
    # Without a direction the number is taken for the sum of both, as datasheets count.
    one_way = amount if words == "per direction" else amount / 2
    both = 2 * one_way
    remedy = "Write for example '400 GB/s bidirectional'."
    if amount >= 0:
        remedy = (
            f"Write '{both:g} GB/s bidirectional' (as datasheets do) "
            f"or '{one_way:g} GB/s per direction'."
        )
    return UnitError("has no unit", value=text, remedy=remedy)


def memory_bandwidth(value: object) -> float:
    """Return a memory bandwidth [B/s]."""
    return parse(value, BYTE_RATES, "3.35 TB/s")


def seconds(value: object) -> float:
    """Return a time [s]."""
    return parse(value, TIMES, "3.7 us")


def size(value: object) -> float:
    """Return a size [B]."""
    return parse(value, SIZES, "80 GB")


def flop_rate(value: object) -> float:
    """Return a compute rate [FLOP/s]."""
    return parse(value, FLOP_RATES, "989.4 TFLOP/s")


def power(value: object) -> float:
    """Return a power [W]."""
    return parse(value, POWERS, "500 W")


def price(value: object) -> float:
    """Return a price [USD per GPU-hour]."""
    return parse(value, PRICES, "2 USD per GPU-hour")


def dollars(value: object) -> float:
    """Return a sum of money [USD]."""
    return parse(value, SUMS, "20000 USD")


def energy_price(value: object) -> float:
    """Return the price of energy [USD/J]."""
    return parse(value, ENERGY_PRICES, "0.08 USD per kWh")


def emissions(value: object) -> float:
    """Return what energy emits [kg CO2e per J]."""
    return parse(value, EMISSIONS, "0.4 kg per kWh")


def integer(value: object) -> int:
    """Return an integer that is given as one: not as text, not as 8.0. Errors: InputError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip()
    remedy = "Write a number without quotes, for example 8."
    if isinstance(value, float):
        remedy = "Write a number without decimals."
        if value.is_integer():
            remedy = f"Write {value:.0f}."
    elif text.isdigit():
        remedy = f"Write {text} without quotes."
    raise InputError("is not an integer", value=value, remedy=remedy)


def number(value: object) -> float:
    """Return a finite number that is given as one, not as text. Errors: InputError."""
    # Python takes true and false for numbers.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(
            "is not a number", value=value, remedy="Write it without quotes, for example 1.5."
        )
    if not math.isfinite(value):
        raise InputError("is not finite", value=value, remedy="Write for example 1.5.")
    return float(value)


def _text(title: str, units: dict[str, float], example: str, *endings: str) -> WithJsonSchema:
    """Return what a JSON schema says of a quantity: text of a number, a unit and an ending.

    The pattern holds in ECMA's dialect of regular expressions too, which editors use.
    """
    # `re.escape` escapes spaces too, which ECMA's dialect refuses.
    escaped = [re.escape(unit).replace(r"\ ", " ") for unit in units]
    unit = "|".join(escaped)
    end = ""
    if endings:
        words = "|".join(endings)
        end = rf"\s+({words})"
    number = r"\+?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
    pattern = rf"^\s*{number}\s*({unit}){end}\s*$"
    return WithJsonSchema(
        {"type": "string", "title": title, "pattern": pattern, "examples": [example]}
    )


Integer = Annotated[int, BeforeValidator(integer)]
Number = Annotated[float, BeforeValidator(number)]
Bandwidth = Annotated[
    float,
    BeforeValidator(bandwidth),
    _text("bandwidth", _RATES, "400 GB/s bidirectional", *DIRECTIONS),
]
MemoryBandwidth = Annotated[
    float, BeforeValidator(memory_bandwidth), _text("memory bandwidth", BYTE_RATES, "3.35 TB/s")
]
Seconds = Annotated[float, BeforeValidator(seconds), _text("time", TIMES, "3.7 us")]
Bytes = Annotated[float, BeforeValidator(size), _text("size", SIZES, "80 GB")]
FlopRate = Annotated[
    float, BeforeValidator(flop_rate), _text("compute rate", FLOP_RATES, "989.4 TFLOP/s")
]
Power = Annotated[float, BeforeValidator(power), _text("power", POWERS, "500 W")]
Price = Annotated[float, BeforeValidator(price), _text("price", PRICES, "2 USD per GPU-hour")]
Dollars = Annotated[float, BeforeValidator(dollars), _text("sum of money", SUMS, "20000 USD")]
EnergyPrice = Annotated[
    float, BeforeValidator(energy_price), _text("energy price", ENERGY_PRICES, "0.08 USD per kWh")
]
Emissions = Annotated[
    float, BeforeValidator(emissions), _text("emissions", EMISSIONS, "0.4 kg per kWh")
]


# Units in which numbers are printed, from the largest to the smallest.
_TIME_STEPS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SIZE_STEPS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1.0}
_BINARY_STEPS = {
    "TiB": 2.0**40,
    "GiB": 2.0**30,
    "MiB": 2.0**20,
    "KiB": 2.0**10,
    "B": 1.0,
}
_RATE_STEPS = {f"{unit}/s": factor for unit, factor in _SIZE_STEPS.items()}


def _scaled(value: float, steps: dict[str, float]) -> str:
    """Return a number in the largest unit of which it is one at least, zero in the SI unit."""
    if not value:
        si_unit = next(unit for unit, factor in steps.items() if factor == 1.0)
        return f"0 {si_unit}"
    fitting = [unit for unit, factor in steps.items() if abs(value) >= factor]
    unit = fitting[0] if fitting else list(steps)[-1]
    scaled = value / steps[unit]
    return f"{scaled:.4g} {unit}"


def format_seconds(value: float) -> str:
    """Print a time so that `seconds` reads it back (to four digits)."""
    return _scaled(value, _TIME_STEPS)


def format_bytes(value: float) -> str:
    """Print a size so that `size` reads it back (to four digits)."""
    return _scaled(value, _SIZE_STEPS)


def format_binary(value: float) -> str:
    """Print a size in powers of 1,024 so that `size` reads it back (to four digits)."""
    return _scaled(value, _BINARY_STEPS)


def format_bandwidth(value: float) -> str:
    """Print a bandwidth in one direction so that `bandwidth` reads it back (to four digits)."""
    text = _scaled(value, _RATE_STEPS)
    return f"{text} per direction"


def format_value(value: Any) -> str:
    """Return a value on one line; of a long list its ends."""
    if isinstance(value, list | tuple) and len(value) > 2:
        first, second, *_, last = value
        return f"{first} | {second} | ... | {last}"
    return str(value)

"""The package `simulator` under the name of its distribution and command.

    from simulate import InputError, load, lower, run, summarise

It has the public names alone. Submodules are imported from `simulator`: under a second name, their
classes would be others, and `except simulate.errors.InputError` would catch nothing.

The wheel holds this folder as `simulate`; a checkout that is not installed has `simulator` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import simulator
from simulator import __version__

if TYPE_CHECKING:
    from simulator import (
        EngineError,
        InputError,
        LayoutError,
        ScheduleError,
        SimulateError,
        UnitError,
        load,
        lower,
        run,
        summarise,
    )

__all__ = [
    "EngineError",
    "InputError",
    "LayoutError",
    "ScheduleError",
    "SimulateError",
    "UnitError",
    "__version__",
    "load",
    "lower",
    "run",
    "summarise",
]


def __getattr__(name: str) -> Any:
    # Names are imported at first use, as in `simulator` itself.
    if name not in __all__:
        raise AttributeError(f"module 'simulate' has no attribute {name!r}")
    return getattr(simulator, name)

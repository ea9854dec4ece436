"""The package `simulator` under the name of its distribution and command.

    from simulate import load, lower, run, summarise

The wheel holds this folder as `simulate`; a checkout that is not installed has `simulator` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import simulator
from simulator import __version__

if TYPE_CHECKING:
    from simulator import load, lower, run, summarise

__all__ = ["__version__", "load", "lower", "run", "summarise"]


def __getattr__(name: str) -> Any:
    # The verbs are imported at first use, as in `simulator` itself.
    if name not in __all__:
        raise AttributeError(f"module 'simulate' has no attribute {name!r}")
    return getattr(simulator, name)

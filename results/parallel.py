"""Many cases on the processes of this machine: results of cases do not depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Found = TypeVar("Found")


def spread(function: Callable[[Given], Found], items: Iterable[Given]) -> list[Found]:
    """Return what a function of a module makes of each item, in the order of the items."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(function, items))

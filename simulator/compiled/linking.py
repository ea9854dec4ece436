"""Plain functions compiled with all plain functions that they call, on their own copies.

Uncompiled, the same functions run in Python, so that one source serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple, TypeVar, cast

from simulator.compiled.numba_cache import inner, outer

Function = TypeVar("Function", bound=Callable[..., Any])


@cache
def with_callees(function: Function) -> Function:
    """Compile a plain function, and the plain functions that it calls, on their own copies.

    For what is worth compiling only sometimes: uncompiled, the same functions run in Python.
    """
    return cast(Function, outer(linked(function)))


def linked(function: Any, **options: Any) -> Any:
    """Return a copy of a function that sees compiled copies of the plain functions that it calls.

    options: numba's, for all of these.
    """
    return _Linker(options).copy(function)


def called(function: FunctionType) -> dict[str, FunctionType]:
    """Return name -> the plain functions that a function may call: of its names those that stand for one."""
    known = function.__globals__
    found = {}
    for name in function.__code__.co_names:
        callee = known.get(name)
        if isinstance(callee, FunctionType) and callee is not function:
            found[name] = callee
    return found


def constants(function: FunctionType) -> dict[str, float]:
    """Return name -> the numbers outside of a function that are compiled into it."""
    known = function.__globals__
    numbers = {name: known.get(name) for name in sorted(function.__code__.co_names)}
    return {name: value for name, value in numbers.items() if isinstance(value, int | float)}


def closure(function: FunctionType) -> Iterator[FunctionType]:
    """Yield a function and all that it may call, directly or through others, each once."""
    seen = {function: None}
    waiting = [function]
    while waiting:
        one = waiting.pop()
        yield one
        fresh = [callee for callee in called(one).values() if callee not in seen]
        seen.update(dict.fromkeys(fresh))
        waiting += fresh


class _Linker:
    """Copies of functions, one of each: what two functions call is compiled once."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.compiled: dict[FunctionType, Any] = {}

    def copy(self, function: Any) -> Any:
        """Return a copy of a function that sees compiled ones."""
        copy, known = _copied(function)
        self._fill(known, function)
        return copy

    def _compile(self, function: FunctionType) -> Any:
        if function not in self.compiled:
            # Known before its callees are looked at: a name may be that of a field as well as of a
            # function that leads back here.
            copy, known = _copied(function)
            self.compiled[function] = inner(copy, **self.options)
            self._fill(known, function)
        return self.compiled[function]

    def _fill(self, known: dict[str, Any], function: FunctionType) -> None:
        for name, callee in called(function).items():
            known[name] = self._compile(callee)


class _Copy(NamedTuple):
    """A copy of a function."""

    function: FunctionType
    """Itself."""
    known: dict[str, Any]
    """What it sees outside of itself."""


def _copied(function: Any) -> _Copy:
    known = dict(function.__globals__)
    copy = FunctionType(function.__code__, known, function.__name__, function.__defaults__)
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return _Copy(copy, known)

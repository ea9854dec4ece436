"""Every error that simulate raises on purpose.

SimulateError              base of the tree; exit status 1
├── InputError             what the user gave is wrong; exit status 2
│   ├── UnitError          a quantity without a unit, or with the wrong one
│   ├── LayoutError        degrees, stages or groups that fit neither cluster nor model
│   └── ScheduleError      a schedule that misses, repeats or deadlocks actions
└── EngineError            the executor stopped with work left; a fault of the program
"""

from __future__ import annotations

from typing import Any


def leave_out(key: str) -> str:
    """Return the remedy for a key that may be left out."""
    return f"Leave it out: --set {key}=null removes it."


class SimulateError(Exception):
    """Base of every error that simulate raises on purpose."""


class InputError(SimulateError, ValueError):
    """Say which value broke which rule, and what to write instead.

    rule: what is wrong, as a clause that follows the value. remedy: one sentence. Where it arose
    (file, line, key) is filled in by whoever knows it, with `at`.
    """

    def __init__(
        self,
        rule: str,
        *,
        value: object = None,
        remedy: str = "",
        key: str = "",
        file: str = "",
        line: int = 0,
    ) -> None:
        super().__init__(rule)
        self.rule, self.value, self.remedy = rule, value, remedy
        self.file, self.line, self.key = file, line, key

    def at(self, *, file: str = "", line: int = 0, key: str = "") -> InputError:
        """Return the same error with what it does not know yet of where it arose."""
        self.file = self.file or file
        self.line = self.line or line
        self.key = self.key or key
        return self

    def __str__(self) -> str:
        position = f"{self.file}:{self.line}" if self.file and self.line else self.file
        head = "".join(f"{part}: " for part in (position, self.key) if part)
        value = "" if self.value is None else f"{self.value!r} "
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{head}{value}{self.rule.rstrip('.')}.{remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.rule, self.__dict__.copy()))


def _rebuild(kind: type[InputError], rule: str, state: dict[str, Any]) -> InputError:
    error = kind(rule)
    error.__dict__.update(state)
    return error


class UnitError(InputError):
    """A quantity without a unit, or with one of another dimension."""


class LayoutError(InputError):
    """Degrees, stages or groups that do not fit the cluster or the model."""


class ScheduleError(InputError):
    """A schedule that misses, repeats or deadlocks actions, or that cannot be built."""

    places: tuple[tuple[int, int], ...] = ()
    """(rank, position) of the actions that it is about."""


class EngineError(SimulateError):
    """The executor stopped with work left."""

"""What was not published: the step with every alternative to what a workload assumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulator.engine import run
from simulator.errors import InputError
from simulator.program import lower
from simulator.progress import doing
from simulator.scenario import Assumption, Scenario, variants
from simulator.units import format_value


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another value of an assumed key."""

    value: str
    """The value on one line."""
    step_time: float | None
    """The step with it [s]; None where it does not fit the rest of the scenario."""


@dataclass(frozen=True, slots=True)
class Span:
    """An assumed key and what else it could have been."""

    key: str
    """Path of the key in the workload's file."""
    value: str
    """The assumed value on one line."""
    rule: str
    """Why this value, without a look at the result."""
    alternatives: tuple[Alternative, ...] = ()
    """The other values."""


@doing("alternatives")
def spans(scenario: Scenario) -> tuple[Span, ...]:
    """Return every assumption of a scenario with the step time of each alternative."""
    assumptions = scenario.workload.assumed
    return tuple(_span(scenario, assumption) for assumption in assumptions)


def _span(scenario: Scenario, assumption: Assumption) -> Span:
    # One key at a time: all combinations would take a step each, and no reader could tell them apart.
    alternatives = []
    for value, variant in variants(scenario, assumption):
        step_time = None
        if variant:
            with doing(f"{assumption.key} {format_value(value)}"):
                step_time = run(lower(variant)).step_time
        alternatives.append(Alternative(format_value(value), step_time))
    assumed = _value(scenario, assumption.key)
    return Span(
        key=assumption.key,
        value=format_value(assumed),
        rule=assumption.rule,
        alternatives=tuple(alternatives),
    )


def _value(scenario: Scenario, path: str) -> Any:
    """Return the value of a key of the workload. Errors: InputError if it has no such key."""
    # Of the configuration, not of the file: a default may be what is assumed.
    value: Any = scenario.workload.model_dump(mode="json")
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            raise InputError("is not a key of this file", key="assumed", value=path)
        value = value[key]
    return value

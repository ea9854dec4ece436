"""The constants of profiles as one tree: datasheet, kernel table, host, stack and links of a scenario.

A place in the tree is a path of keys as the data files have them. Everything below a place can be
scaled at once, so that what a run does not use is found without a run for each constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from pydantic import BaseModel

from simulator.scenario import Scenario
from simulator.topology import network

Path: TypeAlias = tuple[str, ...]
"""Keys from the root: part of the scenario, then those of its file."""
PARTS = ("gpu", "kernels", "host", "stack")
"""Parts of a scenario that are data files of their own."""
LINKS: tuple[Path, ...] = (
    ("topology", "node", "nvlink"),
    ("topology", "node", "nic"),
    ("topology", "node", "pcie"),
    ("topology", "node", "nvlink_latency"),
    ("topology", "fabric", "latency"),
    ("topology", "fabric", "leaf_latency"),
)
"""What a topology says of its links; what else it says are counts and names."""


def places(scenario: Scenario) -> tuple[Path, ...]:
    """Return where to begin: every part, and every constant of links that a cluster has."""
    parts = [(part,) for part in PARTS if _holds_any(getattr(scenario, part))]
    links = [path for path in LINKS if _is_constant(_at(scenario, path))]
    return (*parts, *links)


def below(scenario: Scenario, path: Path) -> tuple[Path, ...]:
    """Return the places right below one that hold constants; nothing below a constant."""
    value = _at(scenario, path)
    if _is_constant(value) or _is_curve(value):
        return ()
    return tuple((*path, key) for key, inner in _items(value) if _holds_any(inner))


def scaled(scenario: Scenario, path: Path, factor: float) -> Scenario:
    """Return a scenario with every constant at and below a place scaled. What validates is not asked."""
    part, *keys = path
    value = _scaled_at(getattr(scenario, part), tuple(keys), factor)
    changed: Scenario = replace(scenario, **{part: value})
    if part == "topology":
        return replace(changed, network=network(changed.topology))
    return changed


def shown(scenario: Scenario, path: Path) -> str:
    """Return a place as people find it: the kind of file and its name, then the key."""
    part, *keys = path
    name = getattr(scenario, part).name
    folder = {"gpu": "gpus", "host": "hosts", "stack": "stacks"}.get(part, part)
    return f"{folder}/{name}: {'.'.join(keys)}"


def constant(scenario: Scenario, path: Path) -> float:
    """Return a constant in SI; the mean of a curve."""
    value = _at(scenario, path)
    if _is_curve(value):
        return float(sum(value.values()) / len(value))
    return float(value)


def _at(scenario: Scenario, path: Path) -> Any:
    part, *keys = path
    value = getattr(scenario, part)
    for key in keys:
        value = dict(_items(value))[key]
    return value


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a model or a table holds, by key."""
    if isinstance(value, BaseModel):
        for key in type(value).model_fields:
            yield key, getattr(value, key)
    elif isinstance(value, Mapping) and not _is_curve(value):
        for key, inner in value.items():
            yield str(key), inner


def _is_constant(value: Any) -> bool:
    """Tell whether a value is a measured number: integers count things, and nothing stays nothing."""
    return isinstance(value, float) and value != 0.0


def _is_curve(value: Any) -> bool:
    """Tell whether a value is a table over numbers, such as rates by the length of a kernel."""
    if not isinstance(value, Mapping) or not value:
        return False
    over_numbers = all(isinstance(key, int | float) for key in value)
    return over_numbers and all(isinstance(inner, float) for inner in value.values())


def _holds_any(value: Any) -> bool:
    if _is_constant(value) or _is_curve(value):
        return True
    return any(_holds_any(inner) for _, inner in _items(value))


def _scaled_at(value: Any, keys: Path, factor: float) -> Any:
    """Return a value with what lies at and below some keys scaled."""
    if not keys:
        return _scaled(value, factor)
    first, rest = keys[0], keys[1:]
    inner = _scaled_at(dict(_items(value))[first], rest, factor)
    if isinstance(value, BaseModel):
        return value.model_copy(update={first: inner})
    return {key: inner if str(key) == first else other for key, other in value.items()}


def _scaled(value: Any, factor: float) -> Any:
    if _is_constant(value):
        return value * factor
    if isinstance(value, BaseModel):
        return value.model_copy(
            update={key: _scaled(inner, factor) for key, inner in _items(value)}
        )
    if isinstance(value, Mapping):
        return {key: _scaled(inner, factor) for key, inner in value.items()}
    return value

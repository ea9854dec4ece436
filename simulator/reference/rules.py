"""Which keys go together, as conditions of a JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from simulator.experts.config import USES
from simulator.reference.nodes import Node
from simulator.topology import FABRICS
from simulator.topology.faults import EFFECTS


def _when(key: str, value: str, then: Node) -> Node:
    """Return the condition that what follows holds where a key has a value."""
    # `required` too: a schema's `properties` hold of a key that is not there.
    condition = {"properties": {key: {"const": value}}, "required": [key]}
    return {"if": condition, "then": then}


def _without(keys: Iterable[str]) -> Node:
    return {"properties": dict.fromkeys(sorted(keys), False)}


def _one_of(keys: Sequence[str]) -> Node:
    """Return the condition that exactly one of some keys is there."""
    return {"oneOf": [{"required": [key]} for key in keys]}


def fabric() -> list[Node]:
    """Return for each family of fabrics the keys that it needs, and the other families' keys as refused."""
    special = {key for family in FABRICS.values() for key in family.keys}
    rules = []
    for kind, family in FABRICS.items():
        then = _without(special - set(family.keys))
        if family.needs:
            then["required"] = list(family.needs)
        rules.append(_when("kind", kind, then))
    return rules


def fault() -> list[Node]:
    """Return that a fault has one part, and the effects that a part can have."""
    every = {effect for effects in EFFECTS.values() for effect in effects}
    rules = [_one_of(list(EFFECTS))]
    for part, effects in EFFECTS.items():
        own: Node = _without(every - effects)
        own["anyOf"] = [{"required": [effect]} for effect in sorted(effects)]
        condition = {"required": [part]}
        rules.append({"if": condition, "then": own})
    return rules


def experts() -> list[Node]:
    """Return for each distribution of experts the one key that it needs, and the others' as refused."""
    special = {key for keys in USES.values() for key in keys}
    rules = []
    for name, keys in USES.items():
        then = _without(special - set(keys))
        if keys:
            then |= _one_of(keys)
        rules.append(_when("distribution", name, then))
    # Left out, the distribution is balanced, which has no key of its own.
    left_out = _without(["distribution"])
    rules.append({"if": left_out, "then": _without(special)})
    return rules


def sweep() -> list[Node]:
    """Return that random sweeps need a number of points, and that only they have one."""
    rule = _when("mode", "random", {"required": ["points"]})
    return [rule | {"else": _without(["points"])}]


RULES: Mapping[str, Callable[[], list[Node]]] = {
    "Fabric": fabric,
    "Fault": fault,
    "ExpertsConfig": experts,
    "SweepConfig": sweep,
}
"""Configuration -> its conditions."""

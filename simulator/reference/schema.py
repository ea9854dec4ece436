"""Configurations -> JSON schemas (draft 2020-12) of the files, as editors and other tools read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from simulator.errors import InputError
from simulator.layout.config import DIMENSIONS, STAGE_RULES
from simulator.model import ModelConfig
from simulator.reference import models, sweeps
from simulator.reference.names import CHOICES
from simulator.reference.rules import RULES, Node
from simulator.scenario import WorkloadConfig
from simulator.sweep.config import SweepConfig
from simulator.topology import TopologyConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_HOME = "https://raw.githubusercontent.com/simulate-training/simulate/main/simulator/data/schemas"
_LIMITS = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
}
"""Limits that pydantic leaves in its own words next to a validator -> JSON schema's."""


class _Untitled(GenerateJsonSchema):
    """Pydantic's schemas without titles made from the names of fields: a quantity's says what it is."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Say no."""
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        """Leave out defaults that are groups of keys: each key has its own."""
        tree = super().default_schema(schema)
        if isinstance(tree.get("default"), dict):
            del tree["default"]
        return tree


def schema(kind: str) -> Node:
    """Return the JSON schema of a kind of file. Errors: InputError on an unknown kind."""
    if kind not in KINDS:
        raise InputError(
            "is not a kind of file with a schema", value=kind, remedy=f"Known: {', '.join(KINDS)}."
        )
    tree = KINDS[kind]()
    head = {"$schema": DIALECT, "$id": f"{_HOME}/{kind}.json", "title": f"simulate: a {kind}"}
    return head | {key: value for key, value in tree.items() if key != "title"}


@cache
def _topology() -> Node:
    return _of(TopologyConfig)


@cache
def _workload() -> Node:
    tree = _of(WorkloadConfig)
    keys = tree["properties"]
    keys["model"] = models.group(keys["model"], _of(ModelConfig))
    layout = tree["$defs"]["LayoutConfig"]["properties"]
    # YAML reads a stage of one layer as a number.
    stage = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    by_hand = {"type": "array", "items": stage, "minItems": 1}
    layout["stages"]["anyOf"] = [{"enum": list(STAGE_RULES)}, by_hand]
    one = f"({'|'.join(DIMENSIONS)})"
    layout["order"]["pattern"] = rf"^{one}(-{one}){{{len(DIMENSIONS) - 1}}}$"
    return tree


@cache
def _sweep() -> Node:
    tree = _of(SweepConfig)
    files = {"topology": _topology(), "workload": _workload()}
    for file in files.values():
        tree["$defs"] |= file["$defs"]
    tree["$defs"]["Axis"] = sweeps.axis()
    known = dict(sweeps.paths(files))
    keys = tree["properties"]
    keys["set"] = sweeps.fixed(keys["set"]["description"], known)
    keys["axes"] = sweeps.axes(keys["axes"]["description"], known)
    return tree


KINDS: Mapping[str, Callable[[], Node]] = {
    "topology": _topology,
    "workload": _workload,
    "sweep": _sweep,
}
"""Kind of file -> its schema."""


def _of(model: type[BaseModel]) -> Node:
    """Return the schema of a configuration, with the names of tables and the rules between keys."""
    tree = model.model_json_schema(schema_generator=_Untitled)
    for node in _nodes(tree):
        _translate(node)
    tree.setdefault("$defs", {})
    for name, group in {model.__name__: tree, **tree["$defs"]}.items():
        group.pop("title", None)
        group["description"] = " ".join(group["description"].split())
        for key, node in group["properties"].items():
            names = CHOICES.get(f"{name}.{key}")
            if names:
                node.get("items", node)["enum"] = list(names())
        if name in RULES:
            group["allOf"] = RULES[name]()
    return tree


def _nodes(tree: Any) -> Iterator[Node]:
    """Yield every mapping of a tree."""
    if isinstance(tree, dict):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(value, dict | list):
            yield from _nodes(value)


def _translate(node: Node) -> None:
    """Write limits in JSON schema's words, and drop those of quantities, whose text has none."""
    for own, theirs in _LIMITS.items():
        if own not in node:
            continue
        limit = node.pop(own)
        if node.get("type") in ("integer", "number"):
            node[theirs] = limit

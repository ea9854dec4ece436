"""Configurations -> JSON schemas (draft 2020-12) of the files, as editors and other tools read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from simulator.campaign import CampaignConfig
from simulator.errors import InputError
from simulator.layout.config import DIMENSIONS, STAGE_RULES
from simulator.model import ModelConfig
from simulator.reference import models, sweeps
from simulator.reference.names import CHOICES
from simulator.reference.nodes import Node, without
from simulator.reference.rules import RULES
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
        known = ", ".join(KINDS)
        raise InputError(
            "is not a kind of file with a schema", value=kind, remedy=f"Choose from: {known}."
        )
    head = {
        "$schema": DIALECT,
        "$id": f"{_HOME}/{kind}.json",
        "title": f"simulate: a {kind}",
    }
    return head | KINDS[kind]()


@cache
def _topology() -> Node:
    return _of(TopologyConfig)


@cache
def _workload() -> Node:
    tree = _of(WorkloadConfig)
    keys = tree["properties"]
    keys["model"] = models.group(keys["model"], _of(ModelConfig))
    # Pydantic cannot see what validators of ours take before it looks.
    layout = tree["$defs"]["LayoutConfig"]["properties"]
    layout["stages"]["anyOf"] = _stages()
    layout["order"]["pattern"] = _order()
    return tree


def _stages() -> list[Node]:
    """Return the forms of `layout.stages`: a rule, or the blocks of each stage."""
    # YAML reads a stage of one layer as a number.
    stage = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    by_hand = {"type": "array", "items": stage, "minItems": 1}
    return [{"enum": list(STAGE_RULES)}, by_hand]


def _order() -> str:
    """Return the pattern of `layout.order`: as many dimensions as there are. That none repeats, the loader checks."""
    name = f"({'|'.join(DIMENSIONS)})"
    others = len(DIMENSIONS) - 1
    return rf"^{name}(-{name}){{{others}}}$"


@cache
def _sweep() -> Node:
    tree = _of(SweepConfig)
    defs = tree["$defs"]
    files = {"topology": _topology(), "workload": _workload()}
    for file in files.values():
        defs |= file["$defs"]
    # Every path refers to one definition of an axis; values in `set` are the keys' own schemas.
    defs["Axis"] = sweeps.axis()
    known = dict(sweeps.paths(files))
    keys = tree["properties"]
    keys["set"] = sweeps.fixed(keys["set"]["description"], known)
    keys["axes"] = sweeps.axes(keys["axes"]["description"], known)
    return tree


@cache
def _campaign() -> Node:
    tree = _of(CampaignConfig)
    files = {"topology": _topology(), "workload": _workload()}
    known = dict(sweeps.paths(files))
    defs = tree["$defs"]
    for file in files.values():
        defs |= file["$defs"]
    # One definition for all spans: it holds every key of both files.
    own = defs["SpanConfig"]["properties"]["set"]
    defs["Sets"] = sweeps.fixed(own["description"], known)
    for name in ("SpanConfig", "TrainConfig"):
        defs[name]["properties"]["set"] = own | {"$ref": "#/$defs/Sets"}
    return tree


KINDS: Mapping[str, Callable[[], Node]] = {
    "topology": _topology,
    "workload": _workload,
    "sweep": _sweep,
    "campaign": _campaign,
}
"""Kind of file -> its schema."""


def _of(model: type[BaseModel]) -> Node:
    """Return the schema of a configuration, with the names of tables and the rules between keys."""
    tree = model.model_json_schema(schema_generator=_Untitled)
    # First everywhere, then group by group: what stands in tables needs no translation.
    for node in _nodes(tree):
        _translate(node)
    defs = tree.pop("$defs", {})
    groups = {name: _completed(name, group) for name, group in defs.items()}
    return _completed(model.__name__, tree) | {"$defs": groups}


def _completed(name: str, group: Node) -> Node:
    """Return a configuration's group of keys with what stands in tables. name: of the configuration."""
    for key, node in group["properties"].items():
        names = CHOICES.get(f"{name}.{key}")
        if names:
            # Of a list, each item is one of the names.
            value = node.get("items", node)
            value["enum"] = list(names())
    rules = {"allOf": RULES[name]()} if name in RULES else {}
    one_line = " ".join(group["description"].split())
    return without(group, ["title"]) | rules | {"description": one_line}


def _nodes(tree: Any) -> Iterator[Node]:
    """Yield every mapping of a tree."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _translate(node: Node) -> None:
    """Write limits in JSON schema's words, and drop those of quantities, whose text has none."""
    for own, theirs in _LIMITS.items():
        if own not in node:
            continue
        limit = node.pop(own)
        if node.get("type") in ("integer", "number"):
            node[theirs] = limit

"""The keys of a model: Hugging Face's, inline or in place of those of a `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.model import FAMILIES, NOT_YET, UNREAD
from simulator.reference.rules import Node

UNLISTED = "unlisted"
"""`$comment` of what a key reference leaves out: keys that are not read, and paths of other files' keys."""


def group(node: Node, keys: Node) -> Node:
    """Return the schema of a workload's `model`.

    node: as its configuration has it, without keys. keys: the schema of `ModelConfig`, any key of
    which may be missing or null.
    """
    file = {
        "description": "Hugging Face's config.json: its path relative to this file, or its keys.",
        "examples": ["models/deepseek-v3.json"],
        "anyOf": [{"type": "string"}, {"type": "object"}],
    }
    return {
        "description": node["description"],
        "examples": node["examples"],
        "type": "object",
        "minProperties": 1,
        "properties": {"hf_config": file} | _properties(keys["properties"]),
        "additionalProperties": False,
    }


def _properties(own: Mapping[str, Node]) -> dict[str, Node]:
    """Return the keys of models: ours, those of single families, and those that are not read."""
    result = {key: _nullable(node) for key, node in own.items()}
    renames = {(theirs, ours) for row in FAMILIES.values() for theirs, ours in row.renames.items()}
    for theirs, ours in sorted(renames):
        result[theirs] = _renamed(theirs, ours, own[ours])
    for key in UNREAD:
        text = "Not read: no cost depends on it."
        result.setdefault(key, {"description": text, "$comment": UNLISTED})
    for key, remedy in NOT_YET.items():
        text = f"Changes the cost, and is not simulated. {remedy.format(key=key)}"
        result.setdefault(key, {"description": text, "$comment": UNLISTED})
    return result


def _renamed(theirs: str, ours: str, node: Node) -> Node:
    """Return the key under which files of some families have one of ours."""
    families = [kind for kind, row in FAMILIES.items() if kind and theirs in row.renames]
    text = f"Name of {ours} in files of {', '.join(families)}."
    kept = {key: value for key, value in node.items() if key != "default"}
    return _nullable(kept | {"description": text})


def _nullable(node: Mapping[str, Any]) -> Node:
    """Return a key that may be null as well, its description and default outside of the choice."""
    outside = ("description", "default", "examples")
    inner = {key: value for key, value in node.items() if key not in outside}
    choice = {"anyOf": [inner, {"type": "null"}]}
    return {key: node[key] for key in outside if key in node} | choice

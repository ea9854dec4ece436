"""The keys of a model: Hugging Face's, inline or in place of those of a `config.json`."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.model import FAMILIES, NOT_YET, UNREAD
from simulator.reference.nodes import Node, unlisted, without

_OUTSIDE = ("description", "default", "examples")
"""Words of a key that stand next to the choice of its forms, not in one of them."""


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
    for theirs, ours in sorted(_renames()):
        result[theirs] = _renamed(theirs, ours, own[ours])
    not_read = dict.fromkeys(UNREAD, "Not read: no cost depends on it.")
    for key, remedy in NOT_YET.items():
        what_to_do = remedy.format(key=key)
        not_read[key] = f"Changes the cost, and is not simulated. {what_to_do}"
    # Files hold them, so a schema must know them; a list of what can be set must not.
    for key, text in not_read.items():
        result.setdefault(key, unlisted({"description": text}))
    return result


def _renames() -> set[tuple[str, str]]:
    """Return (a family's key, ours), each once: families share some."""
    pairs: set[tuple[str, str]] = set()
    for family in FAMILIES.values():
        pairs |= set(family.renames.items())
    return pairs


def _renamed(theirs: str, ours: str, node: Node) -> Node:
    """Return the key under which files of some families have one of ours."""
    families = []
    for name, family in FAMILIES.items():
        if name and theirs in family.renames:  # keys without a type are everybody's
            families.append(name)
    named = ", ".join(families)
    text = f"Name of {ours} in files of {named}."
    renamed = without(node, ["default"]) | {"description": text}
    return _nullable(renamed)


def _nullable(node: Node) -> Node:
    """Return a key that may be null as well, which stands for a key that is absent."""
    outside = {word: node[word] for word in _OUTSIDE if word in node}
    form = without(node, _OUTSIDE)
    return outside | {"anyOf": [form, {"type": "null"}]}

"""Parts of JSON schemas: what they refer to, which keys they have, and which of those are listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Node = dict[str, Any]
"""A part of a JSON schema."""
_UNLISTED = "unlisted"
"""`$comment` of what a key reference leaves out: keys that are not read, and paths of other files' keys."""


def unlisted(node: Node) -> Node:
    """Return a part that a key reference leaves out, or does not look into."""
    return node | {"$comment": _UNLISTED}


def is_listed(node: Node) -> bool:
    """Tell whether a key reference has a part and what it holds."""
    return node.get("$comment") != _UNLISTED


def without(node: Node, keys: Iterable[str]) -> Node:
    """Return a part without some of its words."""
    left_out = set(keys)
    return {key: value for key, value in node.items() if key not in left_out}


def alternatives(node: Node) -> list[Node]:
    """Return the forms that a value may have: the part itself, then those of its choice."""
    return [node, *node.get("anyOf", ())]


def definition(node: Node, defs: Mapping[str, Node]) -> Node:
    """Return what a part, or one of its forms, refers to; else the part itself."""
    for form in alternatives(node):
        if "$ref" in form:
            name = form["$ref"].removeprefix("#/$defs/")
            return defs[name]
    return node


def properties(node: Node, defs: Mapping[str, Node]) -> dict[str, Node]:
    """Return the keys of a group; none where it is not one."""
    group = definition(node, defs)
    keys: dict[str, Node] = group.get("properties", {})
    return keys

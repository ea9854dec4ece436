"""JSON schemas -> a reference of keys: path, type, example, default and meaning of each."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simulator import inputs
from simulator.errors import InputError
from simulator.reference.models import UNLISTED
from simulator.reference.rules import Node
from simulator.reference.schema import KINDS, schema
from simulator.reference.sweeps import properties

_WORDS = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "group of keys",
}
_PLAIN: Mapping[str, Any] = {"integer": 8, "true or false": True}
"""Examples of types that show by their names how they are written."""
SHIPPED = {"topology": ("topologies", "h800-2048"), "workload": ("workloads", "deepseek-v3")}
"""Kind of file -> the shipped file whose values are examples."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of one of the files."""

    path: str
    """Path as `--set` takes it, with the file's kind before it but for most of a workload's; [] after a list."""
    file: str
    """Kind of file that has it."""
    type: str
    """What its value is, in words."""
    choices: tuple[Any, ...]
    """Values that it may have; empty where they are not a list of names."""
    example: Any
    """A value that it may have; None for groups of keys."""
    required: bool
    """Whether its group must have it."""
    default: Any
    """Its value where it is left out; None where nothing stands in for it."""
    meaning: str
    """What it is, with its unit."""

    def as_dict(self) -> dict[str, Any]:
        """Return the key for JSON."""
        return asdict(self)


def keys(prefix: str = "") -> list[Key]:
    """Return the keys whose paths begin with a prefix; the file's kind may stand before it.

    Errors: InputError if there are none.
    """
    known = _known()
    result = [key for name, key in known.items() if name.startswith(prefix)]
    if result:
        # Two names lead to most keys of a workload.
        return list({key.path: key for key in result}.values())
    near = difflib.get_close_matches(prefix.rstrip("."), known, n=1)
    remedy = f"Did you mean '{near[0]}'?" if near else "`simulate keys` lists them all."
    raise InputError("begins no path of a key", value=prefix, remedy=remedy)


@cache
def _known() -> dict[str, Key]:
    """Return every key by the paths that lead to it: with its file's kind, and as messages name it."""
    result: dict[str, Key] = {}
    for kind in KINDS:
        tree = schema(kind)
        for path, node, required in _walk(tree, "", tree["$defs"]):
            # Pydantic leaves out a description that the group itself has.
            meaning = node.get("description") or _definition(node, tree["$defs"])["description"]
            key = _key(kind, path, node | {"description": meaning}, required)
            result |= {f"{kind}.{path}": key, key.path: key}
            if kind == "topology" and path != "name":
                result[path] = key
    return result


def _walk(group: Node, prefix: str, defs: Mapping[str, Node]) -> Iterator[tuple[str, Node, bool]]:
    """Yield the keys of a group and of the groups below it: path, schema, and whether it is required."""
    needed = _definition(group, defs).get("required", ())
    for key, node in properties(group, defs).items():
        if node.get("$comment") == UNLISTED and "properties" not in node:
            continue
        path = prefix + key
        yield path, node, key in needed
        if node.get("$comment") == UNLISTED:
            continue
        yield from _walk(node, f"{path}.", defs)
        if "items" in node:
            yield from _walk(node["items"], f"{path}[].", defs)


def _definition(node: Node, defs: Mapping[str, Node]) -> Node:
    """Return what a schema refers to, or the schema itself."""
    for part in (node, *node.get("anyOf", ())):
        if "$ref" in part:
            return defs[part["$ref"].rpartition("/")[2]]
    return node


def _key(kind: str, path: str, node: Node, required: bool) -> Key:
    bare = kind == "workload" and path != "name"
    words = _words(node)
    return Key(
        path=path if bare else f"{kind}.{path}",
        file=kind,
        type=words,
        choices=_choices(node),
        example=_example(kind, path, node, words),
        required=required,
        default=node.get("default"),
        meaning=node["description"],
    )


def _words(node: Node) -> str:
    """Return what a value is, in words."""
    if "$ref" in node:
        return "group of keys"
    if "anyOf" in node:
        kinds = [_words(part) for part in node["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in node:
        return f"one of {', '.join(_names(node))}"
    if node.get("type") == "array":
        item = (node.get("prefixItems") or [node.get("items", {})])[0]
        return f"list of {', '.join(_names(item)) or _plural(_words(item))}"
    if "title" in node:
        return str(node["title"])
    return _WORDS.get(node.get("type", ""), "any value")


def _plural(words: str) -> str:
    special = {"group of keys": "groups of keys", "any value": "values"}
    return " or ".join(special.get(word, f"{word}s") for word in words.split(" or "))


def _names(node: Node) -> list[str]:
    """Return the names that a value may be, none where it is not one of a few."""
    return [str(name) for name in node.get("enum", ()) if name != ""]


def _choices(node: Node) -> tuple[Any, ...]:
    if "items" in node:
        node = node["items"]
    for part in (node, *node.get("anyOf", ())):
        if "enum" in part:
            return tuple(part["enum"])
    return ()


def _example(kind: str, path: str, node: Node, words: str) -> Any:
    """Return a field's own example, else a shipped file's value, else the default or a plain value."""
    if words == "group of keys" and "examples" not in node:
        return None
    if node.get("examples"):
        return node["examples"][0]
    shipped = _shipped(kind).get(path)
    if shipped is not None:
        return shipped
    if node.get("default"):
        return node["default"]
    names = [name for name in _choices(node) if name != ""]
    return names[0] if names else _PLAIN.get(words)


@cache
def _shipped(kind: str) -> dict[str, Any]:
    """Return the values of a shipped file by path, those of its model's config.json included."""
    if kind not in SHIPPED:
        return {}
    folder, name = SHIPPED[kind]
    path = inputs.shipped(folder)[name]
    values = dict(_flat(inputs.read(path).data, ""))
    if "model.hf_config" in values:
        model = inputs.read(Path(path).parent / values["model.hf_config"])
        values |= dict(_flat(model.data, "model."))
    return values


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        yield prefix + key, value
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")

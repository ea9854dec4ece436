"""JSON schemas -> a reference of keys: path, type, example, default and meaning of each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from simulator import inputs
from simulator.errors import InputError
from simulator.reference.nodes import Node, alternatives, definition, is_listed, properties
from simulator.reference.schema import KINDS, schema

_WORDS = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "object": "group of keys",
}
_PLURALS = {"group of keys": "groups of keys", "any value": "values"}
_PLAIN: Mapping[str, Any] = {"integer": 8, "true or false": True}
"""Examples of types that show by their names how they are written."""
SHIPPED = {"topology": ("topologies", "h800-2048"), "workload": ("workloads", "deepseek-v3")}
"""Kind of file -> the shipped file whose values are examples."""


class _Found(NamedTuple):
    """A key as a schema has it."""

    path: str
    """Path in its own file, [] after a list."""
    node: Node
    """Its schema, with its description."""
    required: bool
    """Whether its group must have it."""


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
    # Two names lead to most keys of a workload: each key is listed once.
    matching = [key for name, key in known.items() if name.startswith(prefix)]
    by_path = {key.path: key for key in matching}
    if by_path:
        return list(by_path.values())
    remedy = "`simulate keys` lists them all."
    near = _nearest(prefix, known)
    if near:
        remedy = f"Did you mean '{near}'?"
    raise InputError(f"no key starts with '{prefix}'", remedy=remedy)


def _nearest(prefix: str, known: Iterable[str]) -> str:
    """Return the prefix that was probably meant, nothing if none is near. known: paths of keys."""
    # A prefix ends anywhere; the nearest whole path is the best guess, and before a dot a group's.
    candidates = set(known)
    end = ""
    if prefix.endswith("."):
        candidates = {path.rpartition(".")[0] for path in candidates}
        end = "."
    nearest = difflib.get_close_matches(prefix.rstrip("."), sorted(candidates - {""}), n=1)
    return nearest[0] + end if nearest else ""


@cache
def _known() -> dict[str, Key]:
    """Return every key by the paths that lead to it: with its file's kind, and as messages name it."""
    result: dict[str, Key] = {}
    for kind in KINDS:
        tree = schema(kind)
        for found in _walk(tree, "", tree["$defs"]):
            key = _key(kind, found)
            result[f"{kind}.{found.path}"] = key
            result[key.path] = key
            # `--set` takes a topology's keys without its kind too, but for the name of both files.
            if kind == "topology" and found.path != "name":
                result[found.path] = key
    return result


def _walk(group: Node, prefix: str, defs: Mapping[str, Node]) -> Iterator[_Found]:
    """Yield the keys of a group, and of the groups and lists of groups below it."""
    needed = definition(group, defs).get("required", ())
    for key, node in properties(group, defs).items():
        holds_paths = not is_listed(node) and "properties" in node
        if not (is_listed(node) or holds_paths):
            continue
        # Pydantic leaves out a description that the group itself has.
        described = node if node.get("description") else definition(node, defs)
        meaning = described["description"]
        path = prefix + key
        yield _Found(path, node | {"description": meaning}, key in needed)
        if is_listed(node):
            yield from _walk(node, f"{path}.", defs)
            yield from _walk(node.get("items", {}), f"{path}[].", defs)


def _key(kind: str, found: _Found) -> Key:
    """Return a key as it is listed, under the path that `--set` takes."""
    path, node, required = found
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
        # That a key may be null is said by its default.
        forms = [form for form in node["anyOf"] if form.get("type") != "null"]
        kinds = dict.fromkeys(_words(form) for form in forms)
        return " or ".join(kinds)
    if "enum" in node:
        return f"one of {', '.join(_names(node))}"
    if node.get("type") == "array":
        return _list_words(node)
    if "title" in node:
        return str(node["title"])
    return _WORDS.get(node.get("type", ""), "any value")


def _list_words(node: Node) -> str:
    """Return what the items of a list are, in words."""
    items = node.get("prefixItems") or [node.get("items", {})]
    item = items[0]
    listed = ", ".join(_names(item)) or _plural(_words(item))
    return f"list of {listed}"


def _plural(words: str) -> str:
    kinds = words.split(" or ")
    plurals = [_PLURALS.get(kind, f"{kind}s") for kind in kinds]
    return " or ".join(plurals)


def _names(node: Node) -> list[str]:
    """Return the names that a value may be, none where it is not one of a few."""
    # The empty name stands for what a key is where it is left out.
    names = node.get("enum", ())
    return [str(name) for name in names if name != ""]


def _choices(node: Node) -> tuple[Any, ...]:
    """Return the values that a key, or each item of its list, may have."""
    for form in alternatives(node.get("items", node)):
        if "enum" in form:
            return tuple(form["enum"])
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
    document = inputs.read(path)
    values = dict(_flat(document.data, ""))
    if "model.hf_config" in values:
        config = Path(path).parent / values["model.hf_config"]
        model = inputs.read(config)
        values |= dict(_flat(model.data, "model."))
    return values


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every key of a tree."""
    for key, value in tree.items():
        yield prefix + key, value
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")

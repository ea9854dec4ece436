"""What a sweep file says of other files' keys: the values of axes, and values that every point has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from simulator.reference.models import UNLISTED
from simulator.reference.rules import Node
from simulator.sweep.axes import Range
from simulator.sweep.config import WHOLE_FILES

_RANGE = r"^\s*[-+]?(\d|\.\d).*\.\.\s*[-+]?(\d|\.\d)"
_END = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*[-+]?(\d|\.\d)"}]}


def axis() -> Node:
    """Return the schema of an axis: a list, a range as text or as a group, or random draws."""
    steps = Range.model_fields["steps"].description
    spread = _group(
        {"from": _END, "to": _END, "steps": _count(2) | {"description": steps}}
        | {"factor": {"type": "number", "exclusiveMinimum": 1}, "scale": _SCALE},
        needs=("from", "to"),
    )
    draws = _group(
        {"low": _END, "high": _END, "scale": _SCALE, "count": _count(1)},
        needs=("low", "high", "count"),
    )
    text = {"type": "string", "pattern": _RANGE}
    values = {"type": "array", "minItems": 1}
    return {
        "anyOf": [values, text, spread, _group({"random": draws}, needs=("random",))],
        "examples": [[8, 16, 32], "100 .. 900 GB/s bidirectional"],
    }


_SCALE = {"enum": ["linear", "log"]}


def _count(least: int) -> Node:
    return {"type": "integer", "minimum": least}


def _group(properties: Mapping[str, Any], needs: Iterable[str]) -> Node:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(needs),
        "additionalProperties": False,
    }


def paths(files: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
    """Yield every path of a key of the two files, as `--set` takes it, with the key's schema.

    files: kind -> its schema. Keys of both files begin with the file's kind; others may.
    """
    heads = {kind: set(tree["properties"]) for kind, tree in files.items()}
    shared = set.intersection(*heads.values())
    for kind, tree in files.items():
        for path, node in _below("", tree, tree["$defs"]):
            yield f"{kind}.{path}", node
            if path.partition(".")[0] not in shared:
                yield path, node


def _below(prefix: str, node: Node, defs: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
    """Yield the keys below a group of keys; nothing below a list."""
    for key, inner in properties(node, defs).items():
        if inner.get("$comment") != UNLISTED:
            yield prefix + key, inner
            yield from _below(f"{prefix}{key}.", inner, defs)


def properties(node: Node, defs: Mapping[str, Node]) -> dict[str, Node]:
    """Return the keys of a group, also where it refers to a definition."""
    for part in (node, *node.get("anyOf", ())):
        if "$ref" in part:
            definition = defs[part["$ref"].rpartition("/")[2]]
            return dict(definition["properties"])
    return dict(node.get("properties", {}))


def fixed(description: str, known: Mapping[str, Node]) -> Node:
    """Return the schema of `set`. known: path -> schema."""
    return _of_paths(description, {path: _inside(node) for path, node in known.items()})


def axes(description: str, known: Mapping[str, Node]) -> Node:
    """Return the schema of `axes`. known: path -> schema."""
    files = dict.fromkeys(WHOLE_FILES, "A file to read instead of the sweep's own.")
    texts = files | {path: node.get("description", "") for path, node in known.items()}
    values = {path: {"description": text, "$ref": "#/$defs/Axis"} for path, text in texts.items()}
    return _of_paths(description, values) | {"minProperties": 1}


def _inside(node: Node) -> Node:
    """Return a key's schema without its default, which a sweep does not have."""
    return {key: value for key, value in node.items() if key != "default"}


def _of_paths(description: str, values: dict[str, Node]) -> Node:
    return {
        "description": description,
        "$comment": UNLISTED,
        "type": "object",
        "properties": values,
        "additionalProperties": False,
    }

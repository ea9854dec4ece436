"""What a sweep file says of other files' keys: the values of axes, and values that every point has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from simulator.reference.nodes import Node, is_listed, properties, unlisted, without
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
    heads = [set(tree["properties"]) for tree in files.values()]
    shared = set.intersection(*heads)
    for kind, tree in files.items():
        for path, node in _below("", tree, tree["$defs"]):
            head, _, _ = path.partition(".")
            yield f"{kind}.{path}", node
            if head not in shared:
                yield path, node


def _below(prefix: str, group: Node, defs: Mapping[str, Node]) -> Iterator[tuple[str, Node]]:
    """Yield the keys below a group of keys; nothing below a list."""
    for key, node in properties(group, defs).items():
        if not is_listed(node):
            continue
        path = prefix + key
        yield path, node
        yield from _below(f"{path}.", node, defs)


def fixed(description: str, known: Mapping[str, Node]) -> Node:
    """Return the schema of `set`. known: path -> schema."""
    # Defaults are those of the base scenario's files, not of the sweep.
    values = {path: without(node, ["default"]) for path, node in known.items()}
    return _of_paths(description, values)


def axes(description: str, known: Mapping[str, Node]) -> Node:
    """Return the schema of `axes`. known: path -> schema."""
    texts = dict.fromkeys(WHOLE_FILES, "Files to read instead of the sweep's own.")
    for path, node in known.items():
        texts[path] = node.get("description", "")
    values = {path: _axis_of(text) for path, text in texts.items()}
    return _of_paths(description, values) | {"minProperties": 1}


def _axis_of(description: str) -> Node:
    return {"description": description, "$ref": "#/$defs/Axis"}


def _of_paths(description: str, values: Mapping[str, Node]) -> Node:
    """Return a group whose keys are paths. A key reference names the group alone."""
    group = {
        "description": description,
        "type": "object",
        "properties": dict(values),
        "additionalProperties": False,
    }
    return unlisted(group)

"""A file as a tree that remembers the line of every key, and what `--set` changes in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict

from simulator.errors import InputError

Path_ = tuple[str | int, ...]
"""Keys and list indices from the top of a file down to a value."""


class Location(TypedDict, total=False):
    """Where a key is, as `InputError.at` takes it."""

    file: str
    line: int
    key: str


@dataclass(frozen=True, slots=True)
class Document:
    """A file as plain dicts and lists, with the line of every key."""

    file: str
    """Path as the user wrote it."""
    data: dict[str, Any]
    """The tree."""
    lines: dict[Path_, int]
    """Path of keys -> line, counted from 1."""
    overridden: frozenset[Path_] = frozenset()
    """Paths of the keys that `--set` replaced or removed."""

    def locate(self, path: Path_) -> Location:
        """Return where a key is: in `--set`, or on the line of the longest known part of its path."""
        key = ".".join(str(part) for part in path)
        if self.is_overridden(path) or self._is_made(path):
            return {"file": "--set", "key": key}
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return {"file": self.file, "line": self.lines[path[:end]], "key": key}
        return {"file": self.file, "line": 0, "key": key}

    def is_overridden(self, path: Path_) -> bool:
        """Tell whether `--set` replaced or removed a key, or a group that holds it."""
        return any(path[: len(changed)] == changed for changed in self.overridden)

    def _is_made(self, path: Path_) -> bool:
        """Tell whether a group is in no file, and there only because `--set` put a key into it."""
        inside = any(changed[: len(path)] == path for changed in self.overridden)
        return inside and path not in self.lines


def override(document: Document, path: str, value: Any) -> Document:
    """Return the document with one key replaced, or removed where the value is None.

    path: keys joined by dots, `node.nvlink`. Errors: InputError where it leads into a plain value.
    """
    keys = tuple(path.split("."))
    if not all(keys):
        raise InputError(
            "is not a path of keys",
            file="--set",
            value=path,
            remedy="Write for example node.nvlink.",
        )
    tree = _copy(document.data)
    if value is None:
        _remove(tree, keys)
    else:
        _group(tree, keys)[keys[-1]] = value
    return replace(document, data=tree, overridden=document.overridden | {keys})


def _group(tree: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the group that holds the last of some keys, made where it is missing."""
    node = tree
    for depth, key in enumerate(keys[:-1], start=1):
        inner = node.setdefault(key, {})
        if not isinstance(inner, dict):
            raise InputError(
                "is not a group of keys",
                file="--set",
                key=".".join(keys),
                value=".".join(keys[:depth]),
                remedy="Set it as a whole.",
            )
        node = inner
    return node


def _remove(tree: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Take a key out of a tree, if it is there."""
    node: Any = tree
    for key in keys[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(keys[-1], None)


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_copy(value) for value in node]
    return node

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
        # A missing key has no line of its own: that of the group it belongs to is the nearest.
        line = 0
        for end in range(len(path), 0, -1):
            line = self.lines.get(path[:end], 0)
            if line:
                break
        return {"file": self.file, "line": line, "key": key}

    def is_overridden(self, path: Path_) -> bool:
        """Tell whether `--set` replaced or removed a key, or a group that holds it."""
        ancestors = {path[:end] for end in range(1, len(path) + 1)}
        return not ancestors.isdisjoint(self.overridden)

    def _is_made(self, path: Path_) -> bool:
        """Tell whether a group is in no file, and there only because `--set` put a key into it."""
        depth = len(path)
        heads = {changed[:depth] for changed in self.overridden}
        return path in heads and path not in self.lines


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
    # Documents are values: one that was read once serves many points of a sweep.
    tree = copied(document.data)
    if value is None:
        _remove(tree, keys)
    else:
        group = _group(tree, keys)
        group[keys[-1]] = value
    overridden = document.overridden | {keys}
    return replace(document, data=tree, overridden=overridden)


def _group(tree: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the group that holds the last of some keys, made where it is missing."""
    node = tree
    groups = keys[:-1]
    for depth, key in enumerate(groups, start=1):
        inner = node.setdefault(key, {})
        if not isinstance(inner, dict):
            raise _no_group(keys, depth)
        node = inner
    return node


def _no_group(keys: tuple[str, ...], depth: int) -> InputError:
    """Return the complaint about a path that leads into a plain value. depth: keys down to it."""
    return InputError(
        "is not a group of keys",
        file="--set",
        key=".".join(keys),
        value=".".join(keys[:depth]),
        remedy="Set it as a whole.",
    )


def _remove(tree: dict[str, Any], keys: tuple[str, ...]) -> None:
    """Take a key out of a tree, if it is there. Whether it is known, `validate` will tell."""
    node = tree
    *groups, last = keys
    for depth, key in enumerate(groups, start=1):
        inner = node.get(key)
        if inner is None:
            return
        if not isinstance(inner, dict):
            raise _no_group(keys, depth)
        node = inner
    node.pop(last, None)


def copied(node: Any) -> Any:
    """Return a tree with groups and lists of its own."""
    if isinstance(node, dict):
        return {key: copied(value) for key, value in node.items()}
    if isinstance(node, list):
        return [copied(value) for value in node]
    return node

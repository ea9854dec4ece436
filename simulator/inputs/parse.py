"""Text -> documents: YAML 1.2 and JSON, with the line of every key.

YAML is read as version 1.2, so `14.8e12` and `1e9` are numbers and `no` is a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from simulator.errors import InputError
from simulator.inputs.document import Document, Path_, copied
from simulator.inputs.kept import Tree, kept


def parse_value(text: str) -> Any:
    """Return the value of the right side of `--set KEY=VALUE`, read as YAML 1.2; `null` is None."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not text.strip():
        raise InputError(
            "has no value", remedy="Write KEY=VALUE, or KEY=null to remove a key of the file."
        )
    try:
        tree = YAML(typ="rt", pure=True).load(text)
        return _plain(tree)
    except YAMLError as error:
        raise InputError("is not a YAML value", value=text) from error


def parse_json(text: str, file: str) -> Document:
    """Return the document of a JSON file; keys have no lines. Errors: InputError."""
    try:
        tree = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        rule = f"is not JSON: {error.msg}"
        raise InputError(rule, file=file, line=error.lineno) from error
    except InputError as error:
        raise error.at(file=file) from error
    return Document(file, _mapping(tree, file), {})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict. Errors: InputError where a key comes twice."""
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise InputError("appears twice", value=key)
        seen[key] = value
    return seen


def _refuse_constant(word: str) -> float:
    raise InputError("is not a number in JSON", value=word)


def parse_yaml(text: str, file: str) -> Document:
    """Return the document of a YAML file. Errors: InputError with the line of the first mistake."""
    tree = _kept(text, file)
    # A tree of its own: whoever changes it changes no other reading of the same text.
    return Document(file, copied(tree.data), tree.lines)


@lru_cache(maxsize=256)  # by the text itself: points of a sweep read the same tables
def _kept(text: str, file: str) -> Tree:
    return kept(text, lambda: _parsed(text, file))


def _parsed(text: str, file: str) -> Tree:
    """Return what a YAML text says. file: its name in messages. Errors: InputError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        # The round-trip loader is the one that keeps lines; ruamel's own code reads YAML 1.2.
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "unreadable"
        first, *_ = problem.split("\n")
        line = mark.line + 1 if mark else 0
        raise InputError(f"is not YAML: {first}", file=file, line=line) from error
    except YAMLError as error:
        words = " ".join(str(error).split())
        raise InputError(f"is not YAML: {words}", file=file) from error
    _mapping(tree, file)
    try:
        return Tree(_plain(tree), dict(_lines(tree, ())))
    except InputError as error:
        raise error.at(file=file) from error


def _mapping(tree: Any, file: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise InputError(
            "holds no keys", file=file, remedy="Write 'key: value' lines, as the shipped files do."
        )
    return tree


def _plain(node: Any) -> Any:
    """Return a node of ruamel's tree in Python's own types."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    # ruamel's scalars are subclasses that remember how they were written. `bool` comes before `int`,
    # whose subclass it is.
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    if node is None:
        return None
    raise InputError(
        "is not a plain value",
        value=str(node),
        remedy="Write a number, a text, true, false, or null.",
    )


def _lines(node: Any, path: Path_) -> Iterator[tuple[Path_, int]]:
    """Return the line of every key and item below a node.

    `lc` is ruamel's record of lines and columns.
    """
    positions: Any = getattr(node, "lc", None)
    if isinstance(node, dict):
        for key, value in node.items():
            inner = (*path, str(key))
            if key in positions.data:  # keys that `<<` merged in have their line elsewhere
                line, _ = positions.key(key)
                yield inner, line + 1
            yield from _lines(value, inner)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            inner = (*path, index)
            line, _ = positions.item(index)
            yield inner, line + 1
            yield from _lines(value, inner)

"""What was parsed, kept by the text that it was parsed from: in the process, and in the user's cache.

Reading YAML with the line of every key takes 50 times as long as reading the same from JSON, and
every run reads the same tables. The name of a kept file is a digest of the text, so that a changed
file is never answered by what was kept of the old one. Whatever goes wrong with the folder, the
text is parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from simulator.inputs import cache
from simulator.inputs.document import Path_

FORMAT = "2"
"""Of kept files: another number wherever the same text is to be parsed to something else."""
KIND = "parsed"
"""Folder of the files in the user's cache."""
MOST = 512
"""Files that are kept; the oldest ones make room."""


class Tree(NamedTuple):
    """What a text says."""

    data: dict[str, Any]
    """Groups, lists and plain values."""
    lines: dict[Path_, int]
    """Path of keys -> line, counted from 1."""


Parser: TypeAlias = Callable[[], Tree]


def kept(text: str, parse: Parser) -> Tree:
    """Return what was kept of a text; parse it and keep that where nothing was. Errors: those of parse."""
    name = _name(text)
    tree = _read(name)
    if tree is None:
        tree = parse()
        _write(name, tree)
    return tree


def _name(text: str) -> str:
    digest = hashlib.sha256(f"{FORMAT}\n{text}".encode(errors="surrogatepass"))
    return f"{digest.hexdigest()}.json"


def _read(name: str) -> Tree | None:
    """Return what a file keeps, None if it is not there or is not whole."""
    try:
        content = json.loads(cache.recall(KIND, name))
        lines = {tuple(path): line for path, line in content["lines"]}
        return Tree(content["data"], lines)
    except (RecursionError, ValueError, TypeError, KeyError):
        return None


def _write(name: str, tree: Tree) -> None:
    content = {"data": tree.data, "lines": list(tree.lines.items())}
    with contextlib.suppress(ValueError, TypeError):  # a value that JSON does not have
        cache.keep(KIND, name, json.dumps(content).encode(), MOST)

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
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from simulator.inputs.document import Path_

FORMAT = "1"
"""Of kept files: another number wherever the same text is to be parsed to something else."""
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
    file = folder() / _name(text)
    tree = _read(file)
    if tree is None:
        tree = parse()
        _write(file, tree)
    return tree


def folder() -> Path:
    """Return where parsed files are kept; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored (XDG Base Directory Specification).
    cache = Path(base) if Path(base).is_absolute() else Path("~/.cache")
    return cache / "simulate" / "parsed"


def _name(text: str) -> str:
    digest = hashlib.sha256(f"{FORMAT}\n{text}".encode(errors="surrogatepass"))
    return f"{digest.hexdigest()}.json"


def _read(file: Path) -> Tree | None:
    """Return what a file keeps, None if it is not there or is not whole."""
    try:
        with file.expanduser().open(encoding="utf-8") as stream:
            content = json.load(stream)
        lines = {tuple(path): line for path, line in content["lines"]}
        return Tree(content["data"], lines)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        return None


def _write(file: Path, tree: Tree) -> None:
    """Keep a tree, if the folder lets us: whole or not at all, whoever else writes the same."""
    content = {"data": tree.data, "lines": list(tree.lines.items())}
    # RuntimeError: there is no home. ValueError: a value that JSON does not have.
    with contextlib.suppress(OSError, RuntimeError, ValueError, TypeError):
        target = file.expanduser()
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
        part = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(content, stream)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        _make_room(target.parent)


def _make_room(place: Path) -> None:
    """Remove the oldest files beyond `MOST`."""
    files = list(place.iterdir())
    if len(files) > MOST:
        files.sort(key=lambda path: path.stat().st_mtime)
        for path in files[: len(files) - MOST]:
            path.unlink(missing_ok=True)

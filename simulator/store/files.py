"""One file, written beside its place and then put there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator.errors import InputError


def to_json(tree: Any) -> str:
    """Return a tree as JSON text; the same tree gives the same bytes."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written before any work is done for it. Errors: InputError."""
    if path.is_dir():
        raise InputError("is a folder", value=str(path), remedy="Name a file in it.")
    if not path.absolute().parent.is_dir():
        raise InputError(
            "lies in a folder that does not exist",
            value=str(path),
            remedy="Create the folder first.",
        )
    if not os.access(path.absolute().parent, os.W_OK):
        raise InputError("lies in a folder that cannot be written to", value=str(path))


def write(path: Path, produce: Callable[[Path], None]) -> None:
    """Let `produce` write a new file beside `path`, then put it in its place."""
    check_writable(path)
    handle, name = tempfile.mkstemp(
        dir=path.absolute().parent, prefix=f".{path.stem}-", suffix=path.suffix
    )
    os.close(handle)
    try:
        produce(Path(name))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically."""

    def produce(place: Path) -> None:
        place.write_bytes(content)

    write(path, produce)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""

    def produce(place: Path) -> None:
        place.write_text(text, encoding="utf-8")

    write(path, produce)

"""Files in the user's cache: whole or not there, a bounded number of them, and never in the way of a run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

_DIGEST = 32
"""Bytes of a file before its content: the content's SHA-256."""


def folder(kind: str) -> Path:
    """Return where files of a kind are kept; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative path is to be ignored (XDG Base Directory Specification).
    cache = Path(base) if Path(base).is_absolute() else Path("~/.cache")
    return cache / "simulate" / kind


def recall(kind: str, name: str) -> bytes:
    """Return what a file keeps, nothing if it is not there or not as it was written."""
    try:
        file = (folder(kind) / name).expanduser().read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return b""
    content = file[_DIGEST:]
    is_whole = hashlib.sha256(content).digest() == file[:_DIGEST]
    return content if is_whole else b""


def keep(kind: str, name: str, content: bytes, most: int) -> None:
    """Keep a file, if the folder lets us, whoever else writes the same. most: files that are kept of a kind."""
    with contextlib.suppress(OSError, RuntimeError):
        place = folder(kind).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=place, suffix=".part")
        part = Path(scratch)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(hashlib.sha256(content).digest() + content)
            part.replace(place / name)
        finally:
            part.unlink(missing_ok=True)
        _make_room(place, most)


def _make_room(place: Path, most: int) -> None:
    """Remove the oldest files beyond `most`."""
    files = list(place.iterdir())
    if len(files) > most:
        files.sort(key=lambda path: path.stat().st_mtime)
        for path in files[: len(files) - most]:
            path.unlink(missing_ok=True)

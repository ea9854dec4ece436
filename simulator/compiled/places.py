"""Where files with machine code may lie: who can write one can run code as whoever reads it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

NAME = "simulate"
"""Of our folder among those of other programs."""


def places() -> Iterator[Path]:
    """Yield the folders for machine code, the best first. They need not exist, nor be writable."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        yield Path(chosen) / NAME
    yield Path(__file__).parent / "__pycache__"
    with contextlib.suppress(RuntimeError):  # a user without a home
        home = _user_cache()
        if home.is_absolute():  # an environment may say something relative to nowhere in particular
            yield home / NAME
    with contextlib.suppress(OSError):
        if temporary().exists():
            own(temporary())
        yield temporary()


def write(folder: Path, name: str, content: bytes) -> None:
    """Write a file into one of the places, whole or not at all. Errors: OSError."""
    if folder == temporary():
        own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # For all who may read the folder; a scratch file is its writer's alone.
        Path(scratch).chmod(0o644)
        Path(scratch).replace(folder / name)
    except OSError:
        with contextlib.suppress(OSError):
            Path(scratch).unlink()
        raise


def _user_cache() -> Path:
    """Return where programs of this user cache things."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", ""))
    if sys.platform == "darwin":
        return Path("~/Library/Caches").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def stamp(folder: Path) -> bytes:
    """Return a digest of the Python files of a folder, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.digest()


def temporary() -> Path:
    """Return the folder of this user in the temporary folder; it need not exist."""
    user = os.getuid() if hasattr(os, "getuid") else "user"  # Windows has one folder for each
    return Path(tempfile.gettempdir()) / f"simulate-compiled-{user}"


def own(folder: Path) -> None:
    """Make a folder that only this user can write. Errors: OSError if somebody else could put code into it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    shared = os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(status.st_mode) or not mine or shared:
        raise PermissionError(f"{folder} belongs to somebody else")

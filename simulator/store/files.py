"""One file, written whole or not at all wherever its kind allows that.

| the path leads to                      | how it is written                              |
|----------------------------------------|------------------------------------------------|
| nothing, or a regular file             | a draft next to it, renamed over it             |
| a symbolic link                        | its target, as other rows say; the link stays   |
| a file with hard links or another owner | in place                                       |
| a file in a folder closed to writers   | in place                                        |
| a device, a FIFO                       | straight into it                                |
| standard output or standard error      | through the stream that is already open         |

An existing file keeps its mode; a new one gets what the umask leaves.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from simulator.errors import InputError
from simulator.progress import doing

Produce = Callable[[Path], object]
"""Writes a new file under the path that it is given, which ends as the final one does."""
_LONGEST = 32
"""Characters of a file's name that its draft repeats: drafts of long names stay legal names."""


def to_json(tree: Any) -> str:
    """Return a tree as JSON text; the same tree gives the same bytes."""
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_json_line(tree: Any) -> str:
    """Return a tree as one line of JSON, for files that programs read: a seventh of the time of `to_json`."""
    # With an indent, Python's encoder is not the one in C.
    return json.dumps(tree, ensure_ascii=False, allow_nan=False) + "\n"


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written before any work is done for it. Errors: InputError."""
    try:
        state = _state(path)
    except OSError as error:
        raise InputError(f"cannot be written to: {error.strerror}", value=str(path)) from error
    if state is None:
        _check_folder(path)
    elif stat.S_ISDIR(state.st_mode):
        raise InputError("is a folder", value=str(path), remedy="Name a file in it.")
    elif not os.access(path, os.W_OK):
        raise InputError("cannot be written to", value=str(path))


def _check_folder(path: Path) -> None:
    """Refuse a new file whose folder is missing or cannot be written to. Errors: InputError."""
    folder = _target(path).parent
    if not folder.is_dir():
        raise InputError(
            "lies in a folder that does not exist",
            value=str(path),
            remedy="Create the folder first.",
        )
    if not os.access(folder, os.W_OK):
        raise InputError("lies in a folder that cannot be written to", value=str(path))


@doing("writing")
def write(path: Path, produce: Produce) -> None:
    """Let `produce` write a draft, then put its content where `path` leads. Errors: InputError."""
    check_writable(path)
    if _replaceable(path):
        replace(_target(path), produce)
        return
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / f"draft{path.suffix}"
        produce(draft)
        _pour(draft.read_bytes(), path)


@doing("writing")
def write_bytes(path: Path, content: bytes) -> None:
    """Write a file. Errors: InputError."""
    check_writable(path)
    if _replaceable(path):
        replace(_target(path), lambda draft: draft.write_bytes(content))
    else:
        # Without a draft: a container may have no folder to write one to, and yet have /dev/stdout.
        _pour(content, path)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8. Errors: InputError."""
    write_bytes(path, text.encode())


def replace(path: Path, produce: Produce) -> None:
    """Let `produce` write a draft, then rename it over `path`: a link itself, not its target."""
    with _draft(path) as draft:
        produce(draft)
        try:
            draft.replace(path)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # A file mounted by itself, as containers do, cannot be renamed over.
            _pour(draft.read_bytes(), path)


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """Make an empty file next to `path`, with its mode and group; remove it if it is left over."""
    # Hidden and unlike any other; the ending stays, from which writers of figures take the format.
    stem, ending = path.stem[:_LONGEST], path.suffix[-_LONGEST:]
    draft = path.with_name(f".{stem}-{secrets.token_hex(4)}{ending}")
    # Made here and not by `tempfile`, which lets nobody else read, so that the umask decides.
    draft.touch(exist_ok=False)
    try:
        with suppress(FileNotFoundError):
            _adopt(draft, path.lstat())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _adopt(draft: Path, existing: os.stat_result) -> None:
    """Give a draft the group and mode of the regular file that it will replace."""
    if not stat.S_ISREG(existing.st_mode):
        return
    if hasattr(os, "chown"):
        with suppress(OSError):  # of a group that is not ours
            os.chown(draft, -1, existing.st_gid)
    draft.chmod(stat.S_IMODE(existing.st_mode))


def _state(path: Path) -> os.stat_result | None:
    """Return what `path` leads to, None where there is nothing yet. Errors: OSError."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _target(path: Path) -> Path:
    """Return the path behind all links, of a file that may not exist yet."""
    return Path(os.path.realpath(path))


def _replaceable(path: Path) -> bool:
    """Return whether renaming a draft over a file loses nothing but its old content."""
    state = _state(path)
    if state is None:
        return True
    # A rename would change the owner, leave other names with the old content, and put a plain file
    # where a device was.
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        return False
    if hasattr(os, "geteuid") and state.st_uid != os.geteuid():
        return False
    # What a shell opened for us would go on into the file that the draft replaced.
    if _stream(state) is not None:
        return False
    return os.access(_target(path).parent, os.W_OK)


def _stream(state: os.stat_result) -> int | None:
    """Return the number of the standard stream that writes to this very file, if one does."""
    for number in (1, 2):
        with suppress(OSError):  # a closed stream
            if os.path.samestat(state, os.fstat(number)):
                return number
    return None


def _pour(content: bytes, path: Path) -> None:
    """Write into what stands at `path`, be it a device, a FIFO or a file with several names."""
    stream = _stream(path.stat())
    if stream is None:
        path.write_bytes(content)
        return
    # Opened anew, a file behind standard output would be emptied, then overwritten by what follows.
    for text in (sys.stdout, sys.stderr):
        text.flush()
    with os.fdopen(stream, "wb", closefd=False) as file:
        file.write(content)

"""A file that one process at a time holds, by the means that its system has.

`fcntl` (Linux, macOS) and `msvcrt` (Windows) let go however the program ends. Where there is
neither, a second file is made that has to be new.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from simulator.errors import InputError

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EEXIST)
"""What systems say of a file that somebody else holds."""
_FAR = 1 << 20
"""The byte that `msvcrt` locks: beyond the text, which others may still read."""


@contextmanager
def holding(file: IO[bytes]) -> Iterator[None]:
    """Hold an open file, alone, while the block runs. Errors: InputError if another has it."""
    marker = None
    try:
        if fcntl := _module("fcntl"):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt := _module("msvcrt"):
            os.lseek(file.fileno(), _FAR, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            marker = _marker(file)
    except OSError as error:
        raise _refusal(error, file) from error
    try:
        yield
    finally:
        if marker:
            marker.unlink(missing_ok=True)


def _module(name: str) -> Any:
    """Return a module that only some systems have, else None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _marker(file: IO[bytes]) -> Path:
    """Make the file that says that another one is held. Errors: FileExistsError."""
    path = Path(f"{file.name}.held")
    path.touch(exist_ok=False)
    return path


def _refusal(error: OSError, file: IO[bytes]) -> InputError:
    folder = str(Path(file.name).parent)
    if error.errno not in _TAKEN:
        return InputError(f"cannot be locked: {error.strerror}", value=folder)
    remedy = "Wait for it, or name another folder."
    if error.errno == errno.EEXIST:
        remedy = f"Wait for it, or if it was killed, delete {file.name}.held."
    return InputError("is in use by another sweep", value=folder, remedy=remedy)

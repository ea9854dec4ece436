"""Compiled functions, and where what was compiled is kept: everything that numba compiles goes through here.

numba keeps machine code next to the source or under HOME. In a container neither may be writable,
and a process that is killed leaves files that cannot be read. Here the temporary folder is used
instead, then no cache at all, and a file that cannot be read is compiled anew.

numba is imported when the first function is compiled, not before.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_INNER: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def outer(function: Function) -> Function:
    """Compile a function that Python calls, when it is first called, or load it from the cache.

    The cache notices changes of every module in the function's folder, so that what it calls may
    lie in other files there. Constants of other folders are compiled in, unnoticed.
    """
    from numba import njit

    compiled: Any = njit(function)
    if hasattr(compiled, "enable_caching"):  # not where NUMBA_DISABLE_JIT leaves it plain
        # A RuntimeError: numba knows no place that it could cache in. What is compiled then lives
        # as long as the process.
        with contextlib.suppress(RuntimeError):
            compiled._cache = _cache_class()(function)
    return cast(Function, compiled)


def inner(function: Function) -> Function:
    """Compile a function that only compiled ones call: without a way in from Python, a third less to compile."""
    from numba import njit

    return cast(Function, njit(**_INNER)(function))


@cache
def with_callees(function: Function) -> Function:
    """Compile a plain function, and the plain functions of its module that it calls, on their own copies.

    For what is worth compiling only sometimes: uncompiled, the same functions run in Python.
    """
    return cast(Function, outer(_linked(function)))


def _linked(function: Any) -> Any:
    """Return a copy of a function that sees compiled copies of the functions of its module that it calls."""
    known = dict(function.__globals__)
    for name in function.__code__.co_names:
        callee = known.get(name)
        if isinstance(callee, FunctionType) and callee.__module__ == function.__module__:
            known[name] = inner(_linked(callee))
    copy = FunctionType(function.__code__, known, function.__name__, function.__defaults__)
    copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
    return copy


@cache
def _cache_class() -> Any:
    """Return numba's cache of one function, with our places and with files that cannot be read taken for none."""
    from numba.core import caching

    class Places(caching.CompileResultCacheImpl):
        _locator_classes = _places()

    class Cache(caching.FunctionCache):
        _impl_class = Places

        def load_overload(self, sig: Any, target_context: Any) -> Any:
            # Torn bytes make pickle raise almost anything: EOFError, UnpicklingError, KeyError.
            try:
                return super().load_overload(sig, target_context)
            except Exception:
                with contextlib.suppress(OSError):
                    self.flush()
                return None

        def save_overload(self, sig: Any, data: Any) -> None:
            # A full disk, or an index that is not readable and not ours to replace: go on without.
            with contextlib.suppress(Exception):
                super().save_overload(sig, data)

    return Cache


def _places() -> list[type[object]]:
    """Return where machine code may be kept, as numba's locators; the first that can be written is used."""
    from numba.core import caching

    class InFolder:
        """A place whose files are stale once any module of the function's folder has changed."""

        def get_source_stamp(self: Any) -> bytes:
            return _stamp(Path(self._py_file).parent)

    class Chosen(InFolder, caching.UserProvidedCacheLocator):
        """What the environment's NUMBA_CACHE_DIR names."""

    class NextToSource(InFolder, caching.InTreeCacheLocator):
        """`__pycache__`."""

    class OfUser(InFolder, caching.UserWideCacheLocator):
        """The user's cache folder. Without a HOME its path is relative to nowhere in particular."""

        def ensure_cache_path(self) -> None:
            if not Path(self.get_cache_path()).is_absolute():
                raise OSError(f"{self.get_cache_path()} is not a home")
            super().ensure_cache_path()

    class Temporary(InFolder, caching.UserWideCacheLocator):
        """A folder of the user's own in the temporary folder."""

        def __init__(self, function: Any, file: str) -> None:
            super().__init__(function, file)
            folder = _temporary() / self.get_suitable_cache_subpath(file)
            self._cache_path = str(folder)

        def ensure_cache_path(self) -> None:
            _own(_temporary())
            super().ensure_cache_path()

    return [Chosen, NextToSource, OfUser, Temporary]


def _stamp(folder: Path) -> bytes:
    """Return a digest of the Python files of a folder, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.digest()


def _temporary() -> Path:
    """Return the folder of this user in the temporary folder; it need not exist."""
    user = os.getuid() if hasattr(os, "getuid") else "user"  # Windows has one folder for each
    return Path(tempfile.gettempdir()) / f"simulate-compiled-{user}"


def _own(folder: Path) -> None:
    """Make a folder that only this user can write. Errors: OSError if somebody else could put code into it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    shared = os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISDIR(status.st_mode) or not mine or shared:
        raise PermissionError(f"{folder} belongs to somebody else")

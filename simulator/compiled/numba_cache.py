"""numba's own cache of compiled functions, in our places; files that cannot be read are taken for none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from simulator.compiled.places import own, stamp, temporary

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


def inner(function: Function, **options: Any) -> Function:
    """Compile a function that only compiled ones call: without a way in from Python, a third less to compile."""
    from numba import njit

    return cast(Function, njit(**_INNER, **options)(function))


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
            return stamp(Path(self._py_file).parent)

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
            folder = temporary() / self.get_suitable_cache_subpath(file)
            self._cache_path = str(folder)

        def ensure_cache_path(self) -> None:
            own(temporary())
            super().ensure_cache_path()

    return [Chosen, NextToSource, OfUser, Temporary]

"""Machine code that is kept such that a later process runs it without numba.

numba compiles a function with all that it calls to one object, which calls nothing outside of
itself. The object is kept as it is; llvmlite, on which numba stands, loads it in a few hundredths of
a second, where numba takes half a second to import, to prepare and to load the same.

An object is found under a digest of all that it follows from: the source of every module that has a
part in it, constants from elsewhere, the layout of its arguments, the versions of numba and llvmlite
and their settings. The processor for which it was made stands in the file.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.compiled.linking import closure, constants, linked
from simulator.compiled.numba_cache import outer
from simulator.compiled.places import places, write
from simulator.progress import doing

Arguments: TypeAlias = Sequence[Any]
"""A named tuple of one-dimensional arrays, and of such tuples."""
Run: TypeAlias = Callable[[Any], None]

_OPTIONS: Any = {
    # Counting references to arrays that outlive the call takes nine tenths of it otherwise.
    "_nrt": False,
    # Without a branch for each division by zero.
    "error_model": "numpy",
    # A call hands over seven words for each array: three fifths of the time of a step's execution.
    "forceinline": True,
}
_SETTINGS = (
    "NUMBA_BOUNDSCHECK",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CPU_NAME",
    "NUMBA_DEBUGINFO",
    "NUMBA_DISABLE_JIT",
    "NUMBA_OPT",
)
"""What of the environment changes the code that numba makes."""
_KEPT = 30 * 86_400.0
"""How long objects of other sources, tools or settings are kept [s]: somebody may use them still."""
_PARTS = 7
"""Of an array as numba passes it: two that count references, count and size of items, address, shape and stride."""


class _Object(NamedTuple):
    """What a file holds."""

    symbol: str
    """Name of the function in it."""
    code: bytes
    """As a linker takes it."""


class MachineCode:
    """A plain function of one named tuple of arrays, compiled; it returns nothing and changes what they hold."""

    def __init__(self, function: Any, sample: Any) -> None:
        """sample: arguments of the right types; their lengths do not matter."""
        self.function = function
        self.sample = sample
        self.loaded: Run | None = None

    @property
    def name(self) -> str:
        """Return the name of its file, which tells the object from those of other sources, tools and settings."""
        return f"{self._stem}-{self._digest}.obj"

    def on_disk(self) -> bool:
        """Tell whether it is there to be run without being compiled; it is loaded if it is."""
        if self.loaded is None:
            self.loaded = self._load()
        return self.loaded is not None

    def ready(self) -> Run:
        """Return the function, compiled now if it is not there yet."""
        if not self.on_disk():
            self.loaded = self._compiled()
        assert self.loaded is not None
        return self.loaded

    def folder(self) -> Path | None:
        """Return where it is kept; None where no place can be written."""
        found = (folder for folder in places() if _read(folder / self.name))
        return next(found, None)

    def _load(self) -> Run | None:
        """Return the function from the first file that is whole and for this processor."""
        for folder in places():
            kept = _read(folder / self.name)
            if kept:
                return _caller(kept, self.sample)
        return None

    def _compiled(self) -> Run:
        """Compile the function, and keep it where that is possible."""
        with doing(f"compiling {self.function.__module__}, once"):
            made = _make(self.function, self.sample)
        if made is None:
            run: Run = outer(linked(self.function))
            return run
        for folder in places():
            with contextlib.suppress(OSError):
                write(folder, self.name, _packed(made))
                self._forget_old(folder)
                break
        return _caller(made, self.sample)

    def _forget_old(self, folder: Path) -> None:
        """Remove the objects of earlier sources next to this one."""
        for path in folder.glob(f"{self._stem}-*.obj"):
            if path.name != self.name and path.stat().st_mtime < time.time() - _KEPT:
                path.unlink(missing_ok=True)

    @cached_property
    def _stem(self) -> str:
        return f"{self.function.__module__}.{self.function.__name__}".replace(".", "-")

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256()
        for part in _origins(self.function, self.sample):
            digest.update(part.encode())
            digest.update(b"\0")
        return digest.hexdigest()[:24]


def _origins(function: Any, sample: Arguments) -> Iterator[str]:
    """Yield all that machine code follows from, the processor apart."""
    functions = list(closure(function))
    for file in sorted({one.__code__.co_filename for one in functions}):
        yield Path(file).read_text(encoding="utf-8")
    for one in functions:
        yield f"{one.__module__}.{one.__name__} {constants(one)}"
    for array in _arrays(sample):
        yield str(array.dtype.descr)
    yield f"{_OPTIONS}"
    for tool in ("numba", "llvmlite"):
        yield metadata.version(tool)
    for name in _SETTINGS:
        yield f"{name}={os.environ.get(name, '')}"
    yield f"{sys.platform} {np.dtype(np.intp).itemsize}"


def _arrays(given: Arguments) -> list[NDArray[Any]]:
    """Return the arrays of a tuple, those of tuples within it among them, in the order in which numba passes them."""
    arrays: list[NDArray[Any]] = []
    for part in given:
        arrays += _arrays(part) if isinstance(part, tuple) else [part]
    return arrays


# Files


def _packed(made: _Object) -> bytes:
    """Return an object as it is kept: a line that says what it is, then its bytes."""
    head = {
        "symbol": made.symbol,
        "processor": _processor(),
        "digest": hashlib.sha256(made.code).hexdigest(),
    }
    return json.dumps(head).encode() + b"\n" + made.code


def _read(path: Path) -> _Object | None:
    """Return what a file holds; None if there is none, if it is torn, or made for another processor."""
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        known = json.loads(head)
        whole = known["digest"] == hashlib.sha256(code).hexdigest()
        if whole and known["processor"] == _processor():
            return _Object(known["symbol"], code)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


@cache
def _processor() -> str:
    """Return what code is made for: the name of the processor and what it can do."""
    from llvmlite import binding

    features = binding.get_host_cpu_features().flatten()
    return f"{binding.get_host_cpu_name()} {features}"


# Compiling


def _make(function: Any, sample: Arguments) -> _Object | None:
    """Return the object of a function; None where numba makes something else than we can call."""
    import numba

    untyped: Any = numba  # it has types for its documented options only
    plain = linked(function, **_OPTIONS)
    dispatcher = untyped.njit(plain, **_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    if not hasattr(dispatcher, "compile"):  # NUMBA_DISABLE_JIT leaves it plain
        return None
    dispatcher.compile((untyped.typeof(sample),))
    (result,) = dispatcher.overloads.values()
    given = result.target_context.call_conv.get_function_type(
        result.fndesc.restype, result.fndesc.argtypes
    ).args
    # A place for what it returns, one for what it raises, then the arrays.
    if len(given) != 2 + _PARTS * len(_arrays(sample)):
        return None
    return _Object(result.fndesc.llvm_func_name, result.library._get_compiled_object())


# Running


def _caller(made: _Object, sample: Arguments) -> Run:
    """Return an object's function as one of Python, with numba's way of passing arrays."""
    samples = _arrays(sample)
    parts = 2 + _PARTS * len(samples)
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * parts)(_address(made))

    def run(arrays: Arguments) -> None:
        result, raised = ctypes.c_void_p(), ctypes.c_void_p()
        passed: list[Any] = [ctypes.addressof(result), ctypes.addressof(raised)]
        for array, like in zip(_arrays(arrays), samples, strict=True):
            if array.dtype != like.dtype or not array.flags.c_contiguous:
                raise TypeError(f"{array.dtype} is not {like.dtype}, or has gaps")
            count, size = len(array), array.itemsize
            passed += [None, None, count, size, array.ctypes.data, count, size]
        if function(*passed):
            raise RuntimeError(f"{made.symbol[:60]} has failed")

    return run


_ENGINES: list[Any] = []
"""What keeps loaded code where it is, to the end of the process."""


def _address(made: _Object) -> int:
    """Load an object into this process; return where its function begins."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple().create_target_machine(jit=True)
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target)
    engine.add_object_file(binding.ObjectFileRef.from_data(made.code))
    engine.finalize_object()
    _ENGINES.append(engine)
    return int(engine.get_function_address(made.symbol))

"""Tables of numbers that take long to compute, kept in the user's cache by what they are computed from.

A name is a digest of all that decides about the numbers: what the caller names, the text of the
code, and what of a machine rounds otherwise. A file that is not whole is computed anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.compiled.places import stamp
from simulator.inputs.cache import keep, recall

Table: TypeAlias = NDArray[np.float64]

MOST = 256
"""Tables that are kept of a kind; the oldest ones make room."""


def kept_table(
    kind: str, parts: Iterable[object], code: Path, columns: int, compute: Callable[[], Table]
) -> Table:
    """Return a table [row, column], read where it was computed before.

    kind: folder of the files. parts: what the numbers follow from; their text tells them apart.
    code: the folder whose files compute it.
    """
    name = _name(parts, code)
    table = _table(recall(kind, name), columns)
    if table is None:
        table = np.ascontiguousarray(compute(), dtype=np.float64)
        keep(kind, name, table.tobytes(), MOST)
    return table


def _name(parts: Iterable[object], code: Path) -> str:
    digest = hashlib.sha256(_code(code))
    for part in (*_machine(), *parts):
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


def _table(content: bytes, columns: int) -> Table | None:
    """Return the table of a file, None if there is none."""
    if not content or len(content) % (8 * columns):
        return None
    return np.frombuffer(content).reshape(-1, columns)


@cache
def _code(folder: Path) -> bytes:
    return stamp(folder)


def _machine() -> tuple[object, ...]:
    """Return what numbers may differ by: NumPy, the instructions that it uses, and a BLAS's threads."""
    simd = np.show_config("dicts")["SIMD Extensions"]
    threads = [os.environ.get(f"{name}_NUM_THREADS") for name in ("OPENBLAS", "OMP", "MKL")]
    return np.__version__, simd, _processors(), threads


def _processors() -> int:
    """Return the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

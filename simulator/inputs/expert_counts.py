"""Counts of tokens per layer and expert, from NPZ and CSV files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from simulator.errors import InputError
from simulator.inputs.files import _shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


AXES = ("step", "layer", "expert")
"""Columns of a long table that say what is counted, in the order of the table's axes."""


def counts(path: Path) -> NDArray[np.float64]:
    """Read counts [layer, expert] or [step, layer, expert].

    NPZ: its only array. CSV: a row per layer without a heading, or the columns (step,) layer,
    expert, count under one; lines that begin with # are skipped. Errors: InputError.
    """
    import numpy as np

    file = _shown(path)
    read = _read_npz if path.suffix == ".npz" else _read_csv
    try:
        table = read(path)
    except InputError as error:
        raise error.at(file=file) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot be read as counts: {error}", file=file) from error
    has_axes = table.ndim in (2, 3)
    if not has_axes or not table.size:
        raise InputError(
            "is not a shape of counts",
            file=file,
            value=table.shape,
            remedy="Give [layer, expert] or [step, layer, expert].",
        )
    usable = np.isfinite(table) & (table >= 0)
    if not usable.all():
        raise InputError("holds counts that are negative or not finite", file=file)
    return table


def _read_npz(path: Path) -> NDArray[np.float64]:
    import numpy as np

    # Pickled arrays could run code of whoever made the file.
    with np.load(path, allow_pickle=False) as arrays:
        names = arrays.files
        if len(names) != 1:
            raise InputError(
                f"holds {len(names)} arrays",
                remedy="Save one: numpy.savez(file, counts=...).",
            )
        return np.asarray(arrays[names[0]], dtype=np.float64)


def _read_csv(path: Path) -> NDArray[np.float64]:
    content = path.read_text(encoding="utf-8")
    stripped = (line.strip() for line in content.splitlines())
    lines = [line for line in stripped if line and not line.startswith("#")]
    first = lines[0] if lines else ""
    heading = [name.strip() for name in first.split(",")]
    # A row of numbers has no such name in it: the table is [layer, expert] as it stands.
    if "count" in heading:
        return _long_table(heading, lines)
    return _numbers(lines)


def _numbers(lines: list[str]) -> NDArray[np.float64]:
    import numpy as np

    rows = []
    for line in lines:
        cells = line.split(",")
        rows.append([float(cell) for cell in cells])
    return np.array(rows, dtype=np.float64)


def _long_table(heading: list[str], lines: list[str]) -> NDArray[np.float64]:
    """Return the counts of a file with one row per count, under a heading."""
    import numpy as np

    # Columns may come in any order; the table's axes are in this one.
    axes = [name for name in AXES if name in heading]
    known = sorted([*axes, "count"])
    if known != sorted(heading) or axes[-2:] != ["layer", "expert"]:
        raise InputError(
            "is not a heading of counts", value=lines[0], remedy="Write step,layer,expert,count."
        )
    rows = _numbers(lines[1:])  # [row, column]
    if not len(rows):
        raise InputError("holds no counts")
    # Steps, layers and experts may have any numbers: their sorted order gives the indices.
    index = []  # [axis][row]
    for name in axes:
        column = rows[:, heading.index(name)]
        _, along = np.unique(column, return_inverse=True)
        index.append(along.ravel())
    shape = [int(along.max()) + 1 for along in index]
    table = np.zeros(shape)
    # Added, not assigned: a file may hold several rows of one expert, as ranks write them.
    tokens = rows[:, heading.index("count")]  # [row]
    np.add.at(table, tuple(index), tokens)
    return table

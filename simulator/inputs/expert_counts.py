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


def counts(path: Path) -> NDArray[np.float64]:
    """Read counts [layer, expert] or [step, layer, expert].

    NPZ: its only array. CSV: a row per layer without a heading, or the columns (step,) layer,
    expert, count under one; lines that begin with # are skipped. Errors: InputError.
    """
    import numpy as np

    file = _shown(path)
    try:
        table = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    except InputError as error:
        raise error.at(file=file) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot be read as counts: {error}", file=file) from error
    if table.ndim not in (2, 3) or not table.size:
        raise InputError(
            "is not a shape of counts",
            file=file,
            value=table.shape,
            remedy="Give [layer, expert] or [step, layer, expert].",
        )
    if not (np.isfinite(table).all() and (table >= 0).all()):
        raise InputError("holds counts that are negative or not finite", file=file)
    return table


def _read_npz(path: Path) -> NDArray[np.float64]:
    import numpy as np

    with np.load(path, allow_pickle=False) as arrays:
        if len(arrays.files) != 1:
            raise InputError(
                f"holds {len(arrays.files)} arrays",
                remedy="Save one: numpy.savez(file, counts=...).",
            )
        return np.asarray(arrays[arrays.files[0]], dtype=np.float64)


def _read_csv(path: Path) -> NDArray[np.float64]:
    stripped = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    lines = [line for line in stripped if line and not line.startswith("#")]
    heading = [name.strip() for name in lines[0].split(",")] if lines else []
    if "count" in heading:
        return _long_table(heading, lines)
    return _numbers(lines)


def _numbers(lines: list[str]) -> NDArray[np.float64]:
    import numpy as np

    rows = [[float(cell) for cell in line.split(",")] for line in lines]
    return np.array(rows, dtype=np.float64)


def _long_table(heading: list[str], lines: list[str]) -> NDArray[np.float64]:
    """Return the counts of a file with one row per count, under a heading."""
    import numpy as np

    axes = [name for name in ("step", "layer", "expert") if name in heading]
    if sorted([*axes, "count"]) != sorted(heading) or axes[-2:] != ["layer", "expert"]:
        raise InputError(
            "is not a heading of counts", value=lines[0], remedy="Write step,layer,expert,count."
        )
    rows = _numbers(lines[1:])  # [row, column]
    if not len(rows):
        raise InputError("holds no counts")
    # Steps, layers and experts may have any numbers: their sorted order gives the indices.
    index = tuple(
        np.unique(rows[:, heading.index(name)], return_inverse=True)[1].ravel() for name in axes
    )
    table = np.zeros([int(along.max()) + 1 for along in index])
    np.add.at(table, index, rows[:, heading.index("count")])
    return table

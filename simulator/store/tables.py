"""Rows -> columns of one type each -> CSV and Parquet. The same rows give the same bytes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.store.files import write, write_text

Rows = Sequence[Mapping[str, Any]]
NAMES = ("name", "quantity")
"""Keys that name the items of a list: `bounds` becomes `bounds.<name>.seconds`."""


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a tree as one row: paths of keys joined by dots -> number, text, truth, or None.

    A list of named groups becomes a path of its names; other lists become JSON text. Not-a-number
    and infinity become None.
    """
    row: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{above}{key}"
        by_name = _by_name(value)
        if isinstance(value, Mapping):
            row |= flat(value, f"{path}.")
        elif by_name is not None:
            row |= flat(by_name, f"{path}.")
        else:
            row[path] = _cell(value)
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _by_name(value: Any) -> dict[str, Any] | None:
    """Return a list of groups that have distinct names as groups by name."""
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(item, Mapping) for item in value)
    ):
        return None
    for key in NAMES:
        found = {
            str(item[key]): {k: v for k, v in item.items() if k != key}
            for item in value
            if key in item
        }
        if len(found) == len(value):
            return found
    return None


def columns(rows: Rows) -> dict[str, list[Any]]:
    """Return rows as columns of one type each, None where a row has nothing; in order of first appearance.

    Whole numbers beside fractions become fractions; anything beside text becomes text.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _one_type([row.get(name) for row in rows]) for name in names}


def _one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return values
    to = float if kinds == {int, float} else _text
    return [None if value is None else to(value) for value in values]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def write_csv(path: Path, table: Mapping[str, Sequence[Any]]) -> None:
    """Write columns as CSV: a heading, numbers to their last digit, nothing for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows([_shown(value) for value in row] for row in zip(*table.values(), strict=True))
    write_text(path, text.getvalue())


def _shown(value: Any) -> Any:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def write_parquet(path: Path, table: Mapping[str, Sequence[Any]]) -> None:
    """Write columns as Parquet; a column without any value is one of text."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}
    arrays = {
        name: pa.array(
            values,
            type=kinds.get(next((type(v) for v in values if v is not None), str), pa.string()),
        )
        for name, values in table.items()
    }
    write(path, lambda place: parquet.write_table(pa.table(arrays), place))

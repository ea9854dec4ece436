"""Rows -> columns of one type each -> CSV and Parquet. The same rows give the same bytes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

Tree = Mapping[str, Any]
"""Groups of keys within each other, as in a JSON file."""
Row = dict[str, Any]
"""Heading -> cell."""
Rows = Sequence[Tree]
"""Rows of a table: heading -> cell; a row may lack some."""
Columns = Mapping[str, Sequence[Any]]
"""A table by its headings, every column as long as the others."""
NAMES = ("name", "quantity")
"""Keys that name the items of a list: `bounds` becomes `bounds.<name>.seconds`."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a text begins with that spreadsheets take for a formula (OWASP, CSV Injection)."""


def flat(tree: Tree, above: str = "") -> Row:
    """Return a tree as one row: paths of keys joined by dots -> number, text, truth, or None.

    A list of named groups becomes a path of its names; other lists become JSON text. Not-a-number
    and infinity become None.
    """
    row: Row = {}
    for key, value in tree.items():
        path = f"{above}{key}"
        group = value if isinstance(value, Mapping) else _by_name(value)
        if group is None:
            row[path] = _cell(value)
        else:
            row |= flat(group, f"{path}.")
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _by_name(value: Any) -> Row | None:
    """Return a list of groups that have distinct names as groups by name."""
    if not isinstance(value, list | tuple) or not value:
        return None
    if not all(isinstance(item, Mapping) for item in value):
        return None
    for key in NAMES:
        named = [item for item in value if key in item]
        groups = {str(item[key]): _without(item, key) for item in named}
        if len(groups) == len(value):
            return groups
    return None


def _without(group: Tree, key: str) -> Row:
    return {name: value for name, value in group.items() if name != key}


def columns(rows: Rows) -> dict[str, list[Any]]:
    """Return rows as columns of one type each, in order of first appearance.

    A column has None where a row has nothing. Integers among fractions become fractions; anything
    among texts becomes text.
    """
    names = dict.fromkeys(chain.from_iterable(rows))
    table = {}
    for name in names:
        values = [row.get(name) for row in rows]
        table[name] = _one_type(values)
    return table


def _one_type(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return values
    # Parquet has one type a column; a gap stays a gap, not the text "None".
    to = float if kinds == {int, float} else _text
    return [None if value is None else to(value) for value in values]


def _text(value: Any) -> str:
    """Return a value as text: itself, or as JSON has it."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def csv_text(table: Columns) -> str:
    """Return columns as CSV: a heading, numbers to their last digit, nothing for None.

    Texts that a spreadsheet would work out begin with ', which it takes for "this is text".
    """
    text = io.StringIO()
    # Only with this end of line does `csv` quote a carriage return, which readers take for one.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([_harmless(name) for name in table])
    for row in zip(*table.values(), strict=True):
        writer.writerow([_shown(value) for value in row])
    return text.getvalue().replace("\r\n", "\n")


def _shown(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _harmless(value)
    return value  # `csv` writes numbers to their last digit


def _harmless(text: str) -> str:
    """Return a text as spreadsheets show it; names of models and clusters are other people's."""
    # A number with a sign is worked out as well, to itself.
    if not text.startswith(FORMULA) or _is_number(text):
        return text
    return f"'{text}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_parquet(path: Path, table: Columns) -> None:
    """Write columns as a new Parquet file; a column without any value is one of text."""
    import pyarrow as pa
    from pyarrow import parquet

    arrays = {}
    for name, values in table.items():
        # Told, not inferred: the type of a column does not depend on where its gaps are.
        arrays[name] = pa.array(values, type=_arrow_type(values))
    parquet.write_table(pa.table(arrays), path)


def _arrow_type(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    kinds = {
        bool: pa.bool_(),
        int: pa.int64(),
        float: pa.float64(),
    }
    # All others have the type of the first, see `columns`.
    present = (value for value in values if value is not None)
    first = next(present, "")
    return kinds.get(type(first), pa.string())

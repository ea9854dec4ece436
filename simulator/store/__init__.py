"""Results on disk, written atomically: a reader sees the old file or the whole new one.

`files`: one file. `folder`: the finished points of a sweep, each in a file of its own. `lock`: one
process at a time. `tables`: rows as CSV and Parquet.
"""

from __future__ import annotations

from simulator.store.files import (
    check_writable,
    to_json,
    to_json_line,
    write,
    write_bytes,
    write_text,
)
from simulator.store.folder import Folder, check_name
from simulator.store.tables import Rows, columns, csv_text, flat, write_parquet

__all__ = [
    "Folder",
    "Rows",
    "check_name",
    "check_writable",
    "columns",
    "csv_text",
    "flat",
    "to_json",
    "to_json_line",
    "write",
    "write_bytes",
    "write_parquet",
    "write_text",
]

"""Text files -> trees that remember their lines, and trees -> validated configuration.

`document`: the tree, and what `--set` changes in it. `parse`: YAML and JSON. `kept`: what
was parsed before; `kept_tables`: what was computed; `cache`: where both are. `files`: the user's
files and the package's own. `expert_counts`: tables of loads. `validation`: trees -> configuration.
"""

from __future__ import annotations

from simulator.inputs.document import Document, Path_, override
from simulator.inputs.expert_counts import counts
from simulator.inputs.files import (
    FOLDERS,
    ROOT,
    SINGULAR,
    asset,
    data,
    data_names,
    file_fault,
    find,
    is_file,
    read,
    read_trace,
    shipped,
    source,
    table,
    text,
)
from simulator.inputs.kept_tables import kept_table
from simulator.inputs.parse import parse_value
from simulator.inputs.validation import validate

__all__ = [
    "FOLDERS",
    "ROOT",
    "SINGULAR",
    "Document",
    "Path_",
    "asset",
    "counts",
    "data",
    "data_names",
    "file_fault",
    "find",
    "is_file",
    "kept_table",
    "override",
    "parse_value",
    "read",
    "read_trace",
    "shipped",
    "source",
    "table",
    "text",
    "validate",
]

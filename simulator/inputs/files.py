"""The user's files and the package's own: found by path or by name, and read."""

from __future__ import annotations

import csv
import difflib
import gzip
import json
import zlib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from simulator.errors import InputError
from simulator.inputs.document import Document
from simulator.inputs.parse import parse_json, parse_yaml

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the package."""
SINGULAR = {"topologies": "topology", "workloads": "workload", "sweeps": "sweep"}
"""Kind of shipped files -> what one of them is called."""
FOLDERS = {"sweeps": "workloads/sweeps"}
"""Kind -> folder of its shipped files, for those that are not in a folder of its name."""


def shipped(kind: str) -> dict[str, Path]:
    """Return the shipped files of a kind, a key of SINGULAR, name -> path."""
    name = FOLDERS.get(kind, kind)
    packed = ROOT / "data" / name
    folder = packed if packed.is_dir() else ROOT.parent / name
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str, kind: str) -> Path:
    """Return the path of a file given as a path or as the bare name of a shipped one.

    Errors: InputError.
    """
    path = Path(name)
    if name and path.is_file():
        return path
    known = shipped(kind)
    if name in known:
        return known[name]
    listed = ", ".join(known)
    if name and path.is_dir():
        raise InputError(
            "is a folder, not a file",
            key=SINGULAR[kind],
            value=name,
            remedy=f"Shipped {kind}: {listed}.",
        )
    stem = path.stem if path.suffix else name
    near = difflib.get_close_matches(stem, known, n=1, cutoff=0.6)
    remedy = f"Give a path, or one of the shipped {kind}: {listed}."
    if near:
        remedy = f"Did you mean '{near[0]}'?"
    raise InputError("does not exist", file=name, key=SINGULAR[kind], value=name, remedy=remedy)


def read(path: Path, shown: str = "") -> Document:
    """Read a YAML (1.2) or JSON file. Errors: InputError with the line of the first mistake.

    shown: what messages call the file; by default its path from the working folder.
    """
    file = shown or _shown(path)
    content = _text(path, file)
    if path.suffix == ".json":
        return parse_json(content, file)
    return parse_yaml(content, file)


def read_trace(path: Path) -> Any:
    """Read a JSON file as profilers write it, plain or compressed (.gz). Errors: InputError."""
    file = _shown(path)
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"cannot be read as JSON: {error}", file=file) from error


def source(document: Document) -> str:
    """Return the text that a document was read from.

    Its tree as JSON where it came from no file.
    """
    path = Path(document.file)
    if document.file and path.is_file():
        return path.read_text(encoding="utf-8")
    return json.dumps(document.data, indent=1, ensure_ascii=False)


def text(path: Path) -> str:
    """Return the text of a file. Errors: InputError."""
    return _text(path, _shown(path))


def _text(path: Path, file: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=file) from error


def _shown(path: Path) -> str:
    """Return a path as a user reads it: from the working folder where it lies below that."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)


def data(kind: str, name: str) -> Document:
    """Read one of the package's own data files, `simulator/data/<kind>/<name>.yaml`.

    Errors: InputError.
    """
    known = data_names(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise InputError(
            f"is not among the {kind} known", value=name, remedy=f"{hint}Known: {', '.join(known)}."
        )
    content = (_folder(kind) / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(content, f"simulator/data/{kind}/{name}.yaml")


def data_names(kind: str) -> list[str]:
    """Return the names of the package's own data files of a kind, sorted."""
    files = (entry.name for entry in _folder(kind).iterdir())
    return sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml"))


def asset(name: str) -> str:
    """Return one of the package's own styles and scripts, `simulator/data/page/<name>`."""
    return (_folder("page") / name).read_text(encoding="utf-8")


def table(name: str) -> list[dict[str, str]]:
    """Read one of the package's own tables, `simulator/data/measured/<name>.csv`.

    Row by row: heading -> text.
    """
    content = (_folder("measured") / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in content.splitlines() if not line.startswith("#")))


def _folder(kind: str) -> Traversable:
    return resources.files("simulator") / "data" / kind

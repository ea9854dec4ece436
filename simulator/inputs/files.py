"""The user's files and the package's own: found by path or by name, and read."""

from __future__ import annotations

import csv
import difflib
import gzip
import json
import stat
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
SINGULAR = {
    "topologies": "topology",
    "workloads": "workload",
    "sweeps": "sweep",
    "campaigns": "campaign",
}
"""Kind of shipped files -> what one of them is called."""
FOLDERS = {"sweeps": "workloads/sweeps", "campaigns": "workloads/campaigns"}
"""Kind -> folder of its shipped files, for those that are not in a folder of its name."""

_FOLDER = "is a folder, not a file"


def file_fault(path: Path) -> str:
    """Return what keeps a path from being a file to read, as a rule; nothing where it is one."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except OSError as error:
        # A name that is too long, a folder that may not be entered.
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "is not a path"
    if stat.S_ISDIR(mode):
        return _FOLDER
    return "" if stat.S_ISREG(mode) else "is not a regular file"


def is_file(path: Path) -> bool:
    """Tell whether a path leads to a file, also where no file could have such a path."""
    return not file_fault(path)


def shipped(kind: str) -> dict[str, Path]:
    """Return the shipped files of a kind, a key of SINGULAR, name -> path."""
    name = FOLDERS.get(kind, kind)
    # A wheel has them inside of the package, a checkout next to it.
    folder = ROOT / "data" / name
    if not folder.is_dir():
        folder = ROOT.parent / name
    paths = sorted(folder.glob("*.yaml"))
    return {path.stem: path for path in paths}


def find(name: str, kind: str) -> Path:
    """Return the path of a file given as a path or as the bare name of a shipped one.

    Errors: InputError.
    """
    path = Path(name)
    # An empty name is the working folder as a path, and neither.
    fault = file_fault(path) if name else "does not exist"
    if not fault:
        return path
    known = shipped(kind)
    if name in known:
        return known[name]
    singular = SINGULAR[kind]
    listed = ", ".join(known)
    if fault == _FOLDER:
        raise InputError(
            fault,
            key=singular,
            value=name,
            remedy=f"Shipped {kind}: {listed}.",
        )
    # `h800.yaml` in the wrong folder may mean the shipped `h800-2048`.
    stem = path.stem if path.suffix else name
    remedy = f"Give a path, or one of the shipped {kind}: {listed}."
    for near in difflib.get_close_matches(stem, known, n=1, cutoff=0.6):
        remedy = f"Did you mean '{near}'?"
    raise InputError(
        fault,
        file=name,
        key=singular,
        value=name,
        remedy=remedy,
    )


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
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return json.loads(content)
    except OSError as error:
        rule = f"cannot be read: {error.strerror or error}"
        remedy = "Give the path of a .json or .json.gz file."
        raise InputError(file_fault(path) or rule, file=file, remedy=remedy) from error
    except (EOFError, ValueError, zlib.error) as error:
        raise InputError(f"cannot be read as JSON: {error}", file=file) from error


def source(document: Document) -> str:
    """Return the text that a document was read from.

    Its tree as JSON where it came from no file.
    """
    path = Path(document.file)
    if document.file and is_file(path):
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
    absolute = path.absolute()
    here = Path.cwd()
    if absolute.is_relative_to(here):
        return str(absolute.relative_to(here))
    return str(path)


def data(kind: str, name: str) -> Document:
    """Read one of the package's own data files, `simulator/data/<kind>/<name>.yaml`.

    Errors: InputError.
    """
    known = data_names(kind)
    if name not in known:
        remedy = f"Choose from: {', '.join(known)}."
        for near in difflib.get_close_matches(name.lower(), known, n=1):
            remedy = f"Did you mean '{near}'? {remedy}"
        raise InputError(f"is not among the {kind} known", value=name, remedy=remedy)
    # Through `resources`: the package may be a zip archive, where these are no files.
    file = _folder(kind) / f"{name}.yaml"
    content = file.read_text(encoding="utf-8")
    return parse_yaml(content, f"simulator/data/{kind}/{name}.yaml")


def data_names(kind: str) -> list[str]:
    """Return the names of the package's own data files of a kind, sorted."""
    entries = _folder(kind).iterdir()
    files = [entry.name for entry in entries if entry.name.endswith(".yaml")]
    return sorted(name.removesuffix(".yaml") for name in files)


def asset(name: str) -> str:
    """Return one of the package's own styles and scripts, `simulator/data/page/<name>`."""
    return (_folder("page") / name).read_text(encoding="utf-8")


def table(name: str, kind: str = "measured") -> list[dict[str, str]]:
    """Read one of the package's own tables, `simulator/data/<kind>/<name>.csv`.

    Row by row: heading -> text.
    """
    file = _folder(kind) / f"{name}.csv"
    content = file.read_text(encoding="utf-8")
    # Sources and conditions are in comments above the heading.
    rows = [line for line in content.splitlines() if not line.startswith("#")]
    return list(csv.DictReader(rows))


def _folder(kind: str) -> Traversable:
    return resources.files("simulator") / "data" / kind

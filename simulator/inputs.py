"""Text files -> trees of plain values that remember their lines, and trees -> validated configuration.

YAML is read as version 1.2, so `14.8e12` and `1e9` are numbers and `no` is a word.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from simulator.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Config = TypeVar("Config", bound=BaseModel)
Path_ = tuple[str | int, ...]

ROOT = Path(__file__).resolve().parent
SINGULAR = {"topologies": "topology", "workloads": "workload", "sweeps": "sweep"}
FOLDERS = {"sweeps": "workloads/sweeps"}
"""kind -> where its shipped files lie, for those that do not lie in a folder of its name"""


@dataclass(frozen=True, slots=True)
class Document:
    """A file as plain dicts and lists, with the line of every key.

    file: as the user wrote it. data: the tree. lines: path of keys -> line, from 1. overridden:
    paths of keys that `--set` replaced.
    """

    file: str
    data: dict[str, Any]
    lines: dict[Path_, int]
    overridden: frozenset[Path_] = frozenset()

    def place(self, path: Path_) -> dict[str, Any]:
        """Return where a key stands, as InputError.at takes it: the longest known part of its path, or `--set`."""
        key = ".".join(str(part) for part in path)
        if any(path[: len(taken)] == taken for taken in self.overridden):
            return {"file": "--set", "key": key}
        ends = (
            self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines
        )
        return {"file": self.file, "line": next(ends, 0), "key": key}


def shipped(kind: str) -> dict[str, Path]:
    """Return the shipped files of a kind, a key of SINGULAR, name -> path."""
    place = FOLDERS.get(kind, kind)
    packed = ROOT / "data" / place
    folder = packed if packed.is_dir() else ROOT.parent / place
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str, kind: str) -> Path:
    """Return the path of a file given as a path or as the bare name of a shipped one."""
    path = Path(name)
    if name and path.is_file():
        return path
    known = shipped(kind)
    if name in known:
        return known[name]
    stem = path.stem if path.suffix else name
    if name and path.is_dir():
        remedy = f"Shipped {kind}: {', '.join(known)}."
        raise InputError("is a folder, not a file", key=SINGULAR[kind], value=name, remedy=remedy)
    near = difflib.get_close_matches(stem, known, n=1, cutoff=0.6)
    remedy = (
        f"Did you mean '{near[0]}'?"
        if near
        else f"Give a path, or one of the shipped {kind}: {', '.join(known)}."
    )
    raise InputError("does not exist", file=name, key=SINGULAR[kind], value=name, remedy=remedy)


def read(path: Path, shown: str = "") -> Document:
    """Read a YAML (1.2) or JSON file. Errors: InputError with the line of the first mistake."""
    file = shown or _shown(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=file) from error
    if path.suffix == ".json":
        return _read_json(text, file)
    return _read_yaml(text, file)


def read_trace(path: Path) -> Any:
    """Read a JSON file as profilers write it, plain or compressed (.gz). Errors: InputError."""
    file = _shown(path)
    try:
        raw = path.read_bytes()
        return json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"cannot be read as JSON: {error}", file=file) from error


def source(document: Document) -> str:
    """Return the text that a document was read from, or its tree as JSON where it came from no file."""
    path = Path(document.file)
    if document.file and path.is_file():
        return path.read_text(encoding="utf-8")
    return json.dumps(document.data, indent=1, ensure_ascii=False)


def text(path: Path) -> str:
    """Return the text of a file. Errors: InputError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read: {error}", file=_shown(path)) from error


def _shown(path: Path) -> str:
    """Return a path as a user reads it: from the working folder where it lies below that."""
    whole = path.absolute()
    return str(whole.relative_to(Path.cwd())) if whole.is_relative_to(Path.cwd()) else str(path)


def data(kind: str, name: str) -> Document:
    """Read one of the package's own data files, `simulator/data/<kind>/<name>.yaml`."""
    folder = resources.files("simulator") / "data" / kind
    known = sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise InputError(
            f"is not among the {kind} known", value=name, remedy=f"{hint}Known: {', '.join(known)}."
        )
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    return _read_yaml(text, f"simulator/data/{kind}/{name}.yaml")


def asset(name: str) -> str:
    """Return the text of one of the package's own styles and scripts, `simulator/data/page/<name>`."""
    return (resources.files("simulator") / "data" / "page" / name).read_text(encoding="utf-8")


def table(name: str) -> list[dict[str, str]]:
    """Read one of the package's own tables, `simulator/data/measured/<name>.csv`: heading -> text, row by row."""
    text = (resources.files("simulator") / "data" / "measured" / f"{name}.csv").read_text(
        encoding="utf-8"
    )
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def counts(path: Path) -> NDArray[np.float64]:
    """Read counts [layer, expert] or [step, layer, expert].

    NPZ: its only array. CSV: a row per layer without a heading, or the columns (step,) layer,
    expert, count under one; lines that begin with # are skipped. Errors: InputError.
    """
    import numpy as np

    file = _shown(path)
    try:
        table = _read_npz(path) if path.suffix == ".npz" else _read_csv(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise error.at(file=file) from error
        raise InputError(f"cannot be read as counts: {error}", file=file) from error
    if table.ndim not in (2, 3) or not table.size:
        raise InputError(
            "is no shape of counts",
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
    import numpy as np

    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    names = [name.strip() for name in lines[0].split(",")] if lines else []
    if "count" not in names:
        return np.array(
            [[float(cell) for cell in line.split(",")] for line in lines], dtype=np.float64
        )
    places = [name for name in ("step", "layer", "expert") if name in names]
    if sorted([*places, "count"]) != sorted(names) or places[-2:] != ["layer", "expert"]:
        raise InputError(
            "is no heading of counts", value=lines[0], remedy="Write step,layer,expert,count."
        )
    rows = np.array(
        [[float(cell) for cell in line.split(",")] for line in lines[1:]], dtype=np.float64
    )
    if not len(rows):
        raise InputError("holds no counts")
    index = tuple(
        np.unique(rows[:, names.index(name)], return_inverse=True)[1].ravel() for name in places
    )
    table = np.zeros([int(place.max()) + 1 for place in index])
    np.add.at(table, index, rows[:, names.index("count")])
    return table


def _read_json(text: str, file: str) -> Document:
    try:
        tree = json.loads(text, object_pairs_hook=_once, parse_constant=_finite)
    except json.JSONDecodeError as error:
        raise InputError(f"is not JSON: {error.msg}", file=file, line=error.lineno) from error
    except InputError as error:
        raise error.at(file=file) from error
    return Document(file, _mapping(tree, file), {})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        raise InputError("stands twice", value=next(key for key in keys if keys.count(key) > 1))
    return tree


def _finite(word: str) -> float:
    raise InputError("is no number in JSON", value=word)


def _read_yaml(text: str, file: str) -> Document:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "unreadable").split("\n")[0]
        raise InputError(
            f"is not YAML: {problem}", file=file, line=mark.line + 1 if mark else 0
        ) from error
    except YAMLError as error:
        raise InputError(f"is not YAML: {' '.join(str(error).split())}", file=file) from error
    _mapping(tree, file)
    try:
        return Document(file, _plain(tree), dict(_lines(tree, ())))
    except InputError as error:
        raise error.at(file=file) from error


def _mapping(tree: Any, file: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise InputError(
            "holds no keys", file=file, remedy="Write 'key: value' lines, as the shipped files do."
        )
    return tree


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    if node is None:
        return None
    raise InputError(
        "is no plain value", value=str(node), remedy="Write a number, a text, true, false, or null."
    )


def _lines(node: Any, path: Path_) -> Iterator[tuple[Path_, int]]:
    """Return the line of every key and item below a node; `lc` is ruamel's record of where things stood."""
    places: Any = getattr(node, "lc", None)
    if isinstance(node, dict):
        for key, value in node.items():
            if key in places.data:  # keys that `<<` merged in stand elsewhere
                yield (*path, str(key)), places.key(key)[0] + 1
            yield from _lines(value, (*path, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield (*path, index), places.item(index)[0] + 1
            yield from _lines(value, (*path, index))


def parse_value(text: str) -> Any:
    """Return the value of the right side of `--set KEY=VALUE`, read as YAML 1.2."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return _plain(YAML(typ="rt", pure=True).load(text))
    except YAMLError as error:
        raise InputError("is not a YAML value", value=text) from error


def override(document: Document, path: str, value: Any) -> Document:
    """Return the document with one key replaced. path: keys joined by dots, `node.nvlink`."""
    keys = path.split(".")
    if not all(keys):
        raise InputError(
            "is no path of keys", file="--set", value=path, remedy="Write for example node.nvlink."
        )
    tree = _copy(document.data)
    node: Any = tree
    for key in keys[:-1]:
        if not isinstance(node, dict) or not isinstance(node.setdefault(key, {}), dict):
            remedy = "Set the whole list or value above it."
            raise InputError(
                "is no group of keys", file="--set", key=path, value=key, remedy=remedy
            )
        node = node[key]
    node[keys[-1]] = value
    return replace(document, data=tree, overridden=document.overridden | {tuple(keys)})


def _copy(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def validate(document: Document, model: type[Config]) -> Config:
    """Return the document as a frozen configuration.

    Errors: InputError that names file, line, key, value, rule and remedy of the first mistake.
    """
    try:
        return model.model_validate(document.data, context={"file": document.file})
    except ValidationError as error:
        # A mistyped key is also a missing one: the mistyping says more.
        details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        raise _explain(details[0], document, model) from error


def _explain(detail: ErrorDetails, document: Document, model: type[BaseModel]) -> InputError:
    path: Path_ = detail["loc"]
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        path = (*path, *(cause.key.split(".") if cause.key else ()))
        cause.key = ""
        error = cause
    elif detail["type"] == "extra_forbidden":
        error = _unknown_key(path, model)
    elif detail["type"] == "missing":
        error = InputError("is missing", remedy=f"Add '{path[-1]}:' there.")
    elif detail["type"] == "model_type":
        error = InputError(
            "is no group of keys", value=detail["input"], remedy="Write keys below it, with values."
        )
    else:
        rule = detail["msg"][0].lower() + detail["msg"][1:]
        error = InputError(f"is not accepted: {rule}", value=detail["input"])
    return error.at(**document.place(path))


def _unknown_key(path: Path_, model: type[BaseModel]) -> InputError:
    known = _fields(path[:-1], model)
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    remedy = f"Did you mean '{near[0]}'?" if near else f"Known keys: {', '.join(known)}."
    return InputError("is not a key here", value=path[-1], remedy=remedy)


def _fields(path: Path_, model: type[BaseModel]) -> list[str]:
    """Return the keys that the group at a path knows, following nested configurations."""
    for part in path:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        candidates = [inner, *getattr(inner, "__args__", ())]
        models = [
            kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)

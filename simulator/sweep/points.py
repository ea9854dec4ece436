"""A sweep -> its points: the documents of each, and the name under which it is kept."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice, product
from pathlib import Path
from typing import Any

from simulator import inputs
from simulator.errors import InputError
from simulator.inputs import Document
from simulator.scenario import inline, override, owner
from simulator.store import to_json_line
from simulator.sweep.config import WHOLE_FILES, Sweep
from simulator.sweep.paths import at

SCHEMA_VERSION = 1
"""Of a point's file; with another one, all points are simulated again."""
MOST = 1_000_000
"""Combinations that a sweep may span."""
_OUTSIDE = {"cli", "html", "plot", "pool", "store", "trace"}
"""Rooms that no simulated number depends on."""
_TABLES = ("gpus", "kernels", "low_latency")
"""Folders of data that simulated numbers depend on."""
_FILES = (("topology", "fabric.file"), ("workload", "experts.file"), ("workload", "schedule.file"))
"""Keys that name a further file, seen from their own."""

Documents = dict[str, Document]
"""`topology` and `workload` -> the file of that kind."""


@dataclass(frozen=True)
class Point:
    """One scenario of a sweep."""

    number: int
    """Its position in the order of the axes, from 0."""
    values: dict[str, Any]
    """Axis -> value, as the sweep file says it."""
    cluster: Document
    """The topology after all changes, which needs no other file but those of absolute paths."""
    run: Document
    """The workload after all changes, likewise; with the model's keys instead of its file."""
    name: str
    """Hash of all that its results depend on."""
    group: str
    """Hash of the workload: points of a group differ in their topology alone."""
    refusal: str = ""
    """Why it cannot be a scenario, empty for one that may be built."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A combination of values that keeps all constraints."""

    values: dict[str, Any]
    """Axis -> value."""
    documents: Documents
    """The two files with these values in them."""


def points(sweep: Sweep) -> tuple[Point, ...]:
    """Return the points that keep all constraints, in the order of the axes. Errors: InputError."""
    candidates = list(_candidates(sweep))
    if not candidates:
        error = InputError(
            "leave no point",
            value="; ".join(constraint.text for constraint in sweep.constraints),
            remedy="Loosen one, or widen an axis.",
        )
        raise sweep.told(error, "constraints")
    wanted = sweep.config.points
    if wanted is not None and wanted < len(candidates):
        # A generator of its own, seeded by text: random axes draw the same with and without it.
        chance = random.Random(f"{sweep.config.seed}/points")
        drawn = chance.sample(range(len(candidates)), wanted)
        candidates = [candidates[index] for index in sorted(drawn)]
    numbered = enumerate(candidates)
    return tuple(_point(sweep, number, candidate) for number, candidate in numbered)


def _candidates(sweep: Sweep) -> Iterator[_Candidate]:
    """Yield the combinations that keep all constraints. Errors: InputError."""
    axes = sweep.axes.values()
    combinations: Iterator[tuple[Any, ...]] = product(*axes)
    if sweep.config.mode == "list":
        combinations = zip(*axes, strict=True)
    files = _Files(sweep)
    # One more than may be: an endless product is noticed without being listed.
    for number, combination in enumerate(islice(combinations, MOST + 1)):
        if number == MOST:
            rule = f"span more than {MOST:,} combinations"
            error = InputError(rule, key="axes", remedy="Give fewer values.")
            raise sweep.told(error, "axes")
        values = dict(zip(sweep.axes, combination, strict=True))
        documents = files.of(values)
        if _keeps_constraints(sweep, documents):
            yield _Candidate(values, documents)


def _keeps_constraints(sweep: Sweep, documents: Documents) -> bool:
    """Return whether two files keep all constraints, as far as these have values."""
    return all(_holds(sweep, index, documents) for index in range(len(sweep.constraints)))


def _holds(sweep: Sweep, index: int, documents: Documents) -> bool:
    """Return whether two files keep a constraint. Errors: InputError."""
    constraint = sweep.constraints[index]
    try:
        return bool(constraint.value(lambda path: at(documents, path)))
    except InputError as error:
        # The fault is in the constraint, not in the file whose key it names.
        error.file = ""
        raise sweep.told(error, "constraints", index) from error


class _Files:
    """The two files of a sweep, each read once."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.read: dict[tuple[str, str], Document] = {}

    def of(self, values: Mapping[str, Any]) -> Documents:
        """Return topology and workload with all changes of the sweep and of one point."""
        config = self.sweep.config
        cluster = values.get("topology", config.topology)
        training = values.get("workload", config.workload)
        documents = {
            "topology": self._document(str(cluster), "topologies"),
            "workload": self._document(str(training), "workloads"),
        }
        # The sweep's own values first: an axis may vary one key of a group that `set` replaces.
        for path, value in {**config.set, **values}.items():
            if path in WHOLE_FILES:
                continue
            kind, inner = owner(path)
            documents[kind] = override(documents[kind], inner, value)
        return documents

    def _document(self, name: str, kind: str) -> Document:
        if (name, kind) not in self.read:
            self.read[name, kind] = self._open(name, kind)
        return self.read[name, kind]

    def _open(self, name: str, kind: str) -> Document:
        """Read a file; where there is none, say so at the key of the sweep that names it."""
        try:
            return inputs.read(self.sweep.file(name, kind))
        except InputError as error:
            if error.file not in ("", name):  # it is there, and wrong
                raise
            singular = inputs.SINGULAR[kind]
            path = ("axes", singular) if singular in self.sweep.axes else (singular,)
            error.file, error.key = "", ""
            raise self.sweep.told(error, *path) from error


def _point(sweep: Sweep, number: int, candidate: _Candidate) -> Point:
    cluster = candidate.documents["topology"]
    run, refusal = candidate.documents["workload"], ""
    # The model's keys in place of its file: workers may be machines that do not have it.
    try:
        run = inline(run)
    except InputError as error:
        refusal = reason(error)
    located, contents = _locate({"topology": cluster, "workload": run})
    # What the point depends on, in words that do not change with where its files lie: the hash of a
    # file that a key names instead of its path.
    dependencies = {
        "schema_version": SCHEMA_VERSION,
        "program": program(),
        "penalties": sweep.config.penalties,
        "topology": cluster.data,
        "workload": candidate.documents["workload"].data if contents else run.data,
        "model": run.data.get("model"),
        "files": contents,
        "refusal": refusal,
    }
    run = located["workload"]
    return Point(
        number=number,
        values=candidate.values,
        cluster=_bare(located["topology"]),
        run=_bare(run),
        name=digest(dependencies),
        group=digest(run.data),
        refusal=refusal,
    )


def _locate(documents: Documents) -> tuple[Documents, dict[str, str]]:
    """Return documents that name files by absolute paths, and key -> hash of each such file."""
    contents: dict[str, str] = {}
    for kind, path in _FILES:
        name = at(documents, f"{kind}.{path}")
        if not isinstance(name, str) or not name:
            continue
        document = documents[kind]
        file = (Path(document.file).parent / name).absolute()
        contents[path] = _file_hash(file)
        located = inputs.override(document, path, str(file))
        documents = {**documents, kind: located}
    return documents, contents


def _file_hash(file: Path) -> str:
    """Return the hash of a file, empty where there is none: the point itself will say so."""
    if not inputs.is_file(file):
        return ""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _bare(document: Document) -> Document:
    """Return a document without what only messages need, which would travel to every worker."""
    return replace(document, lines={})


def reason(error: InputError) -> str:
    """Return a refusal as a row says it: without file and line, which differ between machines."""
    error.file, error.line = "", 0
    return str(error)


def digest(tree: Any) -> str:
    """Return a short name for a tree of plain values, the same on any machine."""
    text = to_json_line(tree).encode()
    return hashlib.sha256(text).hexdigest()[:32]


@cache
def program() -> str:
    """Return a hash of all code and tables that a simulated number can depend on."""
    root = inputs.ROOT
    total = hashlib.sha256()
    for path in _sources(root):
        name = path.relative_to(root).as_posix()
        # Ends between name and content: moving a byte across would give another hash.
        total.update(name.encode() + b"\0")
        total.update(path.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def _sources(root: Path) -> Iterator[Path]:
    """Yield the modules and tables below the package's folder, in an order that never changes."""
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] not in _OUTSIDE:
            yield path
    for table in _TABLES:
        yield from sorted((root / "data" / table).glob("*.yaml"))

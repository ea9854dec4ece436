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
from simulator.scenario import inline, owner
from simulator.store import to_json
from simulator.sweep.config import WHOLE_FILES, Sweep
from simulator.sweep.paths import at

SCHEMA_VERSION = 1
"""Of a point's file; another one, and all points are simulated again."""
MOST = 1_000_000
_OUTSIDE = {"cli", "html", "plot", "pool", "store", "trace"}
_TABLES = ("gpus", "kernels", "low_latency")
_FILES = (("topology", "fabric.file"), ("workload", "experts.file"))
"""Keys that name a further file, seen from their own."""


@dataclass(frozen=True)
class Point:
    """One scenario of a sweep.

    number: its place in the order of the axes. values: axis -> value. cluster/run: topology and
    workload after all changes, by themselves: they need no other file but those named by absolute
    paths. name: hash of all inputs. group: points of one group differ in their cluster alone.
    refusal: why it is no scenario before it is even built.
    """

    number: int
    values: dict[str, Any]
    cluster: Document
    run: Document
    name: str
    group: str
    refusal: str = ""


def points(sweep: Sweep) -> tuple[Point, ...]:
    """Return the points that keep all constraints, in the order of the axes. Errors: InputError."""
    chosen = list(_allowed(sweep))
    if not chosen:
        error = InputError(
            "leave no point",
            value="; ".join(one.text for one in sweep.constraints),
            remedy="Loosen one, or widen an axis.",
        )
        raise error.at(**sweep.document.locate(("constraints",)))
    wanted = sweep.config.points
    if wanted is not None and wanted < len(chosen):
        kept = sorted(
            random.Random(f"{sweep.config.seed}/points").sample(range(len(chosen)), wanted)
        )
        chosen = [chosen[number] for number in kept]
    return tuple(
        _point(sweep, number, values, documents)
        for number, (values, documents) in enumerate(chosen)
    )


def _allowed(sweep: Sweep) -> Iterator[tuple[dict[str, Any], dict[str, Document]]]:
    sets = (
        zip(*sweep.axes.values(), strict=True)
        if sweep.config.mode == "list"
        else product(*sweep.axes.values())
    )
    files = _Files(sweep)
    for number, chosen in enumerate(islice(sets, MOST + 1)):
        if number == MOST:
            error = InputError(
                f"span more than {MOST:,} combinations", key="axes", remedy="Give fewer values."
            )
            raise error.at(**sweep.document.locate(("axes",)))
        values = dict(zip(sweep.axes, chosen, strict=True))
        documents = files.of(values)
        if all(_kept(sweep, place, documents) for place in range(len(sweep.constraints))):
            yield values, documents


def _kept(sweep: Sweep, place: int, documents: dict[str, Document]) -> bool:
    try:
        return bool(sweep.constraints[place].value(lambda path: at(documents, path)))
    except InputError as error:
        error.file = ""
        raise error.at(**sweep.document.locate(("constraints", place))) from error


class _Files:
    """The two files of a sweep, each read once."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.read: dict[tuple[str, str], Document] = {}

    def of(self, values: Mapping[str, Any]) -> dict[str, Document]:
        """Return topology and workload with all changes of the sweep and of one point."""
        config = self.sweep.config
        documents = {
            "topology": self._document(str(values.get("topology", config.topology)), "topologies"),
            "workload": self._document(str(values.get("workload", config.workload)), "workloads"),
        }
        for path, value in {**config.set, **values}.items():
            if path not in WHOLE_FILES:
                kind, inner = owner(path)
                documents[kind] = inputs.override(documents[kind], inner, value)
        return documents

    def _document(self, name: str, kind: str) -> Document:
        if (name, kind) not in self.read:
            singular = inputs.SINGULAR[kind]
            try:
                self.read[name, kind] = inputs.read(self.sweep.file(name, kind))
            except InputError as error:
                if error.file != name:
                    raise
                place = ("axes", singular) if singular in self.sweep.axes else (singular,)
                error.file, error.key = "", ""
                raise error.at(**self.sweep.document.locate(place)) from error
        return self.read[name, kind]


def _point(
    sweep: Sweep, number: int, values: dict[str, Any], documents: dict[str, Document]
) -> Point:
    cluster, run, refusal = documents["topology"], documents["workload"], ""
    try:
        run = inline(run)
    except InputError as error:
        refusal = reason(error)
    held = {}
    for kind, path in _FILES:
        document = cluster if kind == "topology" else run
        name = at({kind: document}, f"{kind}.{path}")
        if isinstance(name, str) and name:
            file = (Path(document.file).parent / name).absolute()
            held[path] = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
            document = inputs.override(document, path, str(file))
            cluster, run = (document, run) if kind == "topology" else (cluster, document)
    whole = {
        "schema_version": SCHEMA_VERSION,
        "program": program(),
        "penalties": sweep.config.penalties,
        "topology": documents["topology"].data,
        "workload": run.data if not held else documents["workload"].data,
        "model": run.data.get("model"),
        "files": held,
        "refusal": refusal,
    }
    return Point(
        number, values, _bare(cluster), _bare(run), digest(whole), digest(run.data), refusal
    )


def _bare(document: Document) -> Document:
    """Return a document without what only messages need, which would travel to every worker."""
    return replace(document, lines={})


def reason(error: InputError) -> str:
    """Return a refusal as a row says it: without the place, which depends on where files lie."""
    error.file, error.line = "", 0
    return str(error)


def digest(tree: Any) -> str:
    """Return a short name for a tree of plain values: the same for the same tree, on any machine."""
    return hashlib.sha256(to_json(tree).encode()).hexdigest()[:32]


@cache
def program() -> str:
    """Return a hash of all code and tables that a simulated number can depend on."""
    root = inputs.ROOT
    code = [
        path
        for path in sorted(root.rglob("*.py"))
        if path.relative_to(root).parts[0] not in _OUTSIDE
    ]
    data = [path for table in _TABLES for path in sorted((root / "data" / table).glob("*.yaml"))]
    found = hashlib.sha256()
    for path in [*code, *data]:
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]

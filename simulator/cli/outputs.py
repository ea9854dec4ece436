"""The files that commands write, checked before any work is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import click

from simulator.cli.status import status_line

INPUTS: Mapping[str, str] = {
    "topology": "topologies",
    "topologies": "topologies",
    "workload": "workloads",
    "workloads": "workloads",
    "sweep_file": "sweeps",
    "campaigns": "campaigns",
    "file": "",
    "trace": "",
}
"""Parameter of a command that names files to read -> the kind of shipped file that it may name."""
ORDER = (
    "run",
    "compare",
    "sweep",
    "plan",
    "validate",
    "schedule",
    "collective",
    "topology",
    "trace",
    "keys",
    "schema",
    "compile",
)
"""Commands as the help lists them."""
_DOCUMENTS = (".json", ".yaml", ".yml")
"""Endings of files whose values may name further files."""


STANDARD_OUTPUT = Path("-")
"""What --json takes for standard output, free of any text."""


class Command(click.Command):
    """A command that writes no file which it reads, and none twice."""

    def invoke(self, context: click.Context) -> Any:
        """Check the files to write, then run. Errors: InputError."""
        _check(self, context.params)
        return super().invoke(context)


class Group(click.Group):
    """A group of such commands, listed from the question that most people ask to the tools."""

    command_class = Command

    def invoke(self, context: click.Context) -> Any:
        """Run a command, and say what it is at while it shows nothing."""
        with status_line():
            return super().invoke(context)

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the names of the commands: those of ORDER, then others by name."""
        others = sorted(set(self.commands) - set(ORDER))
        return [name for name in (*ORDER, *others) if name in self.commands]


def output(_: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    """Return where an option writes, `-` for standard output. Errors: InputError."""
    if value is None:
        return None
    if value == "-" and parameter.name == "json":
        return STANDARD_OUTPUT
    from simulator.errors import InputError

    try:
        if value == "-":
            raise InputError(
                "is standard output, where only --json writes",
                value=value,
                remedy="Name a file.",
            )
        return _checked(parameter.name or "", value)
    except InputError as error:
        raise error.at(key=f"--{parameter.name}") from error


def _checked(option: str, value: str) -> Path:
    """Return a path that can be written to, and that an option writes. Errors: InputError."""
    from simulator.store import check_writable

    if option == "trace":
        from simulator.trace import check_target

        return check_target(value)
    path = Path(value)
    check_writable(path)
    if option == "plot":
        from simulator.plot import check_format

        check_format(path)
    return path


def _check(command: click.Command, given: Mapping[str, Any]) -> None:
    """Refuse to write one file twice, or one that the command reads. Errors: InputError."""
    options = [part.name or "" for part in command.params if part.callback is output]
    files: dict[str, Path] = {}
    for name in options:
        if given[name] not in (None, STANDARD_OUTPUT):
            files[f"--{name}"] = given[name]
    _check_distinct(files)
    # Only what exists can be an input; a first run reads nothing here.
    existing = {option: path for option, path in files.items() if path.is_file()}
    if existing:
        read = {name: given[name] for name in given.keys() - options}
        _check_inputs(existing, read)


def _check_distinct(files: Mapping[str, Path]) -> None:
    """Refuse two options that name one file; devices take any number. Errors: InputError."""
    from simulator.errors import InputError

    for first, second in combinations(files, 2):
        path = files[second]
        plain = path.is_file() or not path.exists()
        if plain and files[first].resolve() == path.resolve():
            raise InputError(f"is written by {first} too", key=second, value=str(path))


def _check_inputs(files: Mapping[str, Path], given: Mapping[str, Any]) -> None:
    """Refuse to write what a command with these parameters reads. Errors: InputError."""
    from simulator.errors import InputError

    for read in _inputs(given):
        for option, path in files.items():
            if path.samefile(read):
                raise InputError(
                    "is an input of this command",
                    key=option,
                    value=str(path),
                    remedy="Name another file.",
                )


def _inputs(given: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the files that a command reads: those of its parameters, and those that these name."""
    documents: list[Path] = []
    for parameter, kind in INPUTS.items():
        value = given.get(parameter) or ()
        names = value if isinstance(value, tuple) else (value,)
        files = list(_named(names, kind))
        yield from files
        if kind:
            documents += files
    folders = {document.parent for document in documents}
    for text in _texts(given.get("sets") or {}):
        documents += [folder / text for folder in folders]
    yield from _reachable(documents)


def _named(names: Iterable[str | Path], kind: str) -> Iterator[Path]:
    """Yield the files of names: paths, or shipped files of a kind."""
    from simulator import inputs

    for name in names:
        if inputs.is_file(Path(name)):
            yield Path(name)
        elif kind and name in inputs.shipped(kind):
            yield inputs.shipped(kind)[str(name)]


def _reachable(files: Iterable[Path]) -> Iterator[Path]:
    """Yield documents, and all files that texts in them could name."""
    from simulator import inputs

    waiting = list(files)
    seen: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if not inputs.is_file(file) or file.resolve() in seen:
            continue
        seen.add(file.resolve())
        yield file
        # Keys name files seen from their own file; a sweep names its scenario's from here as well.
        for text in _texts(_tree(file)):
            waiting += [file.parent / text, Path(text)]


def _tree(file: Path) -> Any:
    """Return what a document holds, nothing for other files and malformed ones."""
    from simulator import inputs
    from simulator.errors import InputError

    if file.suffix not in _DOCUMENTS:
        return None
    try:
        return inputs.read(file).data
    except InputError:  # its own reader will say so, with its place
        return None


def _texts(tree: Any, key: str = "") -> Iterator[str]:
    """Yield the texts of a tree but for names, which may well be those of earlier results."""
    if isinstance(tree, Mapping):
        for inner, value in tree.items():
            yield from _texts(value, str(inner))
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value, key)
    elif isinstance(tree, str) and tree and key != "name":
        yield tree

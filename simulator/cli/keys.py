"""`simulate keys`: every key of the files, what it may say, and what it says where it is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simulator.reference import Key


@cli.command()
@click.argument("prefix", default="")
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the keys as JSON; - writes them to standard output.",
)
def keys(prefix: str, json: Path | None) -> None:
    """List the keys of topology, workload, sweep and campaign files.

    PREFIX is the beginning of a path, such as topology., layout. or schedule.name; default: all
    keys. A path is what --set takes; [] stands for any item of a list.
    """
    from simulator.reference import keys as known

    rows = known(prefix)
    tree = {"keys": [row.as_dict() for row in rows]}
    text = _text(rows)
    emit(lambda: tree, json, lambda console: print_parts(console, text))


def _text(rows: Sequence[Key]) -> Iterator[RenderableType]:
    """Yield two lines a key: how it is written, and what it means."""
    import textwrap

    from rich.text import Text

    indent = " " * 4
    # Wrapped here, not by rich, which would not indent the lines that it breaks off.
    wrapper = textwrap.TextWrapper(96, initial_indent=indent, subsequent_indent=indent)
    for row in rows:
        head = Text(row.path, style="bold")
        kind = _type(row)
        head.append(f"  {kind}", style="not bold")
        yield head
        for line in wrapper.wrap(
            row.meaning
        ):  # one at a time: a line break in a text would be shown as \n
            yield Text(line, style="dim")


def _type(row: Key) -> str:
    """Return what a key may say, with an example, and what holds where it is left out."""
    # A type that lists its values needs no example.
    lists_values = row.type == "true or false" or row.type.startswith("one of")
    kind = row.type
    if row.example is not None and not lists_values:
        kind += f", such as {_written(row.example)}"
    return f"{kind}; {_default(row)}"


def _default(row: Key) -> str:
    """Return what holds where a key is left out, or that it may not be."""
    if row.required:
        return "required"
    if row.default in (None, "", []):
        return "optional"
    return f"default: {_written(row.default)}"


def _written(value: Any) -> str:
    """Return a value on one line, as a file would say it."""
    if isinstance(value, dict):
        pairs = [f"{key}: {_written(inner)}" for key, inner in value.items()]
        listed = ", ".join(pairs)
        return f"{{{listed}}}"
    if isinstance(value, list):
        listed = ", ".join(_written(item) for item in value)
        return f"[{listed}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)

"""What a command has found, as JSON, as text or as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.escapes import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from simulator.html import Inputs


def emit(tree: Callable[[], Any], json: Path | None, show: Callable[[Console], None]) -> None:
    """Write JSON where it is wanted, and show the text unless JSON takes standard output."""
    from simulator.store import to_json, write_text

    if json == Path("-"):
        click.echo(to_json(tree()), nl=False)
        return
    if json:
        write_text(json, to_json(tree()))
    from simulator.cli.terminal import PlainConsole

    show(PlainConsole())


def say(text: str) -> None:
    """Write to standard error, with control characters as they are written in source."""
    click.echo(visible(text, lines=True), err=True)


def print_parts(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print the parts of a text one below the other."""
    for part in parts:
        console.print(part)


def write_page(path: Path, page: Callable[[Inputs], str]) -> None:
    """Write a page that says which call made it."""
    import shlex

    from simulator.html import Inputs
    from simulator.store import write_text

    call = shlex.join(click.get_current_context().obj)
    write_text(path, page(Inputs(f"simulate {call}")))

"""What a command has found, as JSON, as text or as a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.status import hidden
from simulator.escapes import visible
from simulator.progress import doing

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from simulator.html import Inputs


def emit(
    tree: Callable[[], Any],
    json: Path | None,
    show: Callable[[Console], None],
) -> None:
    """Write JSON where it is wanted, and show the text unless JSON takes standard output.

    tree, show: called only if they are needed; a tree may be large, and rich takes time to import.
    """
    from simulator.store import to_json, write_text

    if json == Path("-"):
        content = to_json(tree())
        with hidden():
            click.echo(content, nl=False)
        return
    if json:
        content = to_json(tree())
        write_text(json, content)
    from simulator.cli.terminal import PlainConsole

    with hidden():
        show(PlainConsole())


def say(text: str) -> None:
    """Write to standard error, with control characters as they are written in source."""
    # Names and values of the user's files are in it: none of them may steer the terminal.
    shown = visible(text, lines=True)
    with hidden():
        click.echo(shown, err=True)


def print_parts(console: Console, parts: Iterable[RenderableType]) -> None:
    """Print the parts of a text one below the other."""
    for part in parts:
        console.print(part)


def write_page(path: Path, page: Callable[[Inputs], str]) -> None:
    """Write a page that says which call made it."""
    import shlex

    from simulator.html import Inputs
    from simulator.store import write_text

    context = click.get_current_context()
    call = shlex.join(context.obj)
    given = Inputs(f"simulate {call}")
    with doing("writing the page"):
        write_text(path, page(given))

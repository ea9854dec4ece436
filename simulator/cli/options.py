"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from simulator.cli.outputs import output

Command = TypeVar("Command", bound=Callable[..., Any])


def parse_sets(
    _: click.Context,
    __: click.Parameter,
    values: tuple[str, ...],
) -> dict[str, Any]:
    """Return the values of `--set`, by key. Errors: BadParameter, InputError."""
    from simulator.errors import InputError
    from simulator.inputs import parse_value

    parsed = {}
    for text in values:
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator or not key:
            raise click.BadParameter(f"'{text}' is not KEY=VALUE. Write for example layout.ep=32.")
        try:
            parsed[key] = parse_value(value)
        except InputError as error:
            raise error.at(file="--set", key=key) from error
    return parsed


def common(command: Command) -> Command:
    """Add the options of commands that simulate a scenario."""
    options = (
        click.option(
            "--set",
            "sets",
            multiple=True,
            callback=parse_sets,
            metavar="KEY=VALUE",
            help="Replace a key of either file, for example layout.ep=32; null removes it.",
        ),
        click.option(
            "--json",
            callback=output,
            metavar="FILE",
            help="Write the report as JSON; - writes it to standard output.",
        ),
        click.option(
            "--plot", callback=output, metavar="FILE", help="Draw a figure: .png, .svg or .pdf."
        ),
        click.option(
            "--html",
            callback=output,
            metavar="FILE",
            help="Write a self-contained page for a browser.",
        ),
    )
    # Decorators apply from the last one up: reversed, help lists them in this order.
    for option in reversed(options):
        command = option(command)
    return command

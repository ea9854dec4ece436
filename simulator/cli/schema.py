"""`simulate schema`: the JSON schema of a kind of file, for editors and for programs that write such files."""

from __future__ import annotations

from pathlib import Path

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit
from simulator.cli.outputs import output as _output


@cli.command()
@click.argument("kind", type=click.Choice(["topology", "workload", "sweep", "campaign"]))
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the schema to this file; - and the default are standard output.",
)
def schema(kind: str, json: Path | None) -> None:
    """Print the JSON schema of a kind of file (draft 2020-12).

    Editors with a YAML language server check and complete a file that begins with
    `# yaml-language-server: $schema=PATH`.
    """
    from simulator.reference import schema as schema_of

    # A schema has no text of its own: it is JSON on standard output too.
    target = json or Path("-")
    emit(lambda: schema_of(kind), target, lambda _: None)

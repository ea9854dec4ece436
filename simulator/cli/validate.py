"""`simulate validate`: simulated figures against published ones."""

from __future__ import annotations

from pathlib import Path

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts
from simulator.cli.outputs import output
from simulator.progress import counting, doing


@cli.command()
@click.argument("cases", nargs=-1, metavar="[CASE]...")
@click.option(
    "--json",
    callback=output,
    metavar="FILE",
    help="Write the checks as JSON; - writes them to standard output.",
)
@click.option(
    "--alternatives/--no-alternatives",
    default=False,
    show_default=True,
    help="Also simulate the other choices for what a source does not say, and show their span.",
)
def validate(cases: tuple[str, ...], json: Path | None, alternatives: bool) -> None:
    """Compare simulated results with published measurements.

    CASE is a publication such as megatron_2022, or one of its rows. Default: all, which takes
    minutes.
    """
    from simulator.cli.checks import checks_text
    from simulator.validate import by_kind
    from simulator.validate import validate as check

    checks = []
    with doing("validating"):
        tell = counting("done")
        for row in check(cases, alternatives=alternatives):
            checks.append(row)
            tell(len(checks))
    kinds = [{**row.kind._asdict(), **row.score.as_dict()} for row in by_kind(checks)]
    tree = {"checks": [row.as_dict() for row in checks], "kinds": kinds}
    text = checks_text(checks)
    emit(lambda: tree, json, lambda console: print_parts(console, text))

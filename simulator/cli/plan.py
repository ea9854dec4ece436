"""`simulate plan`: whole training programmes, stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts
from simulator.cli.options import parse_sets
from simulator.cli.outputs import output


@cli.command()
@click.argument("campaigns", nargs=-1, required=True, metavar="CAMPAIGN...")
@click.option(
    "--set",
    "sets",
    multiple=True,
    callback=parse_sets,
    metavar="KEY=VALUE",
    help="Replace a key of the campaigns, for example price='3 USD per GPU-hour'; null removes it.",
)
@click.option(
    "--json",
    callback=output,
    metavar="FILE",
    help="Write the ledgers as JSON; - writes them to standard output.",
)
def plan(campaigns: tuple[str, ...], sets: dict[str, Any], json: Path | None) -> None:
    """Add up whole training programmes, stage by stage.

    CAMPAIGN is a YAML file or the bare name of a shipped one, such as deepseek-v3. Every stage is
    simulated; published figures stand beside the simulated ones with what they include.
    """
    from simulator import campaign as room
    from simulator.cli.plan_text import ledgers_text

    # All are read before anything is simulated, so that a mistake in the last one costs no time.
    read = [room.read(name, sets) for name in campaigns]
    steps = room.simulated(room.scenarios(read))
    ledgers = [room.ledger(one, steps) for one in read]
    text = ledgers_text(ledgers)
    emit(lambda: room.as_dict(ledgers), json, lambda console: print_parts(console, text))

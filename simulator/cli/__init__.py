"""The command line: the only module that prints.

`commands`, `collective`, `keys`, `schedule`, `schema`, `sweep`, `topology` and `trace` have the
commands, `text` the tables.
"""

from __future__ import annotations

from simulator.cli.collective import collective
from simulator.cli.commands import main
from simulator.cli.keys import keys
from simulator.cli.schedule import schedule
from simulator.cli.schema import schema
from simulator.cli.sweep import sweep
from simulator.cli.topology import topology
from simulator.cli.trace import trace

__all__ = [
    "collective",
    "keys",
    "main",
    "schedule",
    "schema",
    "sweep",
    "topology",
    "trace",
]

"""The command line: the only module that prints.

Each command has a file of its name; `commands` has their group, `options` and `outputs` what they
share, `emit` what they write; `text`, `comparison`, `checks` and `tables` are texts for a terminal.
"""

from __future__ import annotations

from simulator.cli.collective import collective
from simulator.cli.commands import main
from simulator.cli.compare import compare
from simulator.cli.compile import compile_
from simulator.cli.keys import keys
from simulator.cli.plan import plan
from simulator.cli.run import run
from simulator.cli.schedule import schedule
from simulator.cli.schema import schema
from simulator.cli.sweep import sweep
from simulator.cli.topology import topology
from simulator.cli.trace import trace
from simulator.cli.validate import validate

__all__ = [
    "collective",
    "compare",
    "compile_",
    "keys",
    "main",
    "plan",
    "run",
    "schedule",
    "schema",
    "sweep",
    "topology",
    "trace",
    "validate",
]

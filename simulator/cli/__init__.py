"""The command line: the only module that prints. `commands` has the commands, `text` the tables that they print."""

from __future__ import annotations

from simulator.cli.commands import main

__all__ = ["main"]

"""The command line: the only module that prints. `commands` and `collective` have the commands, `text` the tables."""

from __future__ import annotations

from simulator.cli.collective import collective
from simulator.cli.commands import main

__all__ = ["collective", "main"]

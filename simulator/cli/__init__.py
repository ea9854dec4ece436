"""The command line: the only module that prints.

`commands`, `collective` and `topology` have the commands, `text` the tables.
"""

from __future__ import annotations

from simulator.cli.collective import collective
from simulator.cli.commands import main
from simulator.cli.topology import topology

__all__ = ["collective", "main", "topology"]

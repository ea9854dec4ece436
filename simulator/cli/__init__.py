"""The command line: the only module that prints.

`commands`, `collective`, `schedule`, `sweep`, `topology` and `trace` have the commands, `text` the
tables.
"""

from __future__ import annotations

from simulator.cli.collective import collective
from simulator.cli.commands import main
from simulator.cli.schedule import schedule
from simulator.cli.sweep import sweep
from simulator.cli.topology import topology
from simulator.cli.trace import trace

__all__ = ["collective", "main", "schedule", "sweep", "topology", "trace"]

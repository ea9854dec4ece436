"""Axes and points; no second simulator.

    sweep file --read--> Sweep --points--> Point, ... --run--> Finished, ... --table--> columns

`config`: what a sweep file says. `axes`: lists, ranges, draws. `expressions`: constraints and
derived columns. `paths`: keys of the two files. `points`: what each point simulates. `run`: through
a pool into a folder. `table`: rows.
"""

from __future__ import annotations

from simulator.sweep.config import Sweep, SweepConfig, read
from simulator.sweep.points import Point, points
from simulator.sweep.run import Finished, run, run_point
from simulator.sweep.table import derived, table

__all__ = [
    "Finished",
    "Point",
    "Sweep",
    "SweepConfig",
    "derived",
    "points",
    "read",
    "run",
    "run_point",
    "table",
]

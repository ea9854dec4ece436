"""Figures. The only room that imports matplotlib, and only when a figure is drawn.

`steps`: one step and several beside each other. `clusters`: the graph of a cluster. `collectives`: one that runs
alone. `kernels`: measured kernels beside the kernel tables. `schedules`: a pipeline schedule by itself. `sweeps`: many
points.
"""

from __future__ import annotations

from simulator.plot.clusters import cluster
from simulator.plot.collectives import collective
from simulator.plot.kernels import kernels
from simulator.plot.schedules import schedule
from simulator.plot.steps import FORMATS, PART_COLOURS, check_format, comparison, step
from simulator.plot.sweeps import SweepFigure, knee, sweep

__all__ = [
    "FORMATS", "PART_COLOURS", "SweepFigure", "check_format", "cluster", "collective", "comparison", "kernels", "knee",
    "schedule", "step", "sweep",
]  # fmt: skip

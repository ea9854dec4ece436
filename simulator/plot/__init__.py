"""Figures. The only room that imports matplotlib, and only when a figure is drawn.

`canvas`: how all are opened and written. `FIGURES`: of one step, by name. `lanes`: a step over time;
`steps`: its parts, and several steps compared. `links`, `memory`: over its time. `experts`: who sends
what to whom, tokens of experts; `column`: what these share. `clusters`: the graph of a cluster, drawn
by `cluster_layers` and `cluster_rings`. `collectives`: one that runs alone. `kernels`: measured kernels
compared with the kernel tables; `exchanges`: those of tokens, over SMs. `schedules`: a pipeline
schedule by itself. `sweeps`: many points;
`sweep_values`: what is shown of them; `sweep_panels`: how.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

from simulator.errors import InputError
from simulator.plot.canvas import FORMATS, check_format
from simulator.plot.clusters import cluster
from simulator.plot.collectives import collective
from simulator.plot.column import check_content
from simulator.plot.exchanges import over_sms
from simulator.plot.experts import experts, traffic
from simulator.plot.kernels import kernels
from simulator.plot.lanes import step
from simulator.plot.links import links
from simulator.plot.memory import MEMORY_COLOURS, memory
from simulator.plot.schedules import schedule
from simulator.plot.steps import comparison
from simulator.plot.sweep_values import SweepFigure, knee
from simulator.plot.sweeps import sweep
from simulator.report import Report
from simulator.scenario import Scenario
from simulator.timeline import Timeline

__all__ = [
    "FIGURES",
    "FORMATS",
    "MEMORY_COLOURS",
    "SweepFigure",
    "check_figure",
    "check_format",
    "cluster",
    "collective",
    "comparison",
    "kernels",
    "knee",
    "over_sms",
    "schedule",
    "step",
    "sweep",
]

# A figure of a step is one function and one row here: the command's help and its errors list them.
FIGURES: dict[str, Callable[[Timeline, Report, Path], None]] = {
    "step": step,
    "links": links,
    "memory": memory,
    "traffic": traffic,
    "experts": experts,
}
"""Name -> function that draws a step: (timeline, report, file)."""


def check_figure(name: str, scenario: Scenario | None = None) -> None:
    """Refuse what is not a figure of a step, or has nothing to show in a scenario. Errors: InputError."""
    if name not in FIGURES:
        near = difflib.get_close_matches(name, FIGURES, n=1)
        known = ", ".join(FIGURES)
        remedy = f"Choose from: {known}."
        if near:
            remedy = f"Did you mean {near[0]!r}?"
        raise InputError("is not a figure", key="--figure", value=name, remedy=remedy)
    # Before the run where the scenario is known: a figure without content would cost a simulation.
    if scenario is not None:
        check_content(name, scenario)

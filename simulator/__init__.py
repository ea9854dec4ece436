"""A distributed-training simulator for bandwidth-limited GPU clusters.

    from simulator import load, lower, run, summarise
    report = summarise(run(lower(load("h800-2048", "deepseek-v3"))))
    report.step_time  # [s]

Two files go in, a topology and a workload; one immutable value passes between layers:
load -> Scenario -> lower -> Program -> run -> Timeline -> summarise -> Report.

Every error raised on purpose is a SimulateError; an InputError says what to write instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.engine import run
    from simulator.errors import (
        EngineError,
        InputError,
        LayoutError,
        ScheduleError,
        SimulateError,
        UnitError,
    )
    from simulator.program import lower
    from simulator.report import summarise
    from simulator.scenario import load

__all__ = [
    "EngineError",
    "InputError",
    "LayoutError",
    "ScheduleError",
    "SimulateError",
    "UnitError",
    "load",
    "lower",
    "run",
    "summarise",
]
__version__ = "0.1.0"

_HOMES = {
    "EngineError": "errors",
    "InputError": "errors",
    "LayoutError": "errors",
    "ScheduleError": "errors",
    "SimulateError": "errors",
    "UnitError": "errors",
    "load": "scenario",
    "lower": "program",
    "run": "engine",
    "summarise": "report",
}
"""Public name -> the module that defines it."""


def __getattr__(name: str) -> Any:
    # Imported at first use: `simulate --help` needs none of it.
    if name not in _HOMES:
        raise AttributeError(f"module 'simulator' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"simulator.{_HOMES[name]}"), name)

"""On which constants a result hangs: each changed by a tenth, and the step run again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.costs import Costs, price
from simulator.engine import run
from simulator.program import lower
from simulator.report import Report
from simulator.scenario import Scenario
from simulator.whatif.constants import Path, below, constant, places, scaled, shown

CHANGE = 0.1
"""By how much each constant is changed."""
COUNT = 10
"""Constants that are reported."""
UNFELT = 1e-4
"""Places that move the step by less of itself, all constants together, are not looked into."""

_IN_BLOCKS = ("gemm", "wgrad", "grouped", "grouped_wgrad", "attention", "gap")
"""Keys of kernel tables that nothing but the blocks of a model is priced by."""

Ran = Callable[[], None]
"""Called after every run, for who shows how far it is."""


def _silent() -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What a constant of a profile means to the step."""

    name: str
    """Its file and key."""
    value: float
    """Its value in SI; of a curve its mean."""
    up: float
    """Change of the step with the constant a tenth larger, relative."""
    down: float
    """Change of the step with the constant a tenth smaller, relative."""

    @property
    def size(self) -> float:
        """Return the larger of both changes, without its sign."""
        return max(abs(self.up), abs(self.down))


def sensitivity(report: Report, ran: Ran = _silent) -> tuple[Sensitivity, ...]:
    """Return the COUNT constants on which a step hangs most, the most important first."""
    trial = _Trial(report, price(report.scenario), ran)
    found = _larger(trial)
    # What is bound by something else may still get longer by a constant that is smaller.
    largest = sorted(found, key=lambda path: -abs(found[path]))[: COUNT + COUNT // 2]
    rows = []
    for path in largest:
        down = trial.moved(path, 1.0 - CHANGE)
        name = shown(report.scenario, path)
        rows.append(Sensitivity(name, constant(report.scenario, path), found[path], down))
    rows.sort(key=lambda row: -row.size)
    return tuple(rows[:COUNT])


def _larger(trial: _Trial) -> dict[Path, float]:
    """Return how a tenth more of each constant that is felt moves the step, relative.

    Everything below a place is made larger together first: most of what profiles hold is of other
    number formats, GPUs and kernels, and one run rules it out.
    """
    scenario = trial.report.scenario
    found: dict[Path, float] = {}
    waiting = [*places(scenario)]
    while waiting:
        path = waiting.pop(0)
        inner = below(scenario, path)
        # A whole part is always felt.
        moved = 1.0 if len(path) == 1 else trial.moved(path, 1.0 + CHANGE)
        if abs(moved) < UNFELT:
            continue
        waiting += inner
        if not inner:
            found[path] = moved
    return found


@dataclass(frozen=True, slots=True)
class _Trial:
    """A step that is run again with other constants."""

    report: Report
    """The step as it is."""
    costs: Costs
    """What its blocks cost."""
    ran: Ran
    """Called after every run."""

    def moved(self, path: Path, factor: float) -> float:
        """Return the change of the step with what lies at and below a place scaled, relative."""
        changed = scaled(self.report.scenario, path, factor)
        self.ran()
        if self._same_blocks(path, changed):
            return 0.0
        # A hundred runs pay for loading what numba has compiled.
        step = run(lower(changed), executor="compiled").step_time
        return step / self.report.step_time - 1.0

    def _same_blocks(self, path: Path, changed: Scenario) -> bool:
        """Tell whether a constant is of other formats and GPUs, as most of a kernel table is."""
        part, *keys = path
        if part != "kernels" or keys[0] not in _IN_BLOCKS:
            return False
        costs = price(changed)
        return costs.blocks == self.costs.blocks and costs.loaded == self.costs.loaded

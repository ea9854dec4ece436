"""On which constants a result hangs: each changed by a tenth, and the step run again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from simulator.costs import Costs, price
from simulator.engine import run
from simulator.program import lower
from simulator.progress import counting, doing
from simulator.report import Report
from simulator.whatif.constants import Path, below, constant, places, scaled, shown

CHANGE = 0.1
"""By how much each constant is changed."""
COUNT = 10
"""Constants that are reported."""
CANDIDATES = COUNT + 2
"""Constants that are made both larger and smaller."""
SEARCHED = 40
"""Runs after which no further place is looked into: with V3's step on 2,048 GPUs a run takes a second."""
UNFELT = 1e-4
"""Places that move the step by less of itself, all constants together, are not looked into."""

_IN_BLOCKS = ("gemm", "wgrad", "grouped", "grouped_wgrad", "attention", "gap")
"""Keys of kernel tables by which blocks are priced and nothing else."""


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


@doing("finding the constants that matter")
def sensitivity(report: Report) -> tuple[Sensitivity, ...]:
    """Return the COUNT constants on which a step hangs most, the most important first."""
    trial = _Trial(report, price(report.scenario), counting("runs"))
    felt = _felt(trial)
    # What is bound by something else may still get longer by a constant that is smaller.
    largest = sorted(felt, key=lambda path: -abs(felt[path]))[:CANDIDATES]
    rows = []
    for path in largest:
        row = Sensitivity(
            name=shown(report.scenario, path),
            value=constant(report.scenario, path),
            up=trial.moved(path, 1.0 + CHANGE),
            down=trial.moved(path, 1.0 - CHANGE),
        )
        rows.append(row)
    rows.sort(key=lambda row: -row.size)
    return tuple(rows[:COUNT])


def _felt(trial: _Trial) -> dict[Path, float]:
    """Return about how much a tenth more of each constant moves the step, of those that move it most.

    Everything below a place is made larger together first, and the place that moves the step most
    is looked into next, until SEARCHED runs are spent.
    """
    scenario = trial.report.scenario
    found: dict[Path, float] = {}
    order = count()  # of places that move the step alike the one found first
    waiting: list[_Place] = []
    for path in places(scenario):
        # Datasheets and kernel tables are always felt.
        whole = path in (("gpu",), ("kernels",))
        moved = 1.0 if whole else trial.about(path)
        heappush(waiting, _Place(-abs(moved), next(order), path))
    while waiting and -waiting[0].rank >= UNFELT:
        place = heappop(waiting)
        inner = below(scenario, place.path)
        if not inner:
            found[place.path] = -place.rank
        # What still waits moves the step less than what was looked into.
        if len(trial.steps) >= SEARCHED and not _in_blocks(place.path):
            continue
        for path in inner:
            heappush(waiting, _Place(-abs(trial.about(path)), next(order), path))
    return found


def _in_blocks(path: Path) -> bool:
    """Tell whether the costs of blocks say what a place does, without a run."""
    part, *keys = path
    return part == "kernels" and bool(keys) and keys[0] in _IN_BLOCKS


class _Place(NamedTuple):
    """A place that waits to be looked into; the least is next."""

    rank: float
    """By how much it moves the step, negative."""
    order: int
    """When it was found."""
    path: Path
    """Where it is."""


@dataclass(frozen=True, slots=True)
class _Trial:
    """A step that is run again with other constants."""

    report: Report
    """The step as it is."""
    costs: Costs
    """What its blocks cost."""
    ran: Callable[[int], None]
    """Called after every run with the number of all so far, for who shows how far it is."""
    steps: dict[tuple[Path, float], float] = field(default_factory=dict)
    """Place and factor -> the step, of every run so far [s]."""

    def moved(self, path: Path, factor: float) -> float:
        """Return the change of the step with what lies at and below a place scaled, relative."""
        if (path, factor) not in self.steps:
            changed = scaled(self.report.scenario, path, factor)
            # So many runs pay for loading what numba has compiled.
            self.steps[path, factor] = run(lower(changed), executor="compiled").step_time
            self.ran(len(self.steps))
        return self.steps[path, factor] / self.report.step_time - 1.0

    def about(self, path: Path) -> float:
        """Return about what a tenth more does: by the kernels of all blocks where they say it all."""
        if not _in_blocks(path):
            return self.moved(path, 1.0 + CHANGE)
        costs = price(scaled(self.report.scenario, path, 1.0 + CHANGE))
        return _kernels(costs) / _kernels(self.costs) - 1.0


def _kernels(costs: Costs) -> float:
    """Return what all kernels of one micro-batch take on all stages [s]."""
    total = 0.0
    for stage in range(len(costs.stages)):
        for block in costs.stage(stage):
            total += sum(phase.total for phase in block.phases.values())
    return total

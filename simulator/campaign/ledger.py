"""Campaign + steps -> Ledger: what each stage and the whole come to, beside what was published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simulator.campaign.config import CampaignConfig, Figure, StageConfig
from simulator.campaign.money import EnergyConfig, Owned, owned, watts
from simulator.campaign.reader import Campaign, Stage
from simulator.campaign.reliability import expected
from simulator.campaign.spans import Point, Span, mixed, work
from simulator.campaign.steps import Step, Steps, key
from simulator.errors import InputError
from simulator.goodput import Goodput
from simulator.units import KWH


@dataclass(frozen=True, slots=True)
class Sum:
    """What something comes to; sums add up."""

    gpu_hours: float = 0.0
    """GPUs x wall hours [h]."""
    low: float = 0.0
    """GPU-hours at the low end of their interval [h]."""
    high: float = 0.0
    """GPU-hours at the high end [h]."""
    seconds: float = 0.0
    """Wall time, one after another [s]."""
    steps: float = 0.0
    """Optimizer steps."""
    tokens: float = 0.0
    """Tokens trained on."""
    cost: float = 0.0
    """Rent [USD]."""
    joules: float = 0.0
    """Energy of GPUs and servers, without the building [J]."""

    def __add__(self, other: Sum) -> Sum:
        return Sum(
            self.gpu_hours + other.gpu_hours,
            self.low + other.low,
            self.high + other.high,
            self.seconds + other.seconds,
            self.steps + other.steps,
            self.tokens + other.tokens,
            self.cost + other.cost,
            self.joules + other.joules,
        )

    @property
    def wall_days(self) -> float:
        """Return the wall time [days]."""
        return self.seconds / 86400.0

    def figures(self, energy: EnergyConfig) -> dict[str, float]:
        """Return what published figures can be compared with, by the name that files use.

        energy: what the building adds, and what a kilowatt-hour emits.
        """
        drawn = self.joules * energy.pue
        return {
            "gpu_hours": self.gpu_hours,
            "cost_usd": self.cost,
            "wall_days": self.wall_days,
            "tokens": self.tokens,
            "steps": self.steps,
            "energy_kwh": drawn / KWH,
            "emissions_t": drawn * (energy.grid or 0.0) / 1000.0,
        }


@dataclass(frozen=True, slots=True)
class Beside:
    """A published figure next to the simulated one."""

    figure: Figure
    """What was published."""
    simulated: float
    """What the simulation says, in the same unit."""

    @property
    def error(self) -> float:
        """Return the signed relative error: simulated over published, minus one."""
        return self.simulated / self.figure.value - 1.0


@dataclass(frozen=True)
class Line:
    """A span of a training run, in the ledger."""

    label: str
    """What tells it from the other spans of its stage."""
    total: Sum
    """What it comes to."""
    step: Step
    """Its step; of a ramp the one at its last batch, of a mix the last."""

    @property
    def gpus(self) -> int:
        """Return on how many GPUs it runs."""
        return self.step.report.scenario.topology.gpus

    @property
    def step_time(self) -> float:
        """Return the time of a step, mean over the span [s]."""
        return self.total.seconds / self.total.steps


@dataclass(frozen=True)
class Entry:
    """A stage in the ledger."""

    config: StageConfig
    """What the file says of it."""
    total: Sum
    """What it comes to."""
    lines: tuple[Line, ...] = ()
    """The spans of a training run."""
    inner: Ledger | None = None
    """The ledger of the campaign that it stands for."""
    goodput: Goodput | None = None
    """What happens on the way; None where nothing is to happen."""
    interruptions: Sum = Sum()
    """What that adds; part of the total."""
    published: tuple[Beside, ...] = ()
    """Published figures next to simulated ones."""


@dataclass(frozen=True)
class Ledger:
    """What a campaign comes to."""

    config: CampaignConfig
    """What the file says."""
    entries: tuple[Entry, ...]
    """Its stages in their order."""
    total: Sum
    """The whole."""
    published: tuple[Beside, ...]
    """Published figures of the whole next to simulated ones."""
    owned: Owned | None = None
    """What owning the GPUs would cost; None where the file does not say what they cost."""

    @property
    def figures(self) -> dict[str, float]:
        """Return the figures of the whole."""
        return self.total.figures(self.config.energy)


def ledger(campaign: Campaign, steps: Steps, price: float | None = None) -> Ledger:
    """Return what a campaign comes to.

    steps: of all its scenarios. price: of a GPU-hour, where the campaign that contains it has one [USD].
    """
    config = campaign.config
    rent = config.price if price is None else price
    entries: list[Entry] = []
    for stage in campaign.stages:
        entries.append(_entry(stage, steps, entries, rent, config.energy))
    total = _sum(entry.total for entry in entries)
    return Ledger(
        config,
        tuple(entries),
        total,
        _beside(config.published, total, config.energy),
        owned(config.own, config.energy, total.gpu_hours, total.joules) if config.own else None,
    )


def _entry(
    stage: Stage, steps: Steps, before: Sequence[Entry], price: float | None, energy: EnergyConfig
) -> Entry:
    config = stage.config
    lines = tuple(_line(span, steps, price) for span in stage.spans)
    inner = ledger(stage.inner, steps, price) if stage.inner else None
    if inner:
        total = inner.total
    elif config.repeat:
        total = _repeated(config, before)
    else:
        total = _sum(line.total for line in lines)
    found = _happens(config, lines, total)
    added = _interrupted(total, found) if found else Sum()
    total = total + added
    beside = _beside(config.published, total, energy)
    return Entry(config, total, lines, inner, found, added, beside)


def _happens(config: StageConfig, lines: Sequence[Line], total: Sum) -> Goodput | None:
    """Return what happens to the run of a stage, None where its file asks for nothing."""
    if config.reliability is None:
        return None
    # One cluster for the whole run: the span that trains longest has it.
    longest = max(lines, key=lambda line: line.total.seconds)
    scenario = longest.step.report.scenario
    try:
        return expected(config.reliability, scenario, total.seconds)
    except InputError as error:
        place = f"{config.name}.reliability"
        error.key = f"{place}.{error.key}" if error.key else place
        raise


def _interrupted(total: Sum, found: Goodput) -> Sum:
    """Return what interruptions add to undisturbed training."""
    low, middle, high = (stretch - 1.0 for stretch in found.stretch)
    return Sum(
        gpu_hours=total.gpu_hours * middle,
        low=total.low * low,
        high=total.high * high,
        seconds=total.seconds * middle,
        cost=total.cost * middle,
        joules=total.joules * middle,
    )


def _line(span: Span, steps: Steps, price: float | None) -> Line:
    """Return a span in the ledger. price: of a GPU-hour, None for that of its topology [USD]."""
    along = [steps[key(scenario)] for scenario in span.scenarios]
    points = [Point(step.report.scenario.tokens_per_step, step.report.step_time) for step in along]
    if span.weights:
        points = [mixed(points, span.weights)]
    done = work(points, span.amount)
    last = along[-1]
    cluster = last.report.scenario.topology
    gpu_hours = cluster.gpus * done.seconds / 3600.0
    total = Sum(
        gpu_hours=gpu_hours,
        low=gpu_hours * last.low,
        high=gpu_hours * last.high,
        seconds=done.seconds,
        steps=done.steps,
        tokens=done.tokens,
        cost=gpu_hours * (cluster.price if price is None else price),
        joules=gpu_hours * 3600.0 * watts(last.report),
    )
    return Line(span.label, total, last)


def _repeated(config: StageConfig, before: Sequence[Entry]) -> Sum:
    """Return what a share of earlier stages comes to: hours and money, but no tokens of the result."""
    repeat = config.repeat
    if repeat is None:
        return Sum()
    named = repeat.stages or [entry.config.name for entry in before if not entry.config.repeat]
    base = _sum(entry.total for entry in before if entry.config.name in named)
    low, high = repeat.ends
    return Sum(
        gpu_hours=repeat.share * base.gpu_hours,
        low=low * base.low,
        high=high * base.high,
        seconds=repeat.share * base.seconds if repeat.serial else 0.0,
        cost=repeat.share * base.cost,
        joules=repeat.share * base.joules,
    )


def _sum(sums: Iterable[Sum]) -> Sum:
    return sum(sums, Sum())


def _beside(figures: Sequence[Figure], total: Sum, energy: EnergyConfig) -> tuple[Beside, ...]:
    simulated = total.figures(energy)
    return tuple(Beside(figure, simulated[figure.quantity]) for figure in figures)

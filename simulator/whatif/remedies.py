"""What would make a run fit: changes of one key, the cheapest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from simulator.costs import Costs, loads, price_loads
from simulator.errors import InputError
from simulator.memory import memory_of
from simulator.program import chunk_times, schedule_of
from simulator.progress import doing
from simulator.scenario import Scenario, vary
from simulator.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change of one key."""

    key: str
    """As `--set` takes it."""
    value: str
    """As `--set` takes it."""
    peak: float
    """Peak memory with it [B]."""
    seconds: float
    """What it adds to the busiest rank's step if nothing else ran [s]: kernels, exchanges and what
    waits inside layers; the bubble and gradients are not in it."""


class _Weight(NamedTuple):
    """What decides between changes."""

    peak: float
    """Peak memory [B]."""
    seconds: float
    """Time of the busiest rank, see `Remedy.seconds` [s]."""


@doing("searching what would fit")
def remedies(scenario: Scenario, count: int = 3) -> tuple[Remedy, ...]:
    """Return the cheapest changes that make a run fit, fewer if fewer do.

    If none does, those that free most.
    """
    base = _weigh(scenario)
    capacity = scenario.gpu.memory.capacity
    helpful = []
    for key, value in _candidates(scenario):
        try:
            weight = _weigh(vary(scenario, key, value))
        except InputError:
            continue  # it does not fit the rest of the scenario
        if weight.peak < base.peak:
            remedy = Remedy(
                key=key,
                value=_text(value),
                peak=weight.peak,
                seconds=weight.seconds - base.seconds,
            )
            helpful.append(remedy)
    # Sorting is stable: of equals the one that people try first comes first.
    fitting = [remedy for remedy in helpful if remedy.peak <= capacity]
    if fitting:
        best = sorted(fitting, key=lambda remedy: remedy.seconds)
    else:
        best = sorted(helpful, key=lambda remedy: remedy.peak)
    return tuple(best[:count])


def _candidates(scenario: Scenario) -> Iterator[tuple[str, Any]]:
    """Yield changes that can free memory, in the order in which people try them."""
    layout, training = scenario.layout, scenario.workload.training
    for zero in range(layout.zero + 1, 4):
        yield "layout.zero", zero
    for names in _recomputes(scenario):
        yield "training.recompute", names
    if training.micro_batch_size > 1:
        yield "training.micro_batch_size", training.micro_batch_size // 2
    yield "layout.cp", layout.cp * 2
    yield "layout.tp", layout.tp * 2
    yield "layout.pp", layout.pp * 2


def _recomputes(scenario: Scenario) -> Iterator[list[str]]:
    """Yield what else could be recomputed: one thing more, everything but whole layers, those."""
    training = scenario.workload.training
    selective = ["norm", "swiglu"]
    if scenario.model.is_mla:
        selective.append("mla_up_projection")
    if training.attention == "unfused":
        selective.append("core_attention")
    current = training.recompute
    if "full" not in current:
        for name in selective:
            if name not in current:
                yield [*current, name]
        yield ["full"]
    everything = dict.fromkeys([*current, *selective])
    yield list(everything)


def _text(value: Any) -> str:
    """Return a value as YAML has it on one line."""
    if isinstance(value, list):
        items = ", ".join(value)
        return f"[{items}]"
    return str(value)


def _weigh(scenario: Scenario) -> _Weight:
    """Return memory and time with equally popular experts: remedies are compared, not simulated."""
    given = loads(scenario)
    levelled = given.levelled() if given else None
    costs = price_loads(scenario, levelled)
    schedule = schedule_of(scenario, costs)
    ranks = memory_of(scenario, costs, schedule)
    peak = max(rank.peak for rank in ranks)
    return _Weight(peak, _busiest(scenario, costs, schedule))


def _busiest(scenario: Scenario, costs: Costs, schedule: Schedule) -> float:
    """Return the time of the busiest pipeline index in a step where nothing else runs [s]."""
    table = chunk_times(scenario, costs)
    chunk = []  # [stage] s
    for stage in range(schedule.stages):
        passes = [table.seconds(kind, stage) for kind in ("F", "I", "W")]
        chunk.append(sum(passes))
    totals = []  # [pipeline index] s
    for order in schedule.ranks:
        halves = [half for action in order for half in action.halves()]
        # Every micro-batch's chunk is counted once, by the half that ends it.
        ended = [stage for kind, _, stage in halves if kind in ("B", "W")]
        totals.append(sum(chunk[stage] for stage in ended))
    return max(totals)

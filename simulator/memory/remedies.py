"""What would make a run fit: changes of one key, the cheapest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from simulator import inputs
from simulator.errors import InputError
from simulator.memory.peak import memory_of
from simulator.program import Costs, chunk_times
from simulator.program.costs import costs_of
from simulator.program.loads import levelled, loads
from simulator.scenario import Scenario, build


@dataclass(frozen=True, slots=True)
class Remedy:
    """A change of one key.

    key, value: as `--set` takes them. peak: with it [B]. seconds: that it adds to the busiest
    rank's step, if nothing else ran [s]: kernels, exchanges and what waits inside layers; the
    bubble and gradients are not in it.
    """

    key: str
    value: str
    peak: float
    seconds: float


def remedies(scenario: Scenario, count: int = 3) -> tuple[Remedy, ...]:
    """Return the cheapest changes that make a run fit, fewer if fewer do; if none does, those that free most."""
    base = _peak_and_seconds(scenario)
    capacity = scenario.gpu.memory.capacity
    found = []
    for key, value in _candidates(scenario):
        try:
            peak, seconds = _peak_and_seconds(_changed(scenario, key, value))
        except InputError:
            continue  # it does not fit the rest
        if peak < base[0]:
            found.append(Remedy(key, _text(value), peak, seconds - base[1]))
    fitting = sorted((one for one in found if one.peak <= capacity), key=lambda one: one.seconds)
    return tuple((fitting or sorted(found, key=lambda one: one.peak))[:count])


def _changed(scenario: Scenario, key: str, value: Any) -> Scenario:
    cluster, run = scenario.documents
    return build(cluster, inputs.override(run, key, value))


def _candidates(scenario: Scenario) -> Iterator[tuple[str, Any]]:
    """Return changes that can free memory, in the order in which people try them."""
    layout, training = scenario.layout, scenario.workload.training
    for zero in range(layout.zero + 1, 4):
        yield "layout.zero", zero
    names = [
        "norm",
        "swiglu",
        *(["mla_up_projection"] if scenario.model.is_mla else []),
        *(["core_attention"] if training.attention == "unfused" else []),
        "full",
    ]
    for name in names:
        if name not in training.recompute and "full" not in training.recompute:
            yield "training.recompute", ["full"] if name == "full" else [*training.recompute, name]
    if len(names) > 2:  # all but full together
        yield "training.recompute", [*dict.fromkeys([*training.recompute, *names[:-1]])]
    if training.micro_batch_size > 1:
        yield "training.micro_batch_size", training.micro_batch_size // 2
    yield "layout.cp", layout.cp * 2
    yield "layout.tp", layout.tp * 2
    yield "layout.pp", layout.pp * 2


def _text(value: Any) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)


def _peak_and_seconds(scenario: Scenario) -> tuple[float, float]:
    found = loads(scenario)
    priced = costs_of(scenario, levelled(found) if found else None)
    peak = max(rank.peak for rank in memory_of(scenario, priced, scenario.schedule))
    return peak, _busiest(scenario, priced)


def _busiest(scenario: Scenario, priced: Costs) -> float:
    """Return the time of the busiest pipeline index in a step where nothing else runs, see `Remedy` [s]."""
    table = chunk_times(scenario, priced)
    each = [
        sum(table.seconds(kind, stage) for kind in ("F", "I", "W"))
        for stage in range(scenario.schedule.stages)
    ]
    totals = (  # every micro-batch's chunk is counted once, by what ends it
        sum(
            each[stage]
            for action in order
            for kind, _, stage in action.halves()
            if kind in ("B", "W")
        )
        for order in scenario.schedule.ranks
    )
    return max(totals)

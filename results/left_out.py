"""What the step of DeepSeek-V3 leaves out, each item put in alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from cells import row

from simulator import inputs, load, lower, run
from simulator.costs import Costs, price, price_loads
from simulator.program import lower_schedule
from simulator.scenario import Scenario, variants


def ledger() -> str:
    """Return what the step of DeepSeek-V3 leaves out, each item alone, with its size."""
    scenario = load("h800-2048")
    base = run(lower(scenario)).step_time
    figures = {known.quantity: known.value for known in scenario.workload.reference}
    published = figures["step_time_s"]
    lines = [
        "# What one step of DeepSeek-V3 leaves out",
        "",
        f"Simulated {base:.2f} s, published {published} s: {base / published - 1:+.1%}, "
        f"{published - base:.2f} s are missing. Nothing is fitted to the step.",
        "Each row puts one thing into the simulation that it leaves out and runs the step again. The sizes are what",
        "each would add alone; none of them is in the reported step, and they do not simply add up.",
        "",
        "| left out | adds | source of its size |",
        "|---|---:|---|",
    ]
    for item in items(scenario):
        added = run_with(item.scenario, item.costs) - base
        lines.append(row(item.what, f"{added:+.2f} s", item.source))
    lines += ["", "Reproduce: `python results/make.py`.", ""]
    return "\n".join(lines)


def run_with(scenario: Scenario, costs: Costs) -> float:
    """Return the step of a scenario with the given costs [s]."""
    return run(lower_schedule(scenario, scenario.pipeline.fixed, costs)).step_time


class Item(NamedTuple):
    """Something that the step leaves out."""

    what: str
    """What it is."""
    scenario: Scenario
    """The scenario with it."""
    costs: Costs
    """Its costs."""
    source: str
    """Where its size is from."""


def items(scenario: Scenario) -> Iterator[Item]:
    """Yield what is left out."""
    plain = price(scenario)
    tables = scenario.kernels.communication
    waits = notifications()
    waiting = {}
    for kind, model in tables.items():
        setup = model.setup + waits.get(kind, 0.0)
        waiting[kind] = model.model_copy(update={"setup": setup})
    yield Item(
        "waiting for peers before every dispatch and combine, all of it as long as in the profile (an upper bound: "
        "part of it is the profiler's)",
        with_communication(scenario, waiting),
        plain,
        "notification kernels of DeepSeek's profile, 1.9 to 2.2 ms each",
    )
    for limit, source in (
        (0.52, "arXiv 2408.15664, table 2: MaxVio with an auxiliary loss, 3 B model"),
        (0.72, "arXiv 2408.15664, table 2: MaxVio with an auxiliary loss, 1 B model"),
    ):
        unequal = load("h800-2048", sets={"experts.max_violation": limit})
        what = f"MaxVio of {limit} in every layer instead of 0.04"
        yield Item(what, unequal, price(unequal), source)
    found = plain.loads
    assert found is not None
    even_load = found.even
    busier = replace(even_load, rows=1.125 * even_load.rows, received=1.125 * even_load.received)
    yield Item(
        "every GPU's experts get 12.5% more rows than even instead of that",
        scenario,
        price_loads(scenario, replace(found.levelled(), distinct=(busier,))),
        "the profile's rank 0 computes 36,864 rows in one of four layers, 32,768 are even",
    )
    slower = {kind: model.model_copy(update={"nic": 0.8}) for kind, model in tables.items()}
    yield Item(
        "NICs at 40 GB/s instead of 43.8 to 47",
        with_communication(scenario, slower),
        plain,
        "arXiv 2505.09343: 40 GB/s effective",
    )
    even, other = alternatives(scenario)
    yield Item(
        "the stage map 'even' instead of the balanced one",
        even,
        price(even),
        "not published; another simple rule",
    )
    yield Item(
        "layer 60 next to head and MTP on the last stage",
        other,
        price(other),
        "not published; see the workload's `assumed`",
    )


def notifications() -> dict[str, float]:
    """Return how long the profile's notification kernels wait for the slowest of 64 ranks, by kind, mean [s]."""
    kernels = inputs.data("measured", "deepseek_v3_chunk").data["communication_us"]
    of_kind = {
        "dispatch": ["dispatch(F)"],
        "cached_dispatch": ["combine(B)"],
        "combine": ["combine(F)", "dispatch(B)"],
    }
    means = {}
    for kind, phases in of_kind.items():
        us = [time for name in phases for time in kernels[name]["notify"]]
        means[kind] = 1e-6 * fmean(us)
    return means


def alternatives(scenario: Scenario) -> list[Scenario]:
    """Return the scenarios with the other stage maps."""
    found = variants(scenario, scenario.workload.assumed[0])
    return [trial for _, trial in found if trial is not None]


def with_communication(scenario: Scenario, tables: dict[str, object]) -> Scenario:
    """Return a scenario with other communication kernels."""
    kernels = scenario.kernels.model_copy(update={"communication": tables})
    return replace(scenario, kernels=kernels)

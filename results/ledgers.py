"""Ledgers: of what the step of each kind of case is made, and what each effect adds to it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cells import row
from parallel import spread

from simulator.collectives import dispatcher_of
from simulator.engine import run
from simulator.program import lower
from simulator.report import Report, summarise
from simulator.report.parts import PARTS
from simulator.scenario import Scenario, host_pace
from simulator.validate import kind_of
from simulator.validate.case import StepCase, files
from simulator.validate.check import RATES

ROWS = (
    "user_measurements/qwen3-235b-256h100-tp4-pp8-ep8",
    "user_measurements/qwen3-235b-256h100-ep32-noverlap",
    "user_measurements/moonlight-16b-8h100-none",
    "more_steps/mbridge-25.09-qwen3-235b-fp8-256-tokendrop",
    "more_steps/dgxc-grok1-fp8-512",
    "more_steps/automodel-qwen3-30b-8",
    "more_steps/megascalemoe-megatron-240",
    "deepseek/v3-step",
    "dgxc_h100/70b-64",
    "megatron_bridge_h100/llama3.1-405b-25.11",
    "user_measurements/mpt7b-fsdp-128h100",
    "user_measurements/llama31-8b-256k",
    "megatron_2021/530b",
    "more_steps/dgxc-llama31-405b-bf16-gb200-128",
    "more_steps/mbridge-25.11-deepseek-v3-bf16-gb200-256",
    "more_steps/simumax-llama3-70b-l12-tp2-dp4-b200",
)
"""One case of each kind, its worst or the one that is asked about; the worst of all first."""
WORST, SIBLING = ROWS[:2]
"""The layout that comes out worst, and the one that is faster on the same GPUs."""

LANDINGS = Path(__file__).resolve().parent / "landings.json"
"""What the cases took at the commits that put a part of the physics in, see landings.py."""

Change = Callable[[StepCase], Scenario | None]
"""What is simulated instead of a case; None where it has nothing of the kind."""


class Effect(NamedTuple):
    """Something that the step of a case contains, or could."""

    name: str
    """What it is called in the tables."""
    instead: Change
    """The case without it, or with it."""
    inside: bool
    """Whether the simulated step contains it: its share is what the step loses without it."""


class Entry(NamedTuple):
    """A case of the ledger."""

    case: StepCase
    """The case."""
    report: Report
    """The step as simulated."""
    measured: float
    """The step that was measured [s]."""


def without_casts(case: StepCase) -> Scenario | None:
    """Return a case of FP8 whose casts move no bytes; their launches stay."""
    scenario = case.scenario()
    if not scenario.recipe.quantised:
        return None
    return replace(scenario, recipe=replace(scenario.recipe, cast_bytes=0.0, amax_bytes=0.0))


def with_sets(changes: dict[str, Any], *, experts: bool = False) -> Change:
    """Return the change that `--set` makes. experts: only to mixtures of experts."""

    def change(case: StepCase) -> Scenario | None:
        if experts and not case.scenario().model.moe_layers:
            return None
        return case.scenario(changes)

    return change


def other_dispatcher(case: StepCase) -> Scenario | None:
    """Return a mixture of experts with a plain all-to-all, or with DeepEP where it has that."""
    scenario = case.scenario()
    if scenario.layout.ep == 1:
        return None
    plain = dispatcher_of(scenario).name == "all_to_all"
    return case.scenario({"experts.dispatcher": "deepep" if plain else "all_to_all"})


def bf16(case: StepCase) -> Scenario | None:
    """Return a case of FP8 in BF16."""
    if not case.scenario().recipe.quantised:
        return None
    return case.scenario({"precision.recipe": "bf16"})


def tensor_overlap(case: StepCase) -> Scenario | None:
    """Return a case with tensor parallel transfers overlapped where they are not, or the other way."""
    layout = case.scenario().workload.layout
    if layout.tp == 1 or not layout.sequence_parallel:
        return None
    return case.scenario({"layout.tp_comm_overlap": not layout.tp_comm_overlap})


def without_hosts(case: StepCase) -> Scenario | None:
    """Return a case whose hosts launch in no time and never wait."""
    scenario = case.scenario()
    host = scenario.host
    free = host.model_copy(
        update={
            "forward": dict.fromkeys(host.forward, 0.0),
            "backward": dict.fromkeys(host.backward, 0.0),
            "communication": 0.0,
            "graph": 0.0,
            "repeat": 0.0,
        }
    )
    return replace(scenario, host=free)


def at_pace(pace: str) -> Change:
    """Return the change to hosts of another pace, where the stack's own was not measured."""

    def change(case: StepCase) -> Scenario | None:
        scenario = case.scenario()
        if scenario.stack.host.measured or scenario.stack.host.pace == pace:
            return None
        return replace(scenario, host=host_pace(pace))

    return change


EFFECTS = (
    Effect("hosts", without_hosts, inside=True),
    Effect("FP8 casts", without_casts, inside=True),
    Effect("ordinary hosts", at_pace("ordinary"), inside=False),
    Effect("BF16 instead of FP8", bf16, inside=False),
    Effect("other dispatcher", other_dispatcher, inside=False),
    Effect("TP overlap turned round", tensor_overlap, inside=False),
    Effect(
        "unequal experts, MaxVio 0.52",
        with_sets(
            {
                "experts.distribution": "log_normal",
                "experts.gini": None,
                "experts.max_violation": 0.52,
            },
            experts=True,
        ),
        inside=False,
    ),
)
"""What is switched, one at a time."""


def entry(name: str) -> Entry:
    """Return a case of the ledger, simulated."""
    cases = {case.case: case for table in files().values() for case in table.cases}
    case = cases[name]
    report = step(case.scenario())
    figure = report.quantities()[case.quantity]
    # The measured step, whatever quantity was published of it.
    slower = figure / case.published
    if case.quantity in RATES:
        slower = 1.0 / slower
    return Entry(case, report, report.step_time / slower)


def step(scenario: Scenario) -> Report:
    """Return one step of a scenario, without what `simulate run` asks of other scenarios."""
    return summarise(run(lower(scenario)))


def page() -> str:
    """Return what steps are made of and what each effect adds, a case of each kind. Takes minutes."""
    found = [entry(name) for name in ROWS]
    lines = [
        "# Ledgers: what a step of each kind is made of",
        "",
        "One case of each kind, its worst first. Shares are of the measured step; `missing` is what the simulator does",
        "not have, above zero where it is too fast. Nothing is fitted to a step.",
        "",
        *_worst(found[0], found[1]),
        "## Parts",
        "",
        *_parts(found),
        "",
        "## Effects, one at a time",
        "",
        "What the simulated step gains or loses, in percent of the measured one, when one thing is switched: first",
        "what the step contains, as much as it would lose without; then what other choices would add. They do not",
        "simply add up.",
        "",
        *_effects(),
        "",
        "## As the parts came",
        "",
        "How much each part of the physics moved a step when it was put in, in percent of the measured step: one after",
        "the other, at the commits that `results/landings.json` names; then what came after the last of them.",
        "",
        *_landings(found),
        "",
        "Reproduce: `python results/make.py ledgers.md`.",
        "",
    ]
    return "\n".join(lines)


def _parts(found: list[Entry]) -> Iterator[str]:
    """Yield the table of the parts of each step."""
    there = {name for one in found for name in one.report.breakdown}
    names = [part.name for part in PARTS if part.name in there]
    yield row("case", "kind", "measured", "simulated", *names, "missing")
    yield f"|---|---|{'---:|' * (len(names) + 3)}"
    for case, report, measured in found:
        shares = [report.breakdown.get(name, 0.0) / measured for name in names]
        yield row(
            case.case,
            str(kind_of(report.scenario)),
            f"{measured:.3g} s",
            f"{report.step_time:.3g} s",
            *(f"{share:.0%}" for share in shares),
            f"{1.0 - report.step_time / measured:+.0%}",
        )


def _effects() -> Iterator[str]:
    """Yield the table of what each effect adds to each step."""
    yield row("case", *(effect.name for effect in EFFECTS))
    yield f"|---|{'---:|' * len(EFFECTS)}"
    yield from spread(_effects_row, ROWS)


def _effects_row(name: str) -> str:
    one = entry(name)
    return row(name, *(_effect(effect, one) for effect in EFFECTS))


def _landings(found: list[Entry]) -> Iterator[str]:
    """Yield the table of what each landing changed in each step."""
    named = json.loads(LANDINGS.read_text(encoding="utf-8"))["landings"]
    # landings.py fills in the others.
    landings = [landing for landing in named if "step_time_s" in landing]
    names = [landing["what"] for landing in landings[1:]]
    yield row("case", "error before", *names, "since", "error today")
    yield f"|---|{'---:|' * (len(names) + 3)}"
    for case, report, measured in found:
        steps = [landing["step_time_s"][case.case] for landing in landings]
        steps.append(report.step_time)
        changes = [(after - step) / measured for step, after in pairwise(steps)]
        first = steps[0] / measured - 1.0
        last = steps[-1] / measured - 1.0
        yield row(case.case, f"{first:+.1%}", *map(_moved, changes), f"{last:+.1%}")


def _moved(change: float) -> str:
    """Return a relative change, nothing of one that rounds to zero."""
    return f"{change:+.1%}" if abs(change) >= 0.0005 else ""


def _effect(effect: Effect, one: Entry) -> str:
    trial = effect.instead(one.case)
    if trial is None:
        return ""
    change = step(trial).step_time - one.report.step_time
    if effect.inside:
        change = -change
    return f"{change / one.measured:+.1%}"


def _worst(worst: Entry, sibling: Entry) -> Iterator[str]:
    """Yield what would have to be true for the worst row, next to the faster layout."""
    yield "## The worst: Qwen3-235B on 256 H100, TP4 EP8"
    yield ""
    yield "The same model, GPUs and batch twice; each row is the time of one layer and micro-batch on a pipeline rank,"
    yield "forward and backward, which is the step less the bubble over micro-batches x layers a rank."
    yield ""
    yield "| | TP4 EP8 | TP2 EP32 |"
    yield "|---|---:|---:|"
    pair = (worst, sibling)
    yield row("micro-batches x layers a rank", *(f"{_turns(one):,.0f}" for one in pair))
    yield _in_ms("measured", [_per_turn(one, one.measured) for one in pair])
    yield _in_ms("simulated", [_per_turn(one, one.report.step_time) for one in pair])
    hosts = [_host(one) / _turns(one) for one in pair]
    yield _in_ms(f"the host is busy, {worst.report.scenario.host.name} pace", hosts)
    parts = worst.report.breakdown
    for name in sorted(parts, key=parts.__getitem__, reverse=True):
        seconds = [one.report.breakdown.get(name, 0.0) / _turns(one) for one in pair]
        yield _in_ms(f"of which {name}", seconds)
    yield ""
    yield from _explanation(worst, sibling, [1e3 * host for host in hosts])


def _in_ms(name: str, seconds: Sequence[float]) -> str:
    return row(name, *(f"{1e3 * value:.2f} ms" for value in seconds))


def _explanation(worst: Entry, sibling: Entry, hosts: list[float]) -> Iterator[str]:
    """Yield what would explain the worst row. hosts: busy for a layer and micro-batch, of both [ms]."""
    measured, other = (1e3 * _per_turn(one, one.measured) for one in (worst, sibling))
    # Where a host binds, a layer takes as long as the host is busy with it.
    needed = measured / hosts[0]
    # Where kernels do, those of the largest part take what is missing.
    gemm = worst.report.breakdown["gemm"]
    slower = 1.0 + (worst.measured - worst.report.step_time) / gemm
    pace = worst.report.scenario.host.name
    text = (
        f"What would have to be true: TP4 EP8 has twice as many micro-batches, for each of which its ranks launch "
        f"about as many kernels as those of TP2 EP32, of fewer rows. Its measured {measured:.1f} ms of a layer and "
        f"micro-batch are what hosts of {needed:.1f} times the {pace} pace need to launch them; at that pace TP2 EP32 "
        f"takes {needed * hosts[1]:.1f} ms of host, so that its measured {other:.1f} ms are kernels and exchanges. "
        "So hosts between the lean and the ordinary pace explain both layouts and their order. The other explanation, "
        f"kernels, asks for GEMMs {slower:.1f} times as slow as their shapes were measured to be, in this layout alone."
    )
    yield from textwrap.wrap(text, 118)
    yield ""


def _host(one: Entry) -> float:
    """Return how long the host of a rank is busy in a step, mean over ranks [s]."""
    program = lower(one.report.scenario)
    # [rank class] s
    busy = np.bincount(program.rank, weights=program.host, minlength=program.ranks)
    return float(program.mean(busy))


def _turns(one: Entry) -> float:
    """Return how often a rank runs a layer in a step, forward and backward together."""
    scenario = one.report.scenario
    return scenario.micro_batches * scenario.model.num_hidden_layers / scenario.layout.pp


def _per_turn(one: Entry, seconds: float) -> float:
    """Return the time of one layer and micro-batch [s]. seconds: of the step."""
    return (seconds - one.report.breakdown.get("bubble", 0.0)) / _turns(one)

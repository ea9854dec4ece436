"""Orders: whether what people choose between comes out in the order that was measured, and by how much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from earlier import before, commit
from parallel import spread

from simulator.engine import run
from simulator.program import lower
from simulator.scenario import host_pace
from simulator.validate import Check, validate
from simulator.validate.case import files
from simulator.validate.check import RATES
from simulator.validate.rankings import Order, Pair, Ranking, order, ranking, rankings


class Views(NamedTuple):
    """A group as simulated today, before, and with other hosts."""

    now: Ranking
    """Today."""
    before: Ranking
    """At the commit that before.json names."""
    ordinary: Ranking
    """Today with hosts of the ordinary pace, where those of the stack were not measured."""


def compute() -> tuple[Views, ...]:
    """Return every group as simulated today, before and with ordinary hosts. Takes minutes."""
    table = rankings()
    names = tuple(dict.fromkeys(case for group in table.groups for case in group.cases))
    now: dict[str, Check] = {}
    ordinary: dict[str, Check] = {}
    for check, other in spread(_checks, names):
        now[check.case] = check
        ordinary[check.case] = other
    old = {**now, **before(now.values())}  # cases that came later keep today's figure
    return tuple(
        Views(*(ranking(group, checks, table.resolution) for checks in (now, old, ordinary)))
        for group in table.groups
    )


def _checks(name: str) -> tuple[Check, Check]:
    """Return a case as simulated, and with hosts of the ordinary pace."""
    (check,) = validate((name,))
    rows = {row.case: row for table in files().values() for row in table.cases}
    scenario = rows[name].scenario()
    if scenario.stack.host.measured:
        return check, check
    slow = replace(scenario, host=host_pace("ordinary"))
    step = run(lower(slow)).step_time
    cost = step * scenario.topology.gpus / scenario.tokens_per_step
    slower = cost / check.published_cost  # of time; a rate goes the other way
    factor = 1.0 / slower if check.quantity in RATES else slower
    return check, replace(check, simulated=check.published * factor)


def page() -> str:
    """Return the orders of all groups, and the effects that make them."""
    groups = compute()
    now, old = _all(row.now for row in groups), _all(row.before for row in groups)
    slow = _all(row.ordinary for row in groups)
    resolution = rankings().resolution
    lines = [
        "# Orders: which of two runs is faster, and by how much",
        "",
        "A choice between layouts, schedules or formats needs the right order and about the right size of a",
        "difference, not an exact step. Time of one GPU for a token, so that runs of different sizes compare;",
        f"pairs of which the published figures differ by less than {resolution:.0%} have no order.",
        "",
        f"**{now.right} of {now.pairs} pairs in the measured order, Kendall's tau {now.tau:+.2f} "
        f"(before: {old.right} of {old.pairs}, {old.tau:+.2f}).**",
        "",
        "Hosts of stacks that nobody profiled run at a lean pace or an ordinary one; with all of them at the ordinary",
        f"pace {slow.right} of {slow.pairs} pairs are in order, tau {slow.tau:+.2f}.",
        "",
        "| topic | runs | in order | tau | in order before | tau before | ordinary hosts | their tau |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_order_row(row) for row in groups]
    lines += [
        "",
        "## Effects",
        "",
        "How much more time a token takes than in the first run of its group; the last columns are the",
        "simulated effect over the measured one: 1 is right, below 0 has the wrong sign.",
        "",
        "| topic | first run | other run | measured | simulated | simulated / measured | before | ordinary hosts |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    lines += [line for row in groups for line in _effect_rows(row, resolution)]
    lines += [*_notes(groups), *_reproduce()]
    return "\n".join(lines)


def _all(groups: Iterable[Ranking]) -> Order:
    """Return how well the pairs of all groups are ordered; a pair in two groups counts once."""
    pairs: dict[frozenset[str], Pair] = {}
    for row in groups:
        for pair in row.pairs:
            pairs[frozenset((pair.first.case, pair.second.case))] = pair
    return order(pairs.values())


def _order_row(row: Views) -> str:
    group = row.now.group
    cells = [group.topic, f"{group.name} ({len(group.cases)})"]
    for found in (row.now.order, row.before.order, row.ordinary.order):
        cells.append(f"{found.right} of {found.pairs}" if found.pairs else "tie")
        cells.append(f"{found.tau:+.2f}" if found.pairs else "")
    return f"| {' | '.join(cells)} |"


def _effect_rows(row: Views, resolution: float) -> Iterable[str]:
    views = (row.now.against_first, row.before.against_first, row.ordinary.against_first)
    for now, old, slow in zip(*views, strict=True):
        effects = [f"{pair.effect:.2f}" for pair in (now, old, slow)]
        if now.is_tie(resolution):
            effects = ["tie"] * 3  # next to nothing was measured: a ratio says nothing
        first, second = now.first.case.split("/")[1], now.second.case.split("/")[1]
        yield (
            f"| {row.now.group.topic} | {first} | {second} | {now.published:+.1%} "
            f"| {now.simulated:+.1%} | {' | '.join(effects)} |"
        )


def _notes(groups: Iterable[Views]) -> Iterable[str]:
    yield ""
    for row in groups:
        if row.now.group.note:
            yield f"- {row.now.group.topic}, {row.now.group.name}: {row.now.group.note}."


def _reproduce() -> list[str]:
    return [
        "",
        "Groups: `simulator/data/rankings/groups.yaml`. Before: commit "
        f"{commit()}, `results/before.json`. Reproduce: `python results/make.py rankings.md`.",
        "",
    ]

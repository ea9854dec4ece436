"""Orders: whether what people choose between comes out in the order that was measured, and by how much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from cells import row
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
    cases = {case.case: case for table in files().values() for case in table.cases}
    scenario = cases[name].scenario()
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
    now = _all(views.now for views in groups)
    old = _all(views.before for views in groups)
    slow = _all(views.ordinary for views in groups)
    fitting = order(pair for pair in _pairs(views.now for views in groups) if pair.fits)
    resolution = rankings().resolution
    lines = [
        "# Orders: which of two runs is faster, and by how much",
        "",
        "A choice between layouts, schedules or formats needs the right order and about the right size of a",
        "difference, not an exact step. Time of one GPU for a token, so that runs of different sizes compare;",
        f"pairs of which the published figures differ by less than {resolution:.0%} have no order.",
        "",
        f"**{_met(now)} pairs in the measured order, Kendall's tau {now.tau:+.2f} "
        f"(before: {_met(old)}, {old.tau:+.2f}).**",
        "",
        "Hosts of stacks that nobody profiled run at a lean pace or an ordinary one; with all of them at the ordinary",
        f"pace {_met(slow)} pairs are in order, tau {slow.tau:+.2f}.",
        "",
        "Runs marked * do not fit in the memory of their GPUs as simulated, though they ran: what is simulated is",
        f"not what they did. Without them {_met(fitting)} pairs are in order, tau {fitting.tau:+.2f}.",
        "",
        "| topic | runs | in order | tau | in order before | tau before | ordinary hosts | their tau |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_order_row(views) for views in groups]
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
    lines += [line for views in groups for line in _effect_rows(views, resolution)]
    lines += [*_notes(groups), *_reproduce()]
    return "\n".join(lines)


def _all(groups: Iterable[Ranking]) -> Order:
    """Return how well the pairs of all groups are ordered."""
    return order(_pairs(groups))


def _pairs(groups: Iterable[Ranking]) -> Iterable[Pair]:
    """Return the pairs of all groups; a pair in two groups counts once."""
    pairs: dict[frozenset[str], Pair] = {}
    for group in groups:
        for pair in group.pairs:
            pairs[frozenset((pair.first.case, pair.second.case))] = pair
    return pairs.values()


def _met(found: Order) -> str:
    return f"{found.right} of {found.pairs}"


def _order_row(views: Views) -> str:
    group = views.now.group
    cells = [group.topic, f"{group.name} ({len(group.cases)})"]
    for view in views:
        found = view.order
        cells.append(_met(found) if found.pairs else "tie")
        cells.append(f"{found.tau:+.2f}" if found.pairs else "")
    return row(*cells)


def _effect_rows(group: Views, resolution: float) -> Iterable[str]:
    views = [view.against_first for view in group]
    for now, old, slow in zip(*views, strict=True):
        effects = [f"{pair.effect:.2f}" for pair in (now, old, slow)]
        if now.is_tie(resolution):
            effects = ["tie"] * 3  # next to nothing was measured: a ratio says nothing
        yield row(
            group.now.group.topic,
            _name(now.first),
            _name(now.second),
            f"{now.published:+.1%}",
            f"{now.simulated:+.1%}",
            *effects,
        )


def _name(check: Check) -> str:
    """Return a run's name, marked where it does not fit."""
    name = check.case.split("/")[1]
    return f"{name} *" if check.fits is False else name


def _notes(groups: Iterable[Views]) -> Iterable[str]:
    yield ""
    for views in groups:
        group = views.now.group
        if group.note:
            yield f"- {group.topic}, {group.name}: {group.note}."


def _reproduce() -> list[str]:
    return [
        "",
        "Groups: `simulator/data/rankings/groups.yaml`. Before: commit "
        f"{commit()}, `results/before.json`. Reproduce: `python results/make.py rankings.md`.",
        "",
    ]

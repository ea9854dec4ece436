"""Orders: whether what people choose between comes out in the order that was measured, and by how much."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from earlier import before, commit

from simulator.validate import validate
from simulator.validate.rankings import Order, Pair, Ranking, order, ranking, rankings


class Both(NamedTuple):
    """A group as simulated today and before."""

    now: Ranking
    """Today."""
    before: Ranking
    """At the commit that before.json names."""


def compute() -> tuple[Both, ...]:
    """Return every group as simulated today and before. Takes minutes."""
    table = rankings()
    names = tuple(dict.fromkeys(case for group in table.groups for case in group.cases))
    now = {check.case: check for check in validate(names)}
    old = {**now, **before(now.values())}  # cases that came later keep today's figure
    return tuple(
        Both(
            now=ranking(group, now, table.resolution),
            before=ranking(group, old, table.resolution),
        )
        for group in table.groups
    )


def page() -> str:
    """Return the orders of all groups, and the effects that make them."""
    groups = compute()
    now, old = _all(row.now for row in groups), _all(row.before for row in groups)
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
        "| topic | runs | in order | tau | in order before | tau before |",
        "|---|---|---:|---:|---:|---:|",
    ]
    lines += [_order_row(row) for row in groups]
    lines += [
        "",
        "## Effects",
        "",
        "How much more time a token takes than in the first run of its group; the last two columns are the",
        "simulated effect over the measured one: 1 is right, below 0 has the wrong sign.",
        "",
        "| topic | first run | other run | measured | simulated | simulated / measured | before |",
        "|---|---|---|---:|---:|---:|---:|",
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


def _order_row(row: Both) -> str:
    group = row.now.group
    cells = [group.topic, f"{group.name} ({len(group.cases)})"]
    for found in (row.now.order, row.before.order):
        cells.append(f"{found.right} of {found.pairs}" if found.pairs else "tie")
        cells.append(f"{found.tau:+.2f}" if found.pairs else "")
    return f"| {' | '.join(cells)} |"


def _effect_rows(row: Both, resolution: float) -> Iterable[str]:
    for now, old in zip(row.now.against_first, row.before.against_first, strict=True):
        effect, earlier = f"{now.effect:.2f}", f"{old.effect:.2f}"
        if now.is_tie(resolution):
            effect, earlier = "tie", "tie"  # next to nothing was measured: a ratio says nothing
        first, second = now.first.case.split("/")[1], now.second.case.split("/")[1]
        yield (
            f"| {row.now.group.topic} | {first} | {second} | {now.published:+.1%} "
            f"| {now.simulated:+.1%} | {effect} | {earlier} |"
        )


def _notes(groups: Iterable[Both]) -> Iterable[str]:
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

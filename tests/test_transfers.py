"""Coflows as columns say what a plain list of them says, and fold as they would one by one."""

from collections import Counter

import numpy as np
import pytest
from builders import scenario

from simulator.costs import price
from simulator.program import schedule_of
from simulator.program.coflows import Coflows, coflows
from simulator.program.folding import Partition, fold, program_colours

CLUSTERS = (
    {},
    {"layout__pp": 4, "layout__ep": 2},
    {"layout__pp": 2, "layout__ep": 2, "layout__tp": 2},
    {"schedule__name": "dualpipe", "layout__pp": 2, "layout__ep": 2},
    {"layout__ep": 2, "faults": [{"gpu": 3, "speed": 0.5}]},
    {"layout__zero": 3, "layout__ep": 1},
)


def table_of(changes: dict[str, object]) -> Coflows:
    one = scenario(**changes)
    costs = price(one)
    return coflows(one, schedule_of(one, costs), costs)


def in_full(table: Coflows) -> list[tuple[object, list[int], dict[int, float]]]:
    """Return what each coflow does, its ranks, and link -> bytes, by loops over blocks."""
    listed: dict[int, tuple[object, list[int], dict[int, float]]] = {}
    for block in table.columns.blocks:
        reach = table.columns.reaches[block.reach]
        for group, number in enumerate(block.number.tolist()):
            begin, end = reach.first[group : group + 2]
            sizes = dict(
                zip(reach.links[begin:end].tolist(), block.bytes[begin:end].tolist(), strict=True)
            )
            looks = (block.label, block.kernel.model_dump_json(), float(block.latency[group]))
            listed[number] = (looks, reach.members[group].tolist(), sizes)
    assert sorted(listed) == list(range(table.count))
    return [listed[number] for number in range(table.count)]


def numbered(values: list[object]) -> list[int]:
    seen: dict[object, int] = {}
    return [seen.setdefault(value, len(seen)) for value in values]


def refined(table: Coflows, ranks: list[int], links: list[int]) -> Partition:
    """Return the coarsest equitable partition, coflow by coflow and without hashes."""
    listed = in_full(table)
    flows = numbered([looks for looks, _, _ in listed])
    sends = [looks[0].kind.one_sided for looks, _, _ in listed]  # type: ignore[index]
    before = ()
    while before != (before := (len(set(ranks)), len(set(links)), len(set(flows)))):
        at_rank: list[Counter[object]] = [Counter() for _ in ranks]
        at_link: list[Counter[object]] = [Counter() for _ in links]
        seen = []
        for flow, (_, members, sizes) in enumerate(listed):
            roles = [place * sends[flow] for place in range(len(members))]
            met = Counter((role, ranks[one]) for role, one in zip(roles, members, strict=True))
            crossed = Counter((size, links[link]) for link, size in sizes.items())
            seen.append((flows[flow], frozenset(met.items()), frozenset(crossed.items())))
        flows = numbered(seen)
        for flow, (_, members, sizes) in enumerate(listed):
            for place, one in enumerate(members):
                at_rank[one][place * sends[flow], flows[flow]] += 1
            for link, size in sizes.items():
                at_link[link][size, flows[flow]] += 1
        ranks = numbered(
            [(old, frozenset(new.items())) for old, new in zip(ranks, at_rank, strict=True)]
        )
        links = numbered(
            [(old, frozenset(new.items())) for old, new in zip(links, at_link, strict=True)]
        )
    firsts = [np.array(sorted(map(column.index, set(column)))) for column in (ranks, links, flows)]
    return Partition(np.array(ranks), np.array(links), np.array(flows), *firsts)


@pytest.mark.parametrize("changes", CLUSTERS, ids=str)
def test_rows_fold_as_their_coflows_would_one_by_one(changes):
    one, table = scenario(**changes), table_of(changes)
    costs = price(one)
    schedule = schedule_of(one, costs)
    found = fold(one.network, schedule, table, one.layout)
    colours = program_colours(schedule)
    every = range(one.layout.gpus)
    index = [one.layout.pipeline_index(rank) for rank in every]
    speed = one.network.speed.tolist()
    # Both ends of a send that meet tell their pipeline indices apart, see `fold`.
    runs = numbered([(colours[at], speed[rank], at * table.meets) for rank, at in enumerate(index)])
    net = one.network
    looks = zip(net.capacity.tolist(), net.latency.tolist(), net.kind_code.tolist(), strict=True)
    expected = refined(table, runs, numbered(list(looks)))
    for name in ("rank", "link", "coflow", "first_rank", "first_link", "first_coflow"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("changes", CLUSTERS, ids=str)
def test_columns_say_what_each_coflow_meets(changes):
    table = table_of(changes)
    columns, listed = table.columns, in_full(table)
    every = columns.crossings(np.ones(len(table.network.capacity), dtype=bool))
    met: list[dict[int, float]] = [{} for _ in listed]
    for coflow, link, size in zip(*map(np.ndarray.tolist, every), strict=True):
        assert link not in met[coflow]
        met[coflow][link] = size
    assert met == [sizes for _, _, sizes in listed]
    # Of sends the source alone calls them by name.
    called: dict[int, set[int]] = {rank: set() for rank in range(table.layout.gpus)}
    for number, (_, members, _) in enumerate(listed):
        one_sided = columns.label(number).kind.one_sided
        for rank in members[:1] if one_sided else members:
            called[rank].add(number)
    assert {rank: set(table.calls(rank).values()) for rank in called} == called


def test_transfers_between_the_same_ranks_share_their_links():
    # Dispatch, cached dispatch and combine of a group are one row.
    table = table_of({"layout__ep": 2})
    rows = {}
    for coflow in range(table.count):
        label = table.columns.label(coflow)
        rows.setdefault(int(table.columns.row[coflow]), set()).add(label.kind)
    assert {"dispatch", "cached_dispatch", "combine"} in rows.values()

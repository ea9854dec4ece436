"""Coflows as columns say what a plain list of them says, and fold as they would one by one."""

from collections import Counter

import numpy as np
import pytest
from builders import scenario
from hypothesis import given
from hypothesis import strategies as st

from simulator.collectives import CoflowKind, Communication
from simulator.collectives.replicas import Demands
from simulator.costs import price
from simulator.program import schedule_of
from simulator.program.coflows import Coflows, Runs, coflows
from simulator.program.folding import Partition, fold, program_colours
from simulator.program.refined import Graph, refined
from simulator.program.tiles import whole
from simulator.program.transfers import Label
from simulator.refinement import Incidence
from simulator.scenario import Scenario
from simulator.schedules import Schedule, build

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
        carried = block.amounts[reach.which]
        for group, number in enumerate(block.number.tolist()):
            begin, end = reach.first[group : group + 2]
            sizes = dict(
                zip(reach.links[begin:end].tolist(), carried[begin:end].tolist(), strict=True)
            )
            looks = (block.label, block.kernel.model_dump_json(), float(block.latency[group]))
            listed[number] = (looks, reach.members[group].tolist(), sizes)
    assert sorted(listed) == list(range(table.count))
    return [listed[number] for number in range(table.count)]


def numbered(values: list[object]) -> list[int]:
    seen: dict[object, int] = {}
    return [seen.setdefault(value, len(seen)) for value in values]


def one_by_one(table: Coflows, ranks: list[int], links: list[int]) -> Partition:
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


def agrees(one: Scenario, schedule: Schedule, table: Coflows) -> None:
    """Assert that `fold` finds the coarsest equitable partition."""
    found = fold(one.network, schedule, table, one.layout)
    colours = program_colours(schedule)
    index = [one.layout.pipeline_index(rank) for rank in range(one.layout.gpus)]
    speed = one.network.speed.tolist()
    # Both ends of a send that meet tell their pipeline indices apart, see `fold`.
    runs = numbered([(colours[at], speed[rank], at * table.meets) for rank, at in enumerate(index)])
    net = one.network
    looks = zip(net.capacity.tolist(), net.latency.tolist(), net.kind_code.tolist(), strict=True)
    expected = one_by_one(table, runs, numbered(list(looks)))
    for name in ("rank", "link", "coflow", "first_rank", "first_link", "first_coflow"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("changes", CLUSTERS, ids=str)
def test_rows_fold_as_their_coflows_would_one_by_one(changes):
    one = scenario(**changes)
    agrees(one, schedule_of(one, price(one)), table_of(changes))


@st.composite
def drawn(draw: st.DrawFn, cluster: Scenario) -> Coflows:
    """Return a few transfers between drawn ranks over drawn links."""
    net, gpus = cluster.network, cluster.layout.gpus
    table = Coflows(Communication.of(cluster), cluster.layout, whole(net, cluster.layout))
    kernel = cluster.kernels.communication["dispatch"]
    for what in range(draw(st.integers(1, 3))):
        members = draw(st.integers(1, 3))
        rows = draw(st.integers(1, 4))
        ranks = draw(st.permutations(range(gpus)))[: members * rows]
        groups = np.sort(np.array(ranks[: len(ranks) // members * members]).reshape(-1, members))
        sizes = [draw(st.integers(0, 3)) for _ in groups]
        links = [draw(st.permutations(range(len(net.capacity))))[:size] for size in sizes]
        first = np.concatenate([[0], np.cumsum(sizes)])
        flat = np.array([link for row in links for link in sorted(row)], dtype=np.int64)
        runs = []
        for kind in draw(st.sampled_from([("dispatch", "combine"), ("F",), ("all_gather",)])):
            drawn_bytes = [draw(st.sampled_from([1.0, 2.0])) for _ in flat]
            late = [draw(st.sampled_from([0.0, 1e-6])) for _ in groups]
            demands = Demands.listed(first, flat, np.array(drawn_bytes), np.array(late))
            runs.append(Runs(Label(CoflowKind(kind), what), kernel, demands))
        table._add(groups, runs)
    return table


_CLUSTER = scenario(layout__pp=1, layout__ep=2)


@pytest.mark.slow
@given(drawn(_CLUSTER))
def test_any_rows_fold_as_their_coflows_would_one_by_one(table):
    agrees(_CLUSTER, build("1f1b", 1, 1), table)


def test_a_graph_that_differs_anywhere_is_refined_anew():
    # Two rows on three links and three ranks, of three coflows; then one number of one column differs.
    def graph(changed: str = "") -> Graph:
        columns = {
            "ranks": np.zeros(3, dtype=np.uint64),
            "links": np.zeros(3, dtype=np.uint64),
            "flows": np.zeros(3, dtype=np.uint64),
            "row": np.array([0, 1, 1]),
            "on_link.flow": np.array([0, 0, 1]),
            "on_link.other": np.array([0, 1, 2]),
            "on_link.how": np.zeros(3, dtype=np.uint64),
            "on_rank.flow": np.array([0, 0, 1]),
            "on_rank.other": np.array([0, 1, 2]),
            "on_rank.how": np.zeros(3, dtype=np.uint64),
        }
        if changed:
            columns[changed][0] = 1
        met = {side: [] for side in ("on_link", "on_rank")}
        for name in list(columns):
            if "." in name:
                met[name.partition(".")[0]].append(columns.pop(name))
        return Graph(**columns, **{side: Incidence(*parts) for side, parts in met.items()}, rows=2)

    names = ["ranks", "links", "flows", "row"]
    names += [
        f"{side}.{part}" for side in ("on_link", "on_rank") for part in ("flow", "other", "how")
    ]
    assert graph().digest == graph().digest
    assert len({graph(name).digest for name in ("", *names)}) == 1 + len(names)
    first, again = refined(graph()), refined(graph())
    assert again is first
    assert refined(graph("ranks")).ranks.of.tolist() != first.ranks.of.tolist()


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

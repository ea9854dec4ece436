"""Regular clusters: the first of many tiles that are alike stands for all, to the last bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from builders import scenario
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator.costs import price
from simulator.errors import InputError
from simulator.program import lowering
from simulator.program.lowering import lower_schedule
from simulator.program.program import Program
from simulator.program.tiles import Tiles, UnevenError, tiles, whole
from simulator.program.timed import schedule_of

# 32 nodes of two GPUs under leaves of 4 ports, in 8 pods of 2 leaves of 2 NICs each.
TREE = {
    "nodes": 16,
    "node__gpus": 2,
    "node__nics": 2,
    "fabric__kind": "fat_tree_3",
    "fabric__switch_ports": 8,
    "fabric__latency": "3.7 us",
    "fabric__leaf_latency": "2.8 us",
    "layout__pp": 2,
    "layout__ep": 4,
    "training__global_batch_size": 128,
}


def both(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> tuple[Program, Program, int]:
    """Return a program lowered by tiles and as a whole, and how many tiles there are."""
    one = scenario(**changes)
    costs = price(one)
    schedule = schedule_of(one, costs)
    by_tiles = lower_schedule(one, schedule, costs)
    with monkeypatch.context() as patch:
        patch.setattr(lowering, "tiles", whole)
        listed = lower_schedule(one, schedule, costs)
    return by_tiles, listed, tiles(one.network, one.layout).count


def same(one: Program, other: Program) -> None:
    """Hold two programs to the same bits."""
    for column in fields(Program):
        left, right = getattr(one, column.name), getattr(other, column.name)
        if isinstance(left, np.ndarray):
            assert np.array_equal(left, right), column.name
        else:
            assert left == right, column.name


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        # A stage has 16 GPUs: 4 leaves of 4 GPUs. Each expert group is under one leaf.
        ({}, 4),
        # Two leaves hold an expert group: a pod has 16 GPUs, so all of a stage is in one.
        ({"layout__ep": 8}, 2),
        ({"layout__zero": 3, "stack": "fsdp2", "schedule__name": "1f1b"}, 4),
        # The groups of 16 reach over all leaves, which no tile holds.
        ({"layout__ep": 16, "model__n_routed_experts": 16}, 1),
        ({"faults": [{"nic": [3, 0], "down": True}]}, 1),
        ({"faults": [{"gpu": 5, "speed": 0.9}]}, 1),
        ({"fabric__routing": "ecmp"}, 1),
    ],
)
@pytest.mark.slow
def test_tiles_give_the_program_of_the_whole(changes, count, monkeypatch):
    by_tiles, listed, found = both(TREE | changes, monkeypatch)
    assert found == count
    same(by_tiles, listed)


@pytest.mark.slow
@given(
    nodes=st.sampled_from([4, 8, 12, 16, 24]),
    gpus=st.sampled_from([1, 2, 4]),
    shared=st.booleans(),
    kind=st.sampled_from(["fat_tree_2", "fat_tree_3", "rail_optimised"]),
    ports=st.sampled_from([4, 8, 16]),
    pp=st.sampled_from([1, 2, 4]),
    ep=st.sampled_from([1, 2, 4]),
    zero=st.sampled_from([0, 1, 2]),
    name=st.sampled_from(["1f1b", "dualpipe"]),
)
@settings(max_examples=40, deadline=None)
def test_the_guess_is_what_refinement_finds(
    *, nodes, gpus, shared, kind, ports, pp, ep, zero, name
):
    assume(nodes * gpus % pp == 0 and (name == "1f1b" or pp > 1))
    changes = TREE | {
        "nodes": nodes,
        "node__gpus": gpus,
        "node__nics": max(1, gpus // 2) if shared else gpus,
        "fabric__kind": kind,
        "fabric__switch_ports": ports,
        "layout__pp": pp,
        "layout__ep": ep,
        "layout__zero": zero,
        "schedule__name": name,
        "training__global_batch_size": 2 * nodes * gpus,
    }
    try:
        with pytest.MonkeyPatch.context() as patch:
            by_tiles, listed, count = both(changes, patch)
    except InputError:
        assume(False)
    assume(count > 1)
    same(by_tiles, listed)


def two_tiles() -> Tiles:
    """Return two tiles of two ranks: links 0 and 1 are theirs, 2 they share."""
    return Tiles(2, np.array([0, 0, 1, 1]), np.array([0, 0, 2, -1]), np.array([2, 0, 1, 0]))


def test_a_group_that_loads_both_tiles_alike_is_listed_by_the_first():
    share = two_tiles().share(np.array([0, 1, 2]), np.array([5.0, 5.0, 7.0]))
    assert share.links.tolist() == [0, 2]
    assert share.bytes.tolist() == [5.0, 7.0]


@pytest.mark.parametrize(
    ("links", "sizes"),
    [
        ([0, 1], [5.0, 6.0]),  # other bytes
        ([0], [5.0]),  # one tile alone
        ([1], [5.0]),
        ([0, 1, 3], [5.0, 5.0, 5.0]),  # a link that belongs to none
    ],
)
def test_a_group_that_does_not_is_refused(links, sizes):
    with pytest.raises(UnevenError):
        two_tiles().share(np.array(links), np.array(sizes))


def test_groups_are_in_a_tile_or_evenly_in_all():
    assert two_tiles().inside(np.array([[0, 1], [2, 3]]))
    assert not two_tiles().inside(np.array([[0, 2], [1, 3]]))
    with pytest.raises(UnevenError):
        two_tiles().inside(np.array([[0, 1], [1, 2]]))

"""EPLB: its published example, and laws over many loads."""

import numpy as np
import pytest

from simulator.errors import InputError
from simulator.experts import rebalance
from simulator.experts.eplb import pack, replicate

SHAPES = {
    "hierarchical": (256, 320, 8, 8, 64),
    "global": (256, 320, 8, 3 * 5, 40),
    "one node": (64, 80, 8, 1, 8),
    "no replicas": (256, 256, 8, 8, 64),
    "small": (12, 16, 4, 2, 8),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def loads(experts, sigma=1.0, layers=20, seed=0):
    return np.exp(np.random.default_rng(seed).normal(0.0, sigma, (layers, experts)))


def plan_of(shape, seed=0):
    experts, slots, groups, nodes, gpus = shape
    given = loads(experts, seed=seed)
    return given, rebalance(given, slots, groups, nodes, gpus)


def gpu_loads(plan, given, gpus):
    return plan.slot_loads(given).reshape(len(given), gpus, -1).sum(axis=2)


def test_the_published_example_comes_out_as_published():
    # github deepseek-ai/EPLB, README: 2 layers, 12 experts, 16 replicas, 4 groups, 2 nodes, 8 GPUs.
    given = np.array(
        [
            [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
            [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
        ],
        dtype=float,
    )
    assert rebalance(given, 16, 4, 2, 8).expert.tolist() == [
        [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
        [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
    ]


@every_shape
def test_every_expert_has_a_replica_and_all_slots_are_taken(shape):
    experts, slots, *_ = shape
    given, plan = plan_of(shape)
    assert plan.expert.shape == (20, slots)
    assert plan.count.min() >= 1
    assert (plan.count.sum(axis=1) == slots).all()
    for layer in range(len(given)):
        assert (np.bincount(plan.expert[layer], minlength=experts) == plan.count[layer]).all()
        for expert, places in enumerate(plan.slots[layer]):
            assert (plan.expert[layer, places[places >= 0]] == expert).all()
            assert (places >= 0).sum() == plan.count[layer, expert]


@every_shape
def test_replicas_carry_all_of_the_load(shape):
    given, plan = plan_of(shape)
    assert plan.slot_loads(given).sum(axis=1) == pytest.approx(given.sum(axis=1))


@every_shape
def test_gpus_are_packed_within_the_bound_of_greedy_packing(shape):
    # The heaviest first into the lightest with room: a pack never ends more than one item above the
    # lightest one with room at that time, so the largest is at most the node's mean plus its
    # heaviest item.
    given, plan = plan_of(shape)
    gpus, nodes = shape[4], shape[3] if shape[2] % shape[3] == 0 else 1
    each = gpu_loads(plan, given, gpus).reshape(len(given), nodes, -1)
    heaviest = plan.slot_loads(given).reshape(len(given), nodes, -1).max(axis=2)
    assert (each.max(axis=2) <= each.mean(axis=2) + heaviest + 1e-9).all()


@pytest.mark.parametrize("name", ["hierarchical", "global", "one node"])
def test_redundancy_leaves_no_gpu_busier_than_without(name):
    experts, slots, groups, nodes, gpus = SHAPES[name]
    if experts % gpus:
        gpus, slots = 32, 320  # both with and without replicas
    given = loads(experts)
    plain = given.reshape(len(given), gpus, -1).sum(axis=2).max(axis=1)
    worst = gpu_loads(rebalance(given, slots, groups, nodes, gpus), given, gpus).max(axis=1)
    assert (worst <= plain + 1e-9).all()


def test_groups_stay_within_a_node_where_nodes_divide_them():
    given, plan = plan_of(SHAPES["hierarchical"])
    groups = plan.expert.reshape(len(given), 8, -1) // 32
    assert all(len(set(node.tolist())) == 1 for layer in groups for node in layer)


def test_the_heaviest_expert_is_copied_until_another_is():
    # 8, 3, 1 over 6 slots: 8 -> 4 4, then 8/3 each (3 is heavier than 8/3), 3 -> 1.5.
    expert, replica, count = replicate(np.array([[8.0, 3.0, 1.0]]), 6)
    assert expert.tolist() == [[0, 1, 2, 0, 0, 1]]
    assert replica.tolist() == [[0, 0, 0, 1, 2, 1]]
    assert count.tolist() == [[3, 2, 1]]


def test_the_heaviest_goes_to_the_lightest_pack_with_room():
    # 9 -> a, 5 -> b, 4 -> b (5 < 9; now full), 1 -> a.
    assert pack(np.array([[5.0, 9.0, 1.0, 4.0]]), 2)[0].tolist() == [[1, 0, 0, 1]]


def test_packs_of_one_item_stay_in_order():
    # As in DeepSeek's code: nothing to balance, so nothing moves.
    packs = pack(np.array([[5.0, 9.0, 1.0]]), 3)
    assert packs.pack.tolist() == [[0, 1, 2]]
    assert packs.slot.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("slots", [250, 300])
def test_slots_that_do_not_divide_over_gpus_are_refused(slots):
    with pytest.raises(
        InputError, match=r"do not divide over 64 GPUs\. Choose 0 plus a multiple of 64"
    ):
        rebalance(loads(256), slots, 8, 8, 64)

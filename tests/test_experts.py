"""Routing: the groups' rule against a plain loop, how many nodes a token reaches against combinatorics."""

from math import comb

import numpy as np
import pytest

from simulator.experts import SAMPLED_TOKENS, Routing, choose, distinct, route
from simulator.inputs import ROOT, read, validate
from simulator.model import ModelConfig

V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)
RULES = {
    "v3": V3,
    "largest": V3.model_copy(update={"topk_method": "greedy"}),
    "one group": V3.model_copy(update={"topk_group": 1}),
    "all groups": V3.model_copy(update={"topk_group": 8}),
    "no groups": V3.model_copy(update={"n_group": 1, "topk_group": 1}),
}
every_rule = pytest.mark.parametrize("model", RULES.values(), ids=RULES)


def scores(tokens, seed=0):
    return np.random.default_rng(seed).random((tokens, 256), dtype=np.float32)


def reached(places, draws, per_place):
    """Return how many of `places` hold a draw, `draws` without replacement from places x per_place, in the mean.

    A place is missed if all draws fall on the others: C(N - n, k) / C(N, k), by linearity for each
    place.
    """
    total = places * per_place
    return places * (1 - comb(total - per_place, draws) / comb(total, draws))


# Choosing


@every_rule
def test_a_token_chooses_top_k_distinct_experts(model):
    chosen = choose(scores(500), model)
    assert chosen.shape == (500, 8)
    assert all(len(set(row)) == 8 for row in chosen.tolist())
    assert chosen.min() >= 0
    assert chosen.max() < 256


@every_rule
def test_a_token_stays_within_the_groups_that_it_may_reach(model):
    groups = choose(scores(2000), model) // (256 // model.n_group)
    assert max(len(set(row)) for row in groups.tolist()) <= model.topk_group


@every_rule
def test_the_choice_is_that_of_a_plain_loop_over_the_rule(model):
    # Oracle, arXiv 2412.19437, section 2.1.2 and config.json: the best groups by their two largest
    # scores (noaux_tc) or by their largest, then the best experts of those groups.
    best, width = 2 if model.topk_method == "noaux_tc" else 1, 256 // model.n_group
    table = scores(200, seed=1)
    for row, chosen in zip(table, choose(table, model), strict=True):
        groups = [row[g * width : (g + 1) * width] for g in range(model.n_group)]
        strength = [np.float32(sum(np.sort(group)[-best:])) for group in groups]
        kept = set(np.argsort(strength)[-model.topk_group :].tolist())
        allowed = [expert for expert in range(256) if expert // width in kept]
        assert set(chosen.tolist()) == set(sorted(allowed, key=lambda expert: row[expert])[-8:])


def test_two_large_scores_win_over_one_largest():
    # 2 groups of 2: sums 0.9 + 0.1 = 1.0 and 0.6 + 0.6 = 1.2; the largest score is in group 0.
    tree = {
        "vocab_size": 8,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    moe = {"n_routed_experts": 4, "num_experts_per_tok": 1, "n_group": 2, "topk_group": 1}
    moe["moe_intermediate_size"] = 8
    table = np.array([[0.9, 0.1, 0.6, 0.61]], dtype=np.float32)
    assert choose(table, ModelConfig(**tree, **moe, topk_method="noaux_tc")).tolist() == [[3]]
    assert choose(table, ModelConfig(**tree, **moe, topk_method="greedy")).tolist() == [[0]]


def test_distinct_counts_each_place_of_a_row_once():
    assert distinct(np.array([[0, 0, 1], [2, 2, 2], [0, 1, 2]]), 3) == (2 + 1 + 3) / 3


# Where tokens go


def test_a_token_of_v3_reaches_3_95_of_8_nodes():
    # 4 groups of 32 experts, one group per node of 8 GPUs; those with the two largest scores hold
    # nearly always one of the eight chosen.
    assert route(V3, 64, 8, 0).nodes == pytest.approx(3.95, abs=0.01)


def test_with_the_largest_score_per_group_a_token_reaches_3_98():
    assert route(RULES["largest"], 64, 8, 0).nodes == pytest.approx(3.98, abs=0.01)


def test_if_groups_were_chosen_independently_of_the_scores_a_token_would_reach_3_63():
    # 4 groups given, 8 draws from their 128 experts: 4 x (1 - C(96, 8) / C(128, 8)). A model of
    # just those experts on 32 GPUs has the same. The mean of 16,384 tokens has a deviation of 0.55
    # / 128 = 0.004.
    assert reached(4, 8, 32) == pytest.approx(3.63, abs=0.005)
    half = V3.model_copy(update={"n_routed_experts": 128, "n_group": 4, "topk_group": 4})
    assert route(half, 32, 8, 0).nodes == pytest.approx(reached(4, 8, 32), abs=0.02)


@pytest.mark.parametrize("name", ["all groups", "no groups"])
def test_without_a_limit_nodes_and_gpus_are_those_of_draws_without_replacement(name):
    # 8 draws from 256 over 8 nodes of 32: 8 x (1 - C(224, 8) / C(256, 8)) = 5.295; over 64 GPUs of
    # 4: 7.676.
    routing = route(RULES[name], 64, 8, 0)
    assert reached(8, 8, 32) == pytest.approx(5.295, abs=0.0005)
    assert reached(64, 8, 4) == pytest.approx(7.676, abs=0.0005)
    assert routing.nodes == pytest.approx(reached(8, 8, 32), abs=0.02)
    assert routing.gpus == pytest.approx(reached(64, 8, 4), abs=0.02)


def test_every_expert_is_as_popular_as_any_other():
    # 16,384 x 8 / 256 = 512 tokens each, deviation sqrt(512 x 31/32) = 22; five of them either way.
    counts = np.bincount(choose(scores(SAMPLED_TOKENS), V3).ravel(), minlength=256)
    assert counts.sum() == SAMPLED_TOKENS * 8
    assert abs(counts - 512).max() < 5 * 22.3


@every_rule
@pytest.mark.parametrize("ep", [1, 2, 8, 16, 64, 128, 256])
@pytest.mark.slow
def test_what_a_token_reaches_lies_between_one_and_what_there_is(model, ep):
    routing = route(model, ep, 8, 0)
    assert (routing.ep_nodes, routing.gpus_per_node) == (max(1, ep // 8), min(8, ep))
    assert 1 <= routing.nodes <= routing.ep_nodes
    assert routing.nodes <= routing.gpus <= min(ep, 8)
    assert routing.gpus <= routing.nodes * routing.gpus_per_node
    if routing.ep_nodes == model.n_group:  # a node is a group
        assert routing.nodes <= model.topk_group


def test_one_gpu_sends_nothing():
    routing = route(V3, 1, 8, 0)
    assert (routing.nodes, routing.gpus, routing.over_nic, routing.over_nvlink) == (1, 1, 0, 0)


def test_within_a_node_the_nic_is_idle():
    routing = route(V3, 8, 8, 0)
    assert routing.over_nic == 0
    assert routing.over_nvlink == routing.gpus * 7 / 8


def test_copies_follow_from_what_is_reached():
    # Of 8 nodes one is the own: 7/8 of 4 nodes are remote. Of a node's 8 GPUs one receives over the
    # rail: 7/8 of 6.
    routing = Routing(nodes=4.0, gpus=6.0, ep_nodes=8, gpus_per_node=8)
    assert (routing.over_nic, routing.over_nvlink) == (3.5, 5.25)


def test_the_same_seed_gives_the_same_routing_and_another_one_another():
    first = route(V3, 64, 8, 3)
    route.cache_clear()
    assert route(V3, 64, 8, 3) == first
    assert route(V3, 64, 8, 4) != first
    assert route(V3, 64, 8, 4).nodes == pytest.approx(first.nodes, abs=0.01)

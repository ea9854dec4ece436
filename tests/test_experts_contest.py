"""The contest of a few experts finds what the rule finds for all of them, or says of which tokens it does not know."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.experts import choose
from simulator.experts.contest import _descending, _least_chosen, contest, decide
from simulator.model import ModelConfig

BASE = {
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 1,
    "vocab_size": 8,
    "intermediate_size": 8,
    "moe_intermediate_size": 8,
}
RULES = {
    "V3": {"n_routed_experts": 256, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4},
    "V2": {"n_routed_experts": 160, "num_experts_per_tok": 6, "n_group": 8, "topk_group": 3},
    "five groups": {
        "n_routed_experts": 20,
        "num_experts_per_tok": 7,
        "n_group": 5,
        "topk_group": 3,
    },
    "no groups": {"n_routed_experts": 128, "num_experts_per_tok": 8},
    "all but one": {"n_routed_experts": 8, "num_experts_per_tok": 7},
}


def model(rule, method):
    return ModelConfig(**BASE, **RULES[rule], topk_method=method)


def of(seed, rule, spread, digits):
    """Return scores, few of them different where digits are few, and weights around 1."""
    rng = np.random.default_rng(seed)
    experts = RULES[rule]["n_routed_experts"]
    scores = rng.random((60, experts)).round(digits).astype(np.float32)
    weights = np.exp(spread * rng.standard_normal(experts)).astype(np.float32)
    return scores, 1.0 / weights


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    rule=st.sampled_from(sorted(RULES)),
    method=st.sampled_from(["noaux_tc", "group_limited_greedy"]),
    spread=st.sampled_from([0.0, 0.01, 0.3, 2.0]),
    digits=st.sampled_from([1, 3, 12]),
)
def test_what_the_contest_decides_is_what_the_rule_chooses(seed, rule, method, spread, digits):
    routed = model(rule, method)
    scores, inverse = of(seed, rule, spread, digits)
    decided = decide(contest(scores, routed), inverse, routed)
    expected = np.sort(choose(scores**inverse, routed), axis=1)
    known = np.setdiff1d(np.arange(len(scores)), decided.doubtful)
    assert np.sort(decided.chosen, axis=1)[known].tolist() == expected[known].tolist()


@pytest.mark.parametrize("rule", RULES)
def test_hardly_a_token_is_left_open_where_weights_are_close(rule):
    scores, inverse = of(0, rule, 0.01, 12)
    routed = model(rule, "noaux_tc")
    assert len(decide(contest(scores, routed), inverse, routed).doubtful) <= 1


def test_a_token_is_left_open_where_two_experts_are_level():
    # Experts 0, 1 and 2 score 0.5 and two are chosen: which two, no rule says.
    routed = ModelConfig(**BASE, n_routed_experts=4, num_experts_per_tok=2)
    scores = np.array([[0.5, 0.5, 0.5, 0.1], [0.5, 0.6, 0.4, 0.1]], dtype=np.float32)
    decided = decide(contest(scores, routed), np.ones(4, dtype=np.float32), routed)
    assert decided.doubtful.tolist() == [0]
    assert sorted(decided.chosen[1].tolist()) == [0, 1]


@given(st.integers(1, 20), st.integers(0, 2**32))
def test_the_network_sorts_any_number_of_rows(count, seed):
    rows = np.random.default_rng(seed).integers(0, 9, (count, 30)).astype(np.float32)
    assert np.array(_descending(list(rows))).tolist() == (-np.sort(-rows, axis=0)).tolist()


@pytest.mark.parametrize("groups", range(1, 8))
def test_the_last_of_the_largest_is_found_over_any_number_of_groups(groups):
    rows = np.random.default_rng(groups).random((4, groups, 30)).astype(np.float32)
    ranked = _descending(list(rows))
    everything = -np.sort(-rows.reshape(-1, 30), axis=0)  # [rank, token]
    assert _least_chosen(ranked, 4).tolist() == everything[3].tolist()


def test_a_token_is_left_open_where_an_expert_outside_would_open_its_group():
    # Two groups of four, of which one is chosen by its two largest scores; two of each compete. With
    # weight 1/0.1 the third of group 0 has 0.7^0.1 = 0.965 and the group 0.965 + 0.9, more than
    # group 1 with 0.87 + 0.86, which has more than the two that compete, 0.9 + 0.8.
    rule = {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}
    routed = ModelConfig(**BASE, **rule, topk_method="noaux_tc")
    scores = np.array([[0.9, 0.8, 0.7, 0.1, 0.87, 0.86, 0.1, 0.1]], dtype=np.float32)
    inverse = np.array([1, 1, 0.1, 1, 1, 1, 1, 1], dtype=np.float32)
    assert sorted(choose(scores**inverse, routed)[0].tolist()) == [0, 2]
    assert decide(contest(scores, routed), inverse, routed).doubtful.tolist() == [0]

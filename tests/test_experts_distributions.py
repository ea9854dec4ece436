"""Popularity: laws over every distribution, loads that follow it, the target MaxVio, and what is refused."""

import numpy as np
import pytest

from simulator import inputs
from simulator.errors import InputError
from simulator.experts import (
    DISTRIBUTIONS,
    ExpertsConfig,
    choose,
    gini,
    max_violation,
    popularity,
    weights,
)
from simulator.experts.config import USES
from simulator.inputs import ROOT, Document, read, validate
from simulator.model import ModelConfig

V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)
RULES = {
    "v3": V3,
    "largest": V3.model_copy(update={"topk_method": "greedy"}),
    "no groups": V3.model_copy(update={"n_group": 1, "topk_group": 1}),
}
COUNTS = np.random.default_rng(9).integers(200, 1800, (58, 256)).astype(float)
CONFIGS = {
    "balanced": ExpertsConfig(),
    "random": ExpertsConfig(distribution="random"),
    "power_law": ExpertsConfig(distribution="power_law", exponent=0.3),
    "log_normal": ExpertsConfig(distribution="log_normal", sigma=0.5),
    "log_normal, MaxVio": ExpertsConfig(distribution="log_normal", max_violation=0.72),
    "log_normal, Gini": ExpertsConfig(distribution="log_normal", gini=0.105),
    "dirichlet": ExpertsConfig(distribution="dirichlet", concentration=4.0),
    "recorded": ExpertsConfig(distribution="recorded", file="counts.csv"),
}
every_distribution = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def popular(config, model=V3):
    return popularity(config, model, COUNTS)


def test_every_distribution_is_tried():
    assert {config.distribution for config in CONFIGS.values()} == set(DISTRIBUTIONS) == set(USES)


# Laws


@every_distribution
def test_popularity_sums_to_top_k_in_every_layer_and_is_a_probability(config):
    # 58 MoE layers and the MTP module's.
    shares = popular(config)
    assert shares.shape == (59, 256)
    assert shares.sum(axis=1) == pytest.approx(np.full(59, 8.0), rel=1e-12)
    assert shares.min() > 0
    assert shares.max() <= 1


@every_distribution
def test_the_same_seed_gives_the_same_popularity_and_another_one_another(config):
    again = popular(config.model_copy(update={"seed": 1}))
    assert (popular(config) == popular(config)).all()
    assert (again == popular(config)).all() == (config.alike or config.distribution == "recorded")


@every_distribution
def test_layers_differ_unless_all_experts_are_alike(config):
    first, second = popular(config)[:2]
    assert (first == second).all() == config.alike


@every_distribution
def test_a_layer_does_not_depend_on_how_many_follow(config):
    shorter = V3.model_copy(update={"num_nextn_predict_layers": 0})
    if config.max_violation is None and config.gini is None:  # a mean over layers does
        assert (popular(config, shorter) == popular(config)[:58]).all()


@pytest.mark.parametrize(
    "config",
    [
        ExpertsConfig(distribution="power_law", exponent=0.0),
        ExpertsConfig(distribution="log_normal", sigma=0.0),
        ExpertsConfig(distribution="log_normal", max_violation=0.0),
        ExpertsConfig(distribution="log_normal", gini=0.0),
    ],
    ids=["exponent", "sigma", "max_violation", "gini"],
)
@pytest.mark.slow
def test_without_spread_all_experts_are_alike(config):
    assert popular(config) == pytest.approx(popular(CONFIGS["balanced"]), rel=1e-12)


def test_a_dense_model_has_no_popularity():
    assert popularity(ExpertsConfig(), V3.model_copy(update={"n_routed_experts": 0})).shape == (
        0,
        0,
    )


# Each distribution's own shape


def test_the_power_law_falls_with_the_rank():
    shares = np.sort(popular(CONFIGS["power_law"])[0])[::-1]
    assert shares / shares[0] == pytest.approx(np.arange(1, 257) ** -0.3)


@pytest.mark.parametrize(
    ("concentration", "deviation"), [(1.0, 0.996), (4.0, 0.499), (100.0, 0.0998)]
)
def test_the_concentration_of_a_dirichlet_says_how_alike_experts_are(concentration, deviation):
    # Of N = 256 shares with mean 1/N the variance is m (1 - m) / (N a + 1): relative to the mean a
    # deviation of sqrt(255 / (256 a + 1)). 59 layers of 256 shares tell it within 1% or so.
    shares = popular(ExpertsConfig(distribution="dirichlet", concentration=concentration))
    assert shares.std() / shares.mean() == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize("target", [0.04, 0.52, 0.72, 5.0, 25.0])
def test_the_target_max_violation_is_reached(target):
    # Wang et al., table 2: 0.04, 0.52, 0.72. At 25 an expert is picked by 26/32 of the tokens on
    # average over layers.
    shares = popular(ExpertsConfig(distribution="log_normal", max_violation=target))
    assert max_violation(shares).mean() == pytest.approx(target, rel=1e-9)


@pytest.mark.parametrize("target", [0.021, 0.105, 0.5])
def test_the_target_gini_is_reached(target):
    shares = popular(ExpertsConfig(distribution="log_normal", gini=target))
    assert gini(shares).mean() == pytest.approx(target, rel=1e-9)


def test_a_gini_of_loads_is_half_their_mean_difference_over_their_mean():
    # Of 1, 1, 4 nine pairs differ by 4 times 3, mean 12/9, half of it over a mean of 2: 1/3.
    assert gini(np.array([[1.0, 4.0, 1.0], [2.0, 2.0, 2.0]])) == pytest.approx([1 / 3, 0.0])


def test_max_violation_is_that_of_the_largest_load():
    # Loads 1, 1, 4: mean 2, (4 - 2) / 2.
    assert max_violation(np.array([[1.0, 1.0, 4.0], [2.0, 2.0, 2.0]])).tolist() == [1.0, 0.0]


def test_max_violation_of_a_single_layer_is_a_number():
    assert max_violation(np.array([1.0, 1.0, 4.0])) == 1.0


def test_what_exceeds_one_choice_per_token_goes_to_the_others():
    # 2 choices of 4 experts in proportion 8:1:1:0 would be 1.6, 0.2, 0.2, 0: the first is full, 1 :
    # 1 share the rest.
    tree = {
        "vocab_size": 8,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
    }
    model = ModelConfig(**tree, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=8)
    shares = popularity(CONFIGS["recorded"], model, np.array([[8.0, 1.0, 1.0, 0.0]]))
    assert shares.tolist() == [[1.0, 0.5, 0.5, 0.0]]


def test_what_the_others_get_may_fill_one_of_them_too():
    # 3 choices of 4 experts in proportion 20:8:1:1 would be 2, 0.8, 0.1, 0.1. The first is full; 2
    # choices for the others make 1.6, 0.2, 0.2 of their 1.0: the second is full too, 1 is left for two.
    model = V3.model_copy(
        update={"n_routed_experts": 4, "num_experts_per_tok": 3, "num_hidden_layers": 4}
    )
    one_layer = model.model_copy(update={"num_nextn_predict_layers": 0})
    shares = popularity(CONFIGS["recorded"], one_layer, np.array([[20.0, 8.0, 1.0, 1.0]]))
    assert shares.tolist() == [pytest.approx([1.0, 1.0, 0.5, 0.5], rel=1e-12)]


def test_recorded_counts_are_taken_as_they_are_and_steps_add_up():
    shares = popular(CONFIGS["recorded"])
    assert shares[:58] == pytest.approx(COUNTS / COUNTS.sum(axis=1, keepdims=True) * 8)
    assert (shares[58] == shares[57]).all()  # the MTP module was not recorded
    assert popularity(CONFIGS["recorded"], V3, np.stack([COUNTS, COUNTS])) == pytest.approx(shares)


@pytest.mark.parametrize("modules", [1, 2])
def test_mtp_modules_have_their_recorded_counts_or_the_last_layers(modules):
    model = V3.model_copy(update={"num_nextn_predict_layers": modules})
    taken = popularity(CONFIGS["recorded"], model, COUNTS)
    assert (taken[58:] == taken[57]).all()
    own = np.concatenate([COUNTS, COUNTS[:modules]])
    assert (popularity(CONFIGS["recorded"], model, own)[58:] == taken[:modules]).all()


# Loads follow


def off(share, model):
    """Return how far loads of 65,536 tokens that the weights have not seen are from the popularity, rms over choices.

    Chance alone: sqrt(256 / (8 x 65,536)) = 2.2%.
    """
    scores = np.random.default_rng(77).random((65536, 256), dtype=np.float32)
    loads = (
        np.bincount(choose(scores ** (1.0 / weights(share, model)), model).ravel(), minlength=256)
        / 65536
    )
    assert loads.sum() == pytest.approx(8.0)
    return np.sqrt(np.average((loads / share - 1.0) ** 2, weights=share))


@pytest.mark.slow
@pytest.mark.parametrize("model", RULES.values(), ids=RULES)
@every_distribution
def test_the_loads_of_sampled_tokens_follow_the_popularity(config, model):
    # The tolerances that `weights` states. Weights without the correction of groups are off by up
    # to 4.8% here.
    assert off(popular(config, model)[0], model) < np.hypot(
        0.0221, 0.008 if model.n_group == 1 else 0.015
    )


@pytest.mark.slow
@pytest.mark.parametrize("model", RULES.values(), ids=RULES)
@pytest.mark.parametrize("layer", range(3))
def test_the_loads_follow_a_steep_popularity_too(layer, model):
    # The most popular expert is picked by a quarter of the tokens. Weights in proportion to
    # popularity are off by 3.0% without groups, 4.6% and 6.0% with them.
    share = popular(ExpertsConfig(distribution="log_normal", sigma=0.8), model)[layer]
    assert share.max() > 0.18
    assert off(share, model) < np.hypot(0.0221, 0.008 if model.n_group == 1 else 0.03)


@pytest.mark.parametrize("model", RULES.values(), ids=RULES)
def test_alike_experts_have_weight_one(model):
    share = np.full(256, 8 / 256)
    assert weights(share, model) == pytest.approx(np.ones(256), abs=1e-6)


def test_an_expert_is_chosen_unless_all_draws_miss_it():
    # Without groups 1 - c^w is the popularity, and w = 1 that of 2 choices of 8: c = 3/4. Weights are
    # ln(1 - p) / ln(3/4): 1/2 misses as often as 2.409 times as many draws, 1/8 as 0.464 times.
    model = V3.model_copy(
        update={"n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    )
    share = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    expected = [2.409421, 1.0, 0.464163, 0.464163, 1.0, 1.0, 1.0, 1.0]
    assert weights(share, model) == pytest.approx(expected, rel=1e-5)


def test_a_group_that_nobody_wants_has_the_least_weight():
    # No sampled token chooses it, and its factor would divide by what it got.
    model = V3.model_copy(
        update={"n_routed_experts": 32, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2}
    )
    share = np.array([0.0] * 8 + [4 / 24] * 24)
    found = weights(share, model)
    assert (found[:8] == np.float32(0.01)).all()
    assert np.isfinite(found).all()
    assert found[8:].min() > 0.9


def test_a_limit_on_groups_is_taken_back_by_a_factor_per_group():
    # Four groups of 8 experts, of which a token reaches two. The first group's experts are twice as
    # popular as the others': 8 x 0.2 = 1.6 of 4 choices fall on it. By weights without the factor,
    # ln(1 - 0.2) / ln(1 - 1/8) = 1.67, it would be 1.84. Of 4,096 tokens that the weights have not
    # seen: 6,554 choices on it, deviation below sqrt(6,554) = 81, and the 1% that is close enough.
    model = V3.model_copy(
        update={"n_routed_experts": 32, "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2}
    )
    share = np.array([0.2] * 8 + [0.1] * 24)
    seen = np.random.default_rng(5).random((4096, 32), dtype=np.float32)
    chosen = choose(seen ** (1.0 / weights(share, model)), model)
    of_group = np.bincount(chosen.ravel() // 8, minlength=4) / 4096
    assert of_group == pytest.approx([1.6, 0.8, 0.8, 0.8], rel=0.04)


def test_experts_are_even_unless_something_makes_them_unlike():
    assert ExpertsConfig().even
    for unlike in (
        {"distribution": "power_law", "exponent": 0.3},
        {"capacity_factor": 1.0},
        {"redundant_experts": 32},
    ):
        assert not ExpertsConfig(**unlike).even


# What is refused


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"exponent": 1.0},
            "mine.yaml: exponent: 1.0 is not used by distribution balanced. "
            "Leave it out: --set experts.exponent=null removes it. It belongs to distribution: power_law.",
        ),
        (
            {"distribution": "power_law"},
            "mine.yaml: distribution: 'power_law' needs exponent. Add 'exponent:' there.",
        ),
        (
            {"distribution": "log_normal"},
            "mine.yaml: distribution: 'log_normal' needs sigma, max_violation or gini. "
            "Add 'sigma:' there.",
        ),
        (
            {"distribution": "log_normal", "sigma": 1.0, "max_violation": 1.0},
            "mine.yaml: distribution: 'log_normal' needs sigma, max_violation or gini, only one of them. Leave out max_violation.",
        ),
        (
            {"distribution": "dirichlet", "concentration": 1.0, "file": "a.csv"},
            "mine.yaml: file: 'a.csv' is not used by distribution dirichlet. "
            "Leave it out: --set experts.file=null removes it. It belongs to distribution: recorded.",
        ),
    ],
)
def test_keys_that_the_distribution_does_not_use_are_refused(keys, message):
    with pytest.raises(InputError) as caught:
        validate(Document("mine.yaml", keys, {}), ExpertsConfig)
    assert str(caught.value) == message


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_survives_writing_and_reading(config):
    assert validate(Document("", config.model_dump(mode="json"), {}), ExpertsConfig) == config


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            np.ones((3, 256)),
            "holds counts of 3 layers and 256 experts. The model has 58 MoE layers of 256.",
        ),
        (
            np.ones((58, 64)),
            "holds counts of 58 layers and 64 experts. The model has 58 MoE layers of 256.",
        ),
        (np.vstack([np.ones((57, 256)), np.zeros((1, 256))]), "counts no token in layer 57."),
    ],
)
def test_counts_that_do_not_fit_the_model_are_refused(counts, message):
    with pytest.raises(InputError) as caught:
        popularity(CONFIGS["recorded"], V3, counts)
    assert str(caught.value) == f"experts.file: 'counts.csv' {message}"


def test_recorded_experts_need_their_counts():
    with pytest.raises(InputError) as caught:
        popularity(CONFIGS["recorded"], V3)
    assert str(caught.value) == "experts.file: 'counts.csv' was not read."


def test_a_max_violation_beyond_every_token_is_refused():
    with pytest.raises(
        InputError, match=r"40.0 is out of reach: an expert that every token picks has 31"
    ):
        popular(ExpertsConfig(distribution="log_normal", max_violation=40.0))


# Files


def test_counts_are_read_from_every_format(tmp_path):
    table = np.arange(12.0).reshape(2, 2, 3)
    (tmp_path / "flat.csv").write_text("# two layers\n0,1,2\n3,4,5\n", encoding="utf-8")
    rows = [f"{s},{y},{e},{table[s, y, e]}" for s in range(2) for y in range(2) for e in range(3)]
    (tmp_path / "long.csv").write_text(
        "\n".join(["step,layer,expert,count", *rows]), encoding="utf-8"
    )
    np.savez(tmp_path / "all.npz", counts=table)
    assert (inputs.counts(tmp_path / "flat.csv") == table[0]).all()
    assert (inputs.counts(tmp_path / "long.csv") == table).all()
    assert (inputs.counts(tmp_path / "all.npz") == table).all()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("1,2\n3\n", "cannot be read as counts"),
        ("1,x\n", "cannot be read as counts"),
        ("1,-2\n", "negative or not finite"),
        ("1,nan\n", "negative or not finite"),
        ("", "not a shape of counts"),
        ("expert,count\n0,1\n", "is not a heading of counts"),
        ("layer,expert,count\n", "holds no counts"),
    ],
)
def test_files_that_hold_no_counts_are_refused(tmp_path, text, rule):
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rule) as caught:
        inputs.counts(path)
    assert "bad.csv" in str(caught.value)


def test_a_missing_file_and_a_crowded_archive_are_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.ones((1, 2)), b=np.ones((1, 2)))
    (tmp_path / "no.npz").write_text("text", encoding="utf-8")
    for name, rule in (
        ("none.csv", "cannot be read"),
        ("two.npz", "holds 2 arrays"),
        ("no.npz", "cannot be read"),
    ):
        with pytest.raises(InputError, match=rule):
            inputs.counts(tmp_path / name)

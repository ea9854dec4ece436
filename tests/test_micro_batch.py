"""Loads of one micro-batch: what chance adds, and the measured spreads that workloads name."""

import math
from pathlib import Path

import numpy as np
import pytest
from builders import scenario

from simulator import inputs
from simulator.costs import loads
from simulator.errors import InputError
from simulator.experts import ExpertsConfig, choose, gini, popularity, survey
from simulator.model import ModelConfig

WORKLOADS = Path(__file__).parents[1] / "workloads"
MEASURED = inputs.data("measured", "expert_loads").data
RANDOM = ExpertsConfig(distribution="random")


def model_of(workload: str) -> ModelConfig:
    return inputs.validate(inputs.read(WORKLOADS / "models" / f"{workload}.json"), ModelConfig)


def experts_of(workload: str) -> ExpertsConfig:
    return ExpertsConfig(**inputs.read(WORKLOADS / f"{workload}.yaml").data["experts"])


def hot(layers) -> np.ndarray:
    """Return the busiest GPU over the mean [layer]."""
    return np.array([visits.pairs.max() / visits.pairs.mean() for visits in layers])


def counted(model, ep: int, tokens: int, micro_batches: int) -> float:
    """Return the busiest GPU over the mean where tokens choose at random one by one, mean."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(micro_batches):
        scores = rng.random((tokens * ep, model.n_routed_experts), dtype=np.float32)
        gpus = choose(scores, model) * ep // model.n_routed_experts
        rows = np.bincount(gpus.ravel(), minlength=ep)
        found.append(rows.max() / rows.mean())
    return float(np.mean(found))


# Chance


@pytest.mark.parametrize(
    ("workload", "ep", "tokens"), [("mixtral-8x7b", 8, 512), ("deepseek-v3", 16, 64)]
)
@pytest.mark.slow
def test_random_choices_load_gpus_as_unevenly_as_tokens_counted_one_by_one(workload, ep, tokens):
    # What is left over even loads, 0.03 to 0.06 here, within 8% of it: 200 counted micro-batches
    # are themselves 3% off.
    model = model_of(workload)
    wanted = counted(model, ep, tokens, 200) - 1.0
    found = hot(survey(model, RANDOM, ep, 8, tokens))[0] - 1.0
    assert found == pytest.approx(wanted, rel=0.08)


def test_chance_shrinks_with_the_root_of_the_tokens():
    # A GPU of Mixtral's 8 holds an expert that a token picks with 1/4: of N tokens it gets N/4,
    # with deviation sqrt(3 N / 16), sqrt(3 / N) of its mean. The busiest of 8 that sum to a constant
    # is 1.424 sqrt(8 / 7) deviations above it (order statistics of the normal); a correlation of
    # -1/7 spreads them by that root.
    model = model_of("mixtral-8x7b")
    for tokens in (1024, 4096):
        above = hot(survey(model, RANDOM, 8, 8, tokens))[0] - 1.0
        deviation = math.sqrt(3.0 / (8 * tokens))
        assert above == pytest.approx(1.424 * math.sqrt(8 / 7) * deviation, rel=0.08)


@pytest.mark.parametrize(
    "distribution", [{"distribution": "random"}, {"distribution": "log_normal", "sigma": 0.3}]
)
def test_a_micro_batch_loses_no_choice_and_no_place_is_reached_more_than_once(distribution):
    model = model_of("deepseek-v3")
    for visits in survey(model, ExpertsConfig(**distribution), 64, 8, 4096)[:4]:
        assert visits.pairs.sum() == pytest.approx(8.0, rel=1e-12)
        assert visits.pairs.min() >= 0.0
        assert visits.gpus.max() <= 1.0
        assert visits.nodes.max() <= 1.0


def test_forced_balance_has_one_load_for_all_layers():
    found = loads(scenario(experts__distribution="random"))
    assert len(found.distinct) == 1
    assert found.worst_share == found.mean_share > 1.0


@pytest.mark.parametrize(
    "keys",
    [
        {"distribution": "balanced"},
        {"distribution": "random", "capacity_factor": 1.0},
        {"distribution": "log_normal", "sigma": 0.3, "capacity_factor": 1.0},
    ],
)
def test_chance_adds_nothing_where_loads_are_given_or_capped(keys):
    config = ExpertsConfig(**keys)
    few, many = (survey(model_of("mixtral-8x7b"), config, 8, 8, tokens) for tokens in (64, 65536))
    assert not config.by_chance
    if config.capacity_factor is None:
        assert (hot(few) == hot(many)).all()


def test_one_gpu_keeps_every_choice():
    assert hot(survey(model_of("mixtral-8x7b"), RANDOM, 1, 8, 64))[0] == 1.0


def test_the_same_seed_draws_the_same_micro_batch_and_another_one_another():
    model = model_of("mixtral-8x7b")
    one, again, other = (
        survey(model, RANDOM.model_copy(update={"seed": seed}), 8, 8, 512)[0].pairs
        for seed in (0, 0, 1)
    )
    assert (one == again).all()
    assert (one != other).any()


# Measured spreads


def test_the_gini_of_coarse_experts_is_that_of_counts_less_chance():
    # 16 layers of 8 experts; a layer's 5,120 pairs drawn at random would have a Gini too. Both spread
    # like normals, so that squares add up.
    counts = np.array(MEASURED["counts"]["layers"], dtype=float)
    assert counts.sum(axis=1).tolist() == [5120.0] * 16
    rng = np.random.default_rng(0)
    by_chance = rng.multinomial(5120, [1 / 8] * 8, size=20_000).astype(float)
    found, chance = (float(gini(each).mean()) for each in (counts, by_chance))
    assert math.sqrt(found**2 - chance**2) == pytest.approx(0.021, abs=0.0005)
    for workload in ("mixtral-8x7b", "gpt-4"):
        assert experts_of(workload).gini == 0.021


@pytest.mark.parametrize("workload", ["moonlight-16b-a3b", "megascale-moe-352b"])
def test_the_gini_of_fine_experts_is_that_of_deepseek_moe_on_text(workload):
    rows = {row["model"]: row for row in MEASURED["gini"]}
    config = experts_of(workload)
    assert config.gini == rows["DeepSeek-MoE-16B"]["gini"] == 0.105
    shares = popularity(config, model_of(workload))
    assert gini(shares).mean() == pytest.approx(0.105, rel=1e-9)


def test_that_gini_and_the_max_violation_of_an_auxiliary_loss_say_the_same():
    # Two sources: 64 experts with a Gini of 0.105 on text (DeepSeek-MoE-16B), and a MaxVio of 0.52
    # over a validation set (3 B). Log-normal loads of the one have the other's within a tenth.
    model = model_of("moonlight-16b-a3b")
    assert model.n_routed_experts == 64
    config = ExpertsConfig(distribution="log_normal", max_violation=0.52)
    assert gini(popularity(config, model)).mean() == pytest.approx(0.105, rel=0.1)


def test_a_gini_beyond_every_token_is_refused():
    # Of 8 experts two that every token picks have all: 1 - 2/8.
    config = ExpertsConfig(distribution="log_normal", gini=0.8)
    with pytest.raises(InputError, match=r"an expert that every token picks has 0\.75"):
        popularity(config, model_of("mixtral-8x7b"))


# One rule per kind of source


def test_workloads_say_how_their_makers_loaded_experts():
    # random: NVIDIA's performance recipes and launch files force balance. balanced: tokens beyond a
    # GPU's or an expert's share are dropped. log_normal: real tokens, or a recipe that forces nothing.
    names = {
        "random": {"deepseek-v3-megatron", "qwen3-30b-a3b", "qwen3-235b-a22b"},
        "balanced": {
            "deepseek-v2",
            "mixtral-8x22b",
            "mixtral-8x22b-g8t8",
            "qwen2-57b-a14b",
            "grok-1",
        },
        "log_normal": {"deepseek-v3", "mixtral-8x7b", "gpt-4", "moonlight-16b-a3b"},
    }
    for distribution, workloads in names.items():
        assert {experts_of(name).distribution for name in workloads} == {distribution}

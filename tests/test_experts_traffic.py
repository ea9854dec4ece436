"""Byte matrices: conservation, a plain loop as oracle, and that expectations are the means of samples."""

import numpy as np
import pytest

from simulator.experts import WAYS, ExpertsConfig, route, survey
from simulator.experts.capacity import capacity_of, keep, survival
from simulator.experts.routing import sample
from simulator.experts.survey import even
from simulator.experts.traffic import Visits, reached
from simulator.inputs import ROOT, read, validate
from simulator.model import ModelConfig

V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)
SMALL = V3.model_copy(
    update={"num_nextn_predict_layers": 0, "num_hidden_layers": 5}
)  # two MoE layers
SHAPES = [(1, 8), (4, 8), (8, 8), (16, 8), (16, 4), (64, 8)]
UNEVEN = ExpertsConfig(distribution="log_normal", max_violation=0.72)
every_way = pytest.mark.parametrize("way", WAYS)
every_shape = pytest.mark.parametrize(("ep", "per_node"), SHAPES)


def tokens(ep, count=2000, seed=0):
    """Return (gpus [token, choice], source [token]) of V3's router, each GPU the source of as many."""
    chosen = sample(np.full(256, 8 / 256), V3, seed, count)
    return chosen * ep // 256, np.arange(count) % ep


def on_nodes(per_node, ep):
    return min(per_node, ep)


@every_way
@every_shape
def test_nothing_travels_from_a_gpu_to_itself_or_over_the_wrong_link(way, ep, per_node):
    on_node = on_nodes(per_node, ep)
    moved = WAYS[way].sampled(*tokens(ep), ep, on_node)
    inside = np.arange(ep)[:, None] // on_node == np.arange(ep) // on_node
    assert (np.diag(moved.nic + moved.nvlink) == 0).all()
    assert (moved.nic[inside] == 0).all()
    assert (moved.nvlink[~inside] == 0).all()


@every_way
@every_shape
def test_everything_dispatched_is_combined(way, ep, per_node):
    moved = WAYS[way].sampled(*tokens(ep), ep, on_nodes(per_node, ep))
    back = moved.returned()
    for there, home in ((moved.nic, back.nic), (moved.nvlink, back.nvlink)):
        assert (there.sum(axis=0) == home.sum(axis=1)).all()
        assert (there.sum(axis=1) == home.sum(axis=0)).all()
    assert back.busiest() == moved.busiest()


@every_shape
def test_hierarchical_nic_copies_are_tokens_times_distinct_remote_nodes(ep, per_node):
    gpus, source = tokens(ep)
    on_node = on_nodes(per_node, ep)
    remote = sum(
        len(set((row // on_node).tolist()) - {src // on_node})
        for row, src in zip(gpus, source, strict=True)
    )
    assert WAYS["hierarchical"].sampled(gpus, source, ep, on_node).nic.sum() == remote


@every_shape
def test_hierarchical_copies_are_those_of_a_plain_loop(ep, per_node):
    gpus, source = tokens(ep, 300)
    on_node = on_nodes(per_node, ep)
    nic, nvlink = np.zeros((ep, ep)), np.zeros((ep, ep))
    for row, src in zip(gpus.tolist(), source.tolist(), strict=True):
        for node in {gpu // on_node for gpu in row}:
            gate = node * on_node + src % on_node
            nic[src, gate] += gate != src
            for gpu in {gpu for gpu in row if gpu // on_node == node} - {gate}:
                nvlink[gate, gpu] += 1
    moved = WAYS["hierarchical"].sampled(gpus, source, ep, on_node)
    assert (moved.nic == nic).all()
    assert (moved.nvlink == nvlink).all()


@every_shape
def test_straight_copies_are_one_per_distinct_gpu_or_one_per_choice(ep, per_node):
    gpus, source = tokens(ep)
    on_node = on_nodes(per_node, ep)
    distinct = sum(len(set(row.tolist()) - {src}) for row, src in zip(gpus, source, strict=True))
    flat, low = (WAYS[way].sampled(gpus, source, ep, on_node) for way in ("flat", "low_latency"))
    assert (flat.nic + flat.nvlink).sum() == distinct
    assert (low.nic + low.nvlink).sum() == (gpus != source[:, None]).sum()


@every_shape
def test_every_gpu_gets_the_tokens_that_chose_it_whichever_way(ep, per_node):
    # Flat: over a link, or already there. Hierarchical: over NVLink, or it is the gate itself (its
    # own tokens and those that came over its NIC for it).
    gpus, source = tokens(ep)
    on_node = on_nodes(per_node, ep)
    hit = reached(gpus, ep)
    flat = WAYS["flat"].sampled(gpus, source, ep, on_node)
    own = np.bincount(source, weights=hit[np.arange(len(source)), source], minlength=ep)
    assert ((flat.nic + flat.nvlink).sum(axis=0) + own == hit.sum(axis=0)).all()
    rail = source[:, None] % on_node == np.arange(ep) % on_node
    by_gate = (hit & rail).sum(axis=0)
    assert (
        WAYS["hierarchical"].sampled(gpus, source, ep, on_node).nvlink.sum(axis=0) + by_gate
        == hit.sum(axis=0)
    ).all()


@pytest.mark.slow
@every_way
def test_expectations_are_the_means_of_many_tokens(way):
    # 131,072 tokens of 16 GPUs, expectation from the same tokens. A NIC's sum counts some 8,000
    # tokens or more: five deviations are 6%.
    ep, on_node, count = 16, 8, 131072
    share = np.random.default_rng(3).dirichlet(np.full(256, 20.0)) * 8
    chosen = sample(share, V3, 5, count)
    gpus, source = chosen * ep // 256, np.random.default_rng(4).integers(0, ep, count)
    visits = Visits(
        share,
        np.bincount(gpus.ravel(), minlength=ep) / count,
        reached(gpus, ep).mean(axis=0),
        reached(gpus // on_node, ep // on_node).mean(axis=0),
    )
    exact, mean = (
        WAYS[way].sampled(gpus, source, ep, on_node),
        WAYS[way].expected(visits, count / ep),
    )
    for found, wanted in ((exact.nic, mean.nic), (exact.nvlink, mean.nvlink)):
        assert found.sum(axis=0) == pytest.approx(wanted.sum(axis=0), rel=0.06)
        assert found.sum(axis=1) == pytest.approx(wanted.sum(axis=1), rel=0.06)


@every_shape
def test_alike_experts_load_links_as_route_says(ep, per_node):
    routing, moved = (
        route(V3, ep, per_node, 0),
        WAYS["hierarchical"].expected(even(V3, ep, per_node, 0), 4096),
    )
    for part, copies in ((moved.nic, routing.over_nic), (moved.nvlink, routing.over_nvlink)):
        assert part.sum(axis=0) == pytest.approx(np.full(ep, 4096 * copies))
        assert part.sum(axis=1) == pytest.approx(np.full(ep, 4096 * copies))


# A whole model


def test_alike_layers_are_alike_and_reach_3_95_nodes():
    layers = survey(V3, ExpertsConfig(), 64, 8, 4096)
    assert len(layers) == 59
    assert len(set(map(id, layers))) == 1
    assert layers[0].nodes.sum() == pytest.approx(3.95, abs=0.01)
    assert layers[0].rows(4096) == pytest.approx(np.full(64, 4096 * 8))


@pytest.mark.parametrize(
    "config",
    [
        UNEVEN,
        ExpertsConfig(distribution="power_law", exponent=0.5),
        ExpertsConfig(distribution="dirichlet", concentration=2.0, redundant_experts=64),
        ExpertsConfig(distribution="log_normal", sigma=0.5, capacity_factor=1.0),
        ExpertsConfig(capacity_factor=1.2, redundant_experts=64),
    ],
    ids=["log-normal", "power law", "replicas", "capacity", "both"],
)
@pytest.mark.slow
def test_what_a_token_does_adds_up_in_every_layer(config):
    for layer in survey(SMALL, config, 64, 8, 4096):
        assert layer.experts.sum() == pytest.approx(8 * (1 - layer.dropped))
        assert layer.pairs.sum() == pytest.approx(layer.experts.sum())
        assert (layer.gpus <= layer.pairs + 1e-9).all()
        assert (layer.nodes <= layer.pairs.reshape(8, 8).sum(axis=1) + 1e-9).all()
        assert (layer.nodes >= layer.gpus.reshape(8, 8).max(axis=1) * 0.99).all()
        assert layer.nodes.sum() <= 4.05
        assert (layer.dropped == 0) == (config.capacity_factor is None)


def test_the_busiest_gpu_has_the_experts_that_are_popular():
    layer = survey(SMALL, UNEVEN, 64, 8, 4096)[0]
    # One micro-batch: some 33,000 choices a GPU, 0.6% of chance, four times that for the worst of 64.
    assert layer.pairs == pytest.approx(layer.experts.reshape(64, 4).sum(axis=1), rel=0.024)
    # Chance of the sample makes no GPU busy: those that receive most are those that compute most.
    assert layer.gpus / layer.gpus.mean() == pytest.approx(
        layer.pairs / layer.pairs.mean(), abs=0.05
    )


def test_a_hint_of_imbalance_is_a_hint_of_traffic():
    # MaxVio 0.04 over 256 experts; 4 on a GPU: below 1.04 everywhere, whatever the sample.
    for layer in survey(
        SMALL, ExpertsConfig(distribution="log_normal", max_violation=0.04), 64, 8, 4096
    ):
        assert 1.005 < layer.pairs.max() / layer.pairs.mean() < 1.04
        assert layer.gpus.max() / layer.gpus.mean() < 1.04
        assert layer.nodes.max() / layer.nodes.mean() < 1.02


def test_replicas_even_out_gpus():
    plain, replicated = (
        survey(SMALL, UNEVEN.model_copy(update={"redundant_experts": more}), 64, 8, 4096)
        for more in (0, 64)
    )
    for one, other in zip(plain, replicated, strict=True):
        assert other.pairs.max() < one.pairs.max()
        assert other.pairs.sum() == pytest.approx(one.pairs.sum())


# Capacity


def test_an_expert_accepts_the_first_tokens_of_each_gpu():
    # GPU 0 sends tokens 0, 2, 3 and GPU 1 token 1; each may send an expert two.
    chosen, source = np.array([[0, 1], [0, 1], [0, 2], [0, 1]]), np.array([0, 1, 0, 0])
    assert keep(chosen, source, 2, 3).tolist() == [
        [True, True],
        [True, True],
        [True, True],
        [False, True],
    ]


def test_kept_and_dropped_choices_are_all_choices_and_none_exceeds_capacity():
    gpus, source = tokens(64, 4096)
    kept = keep(gpus, source, 5, 64)
    accepted = np.bincount((source[:, None] * 64 + gpus)[kept], minlength=64 * 64)
    wanted = np.bincount((source[:, None] * 64 + gpus).ravel(), minlength=64 * 64)
    assert (accepted == np.minimum(wanted, 5)).all()


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.1, 2.0])
@pytest.mark.slow
def test_expected_drops_are_those_of_sampled_tokens(factor):
    # 16 GPUs of 4,096 tokens: 2,048 means of min(X, C) with X of mean 128 and deviation 11: 0.2%
    # each.
    share = np.random.default_rng(1).dirichlet(np.full(256, 30.0)) * 8
    free = V3.model_copy(update={"n_group": 1, "topk_group": 1})
    chosen = sample(share, free, 2, 65536)
    loads = np.bincount(chosen.ravel(), minlength=256) / 65536
    capacity = capacity_of(factor, 4096, free)
    assert capacity == np.ceil(factor * 128)
    kept = keep(chosen, np.arange(65536) // 4096, capacity, 256).mean()
    assert (loads * survival(loads, 4096, capacity)).sum() / 8 == pytest.approx(kept, abs=0.004)


def test_an_expert_that_every_token_picks_loses_what_is_over_its_capacity():
    # 100 tokens of one GPU all pick it, so that nothing varies: 80 of 100 find room. Of an expert
    # that half of them pick, 50 with a deviation of 5, a capacity of 50 refuses the mean excess
    # E[max(0, X - 50)] = 5 phi(0) = 5 / sqrt(2 pi) = 1.99: 0.96 of them find room.
    kept = survival(np.array([1.0, 0.5]), 100, 80)
    assert kept == pytest.approx([0.8, 1.0], abs=1e-8)
    half = survival(np.array([0.5]), 100, 50)
    assert half == pytest.approx([1.0 - 5.0 / np.sqrt(2.0 * np.pi) / 50.0], rel=1e-12)


@pytest.mark.parametrize("way", [name for name in WAYS if name != "gathered"])
def test_a_dropped_choice_does_not_travel(way):
    gpus, source = tokens(16)
    none = WAYS[way].sampled(np.full_like(gpus, -1), source, 16, 8)
    assert none.busiest() == (0.0, 0.0)

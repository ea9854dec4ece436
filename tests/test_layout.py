"""Layouts: what fits a cluster, where ranks stand, stages as text, and cuts against all cuts that there are."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import LayoutError
from simulator.inputs import ROOT, read, validate
from simulator.layout import (
    Layout,
    LayoutConfig,
    balance,
    cut,
    even,
    parse_stages,
    print_stages,
    resolve,
)
from simulator.model import ModelConfig

DENSE = ModelConfig(
    vocab_size=10, hidden_size=8, num_hidden_layers=4, num_attention_heads=2, intermediate_size=12
)
V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)
WHOLE = "embedding 0-60 head mtp"


def refusal(call, *arguments):
    with pytest.raises(LayoutError) as caught:
        call(*arguments)
    return str(caught.value)


# Degrees


def test_deepseek_v3s_layout_on_2048_gpus():
    # arXiv 2412.19437, section 3.2: 16-way pipeline, 64-way experts; 2,048 / 16 = 128 replicas.
    assert resolve(LayoutConfig(pp=16, ep=64), 2048, V3) == Layout(
        gpus=2048, tp=1, pp=16, ep=64, dp=128, zero=1
    )


@pytest.mark.parametrize(
    ("degrees", "gpus", "model", "message"),
    [
        (
            {"pp": 7},
            2048,
            V3,
            "layout.pp: 7 does not divide 2048 GPUs: tp 1 x cp 1 x pp 7 x dp must be 2048. "
            "The nearest that do: 4 and 8.",
        ),
        (
            {"pp": 4096},
            2048,
            V3,
            "layout.pp: 4096 does not divide 2048 GPUs: tp 1 x cp 1 x pp 4096 x dp must be 2048. "
            "The nearest that do: 2048.",
        ),
        (
            {"pp": 16, "ep": 48},
            2048,
            V3,
            "layout.ep: 48 does not divide 256 routed experts. The nearest that fit: 32 and 64.",
        ),
        (
            # 96 divides 192 replicas but not 256 experts.
            {"pp": 1, "ep": 96},
            192,
            V3,
            "layout.ep: 96 does not divide 256 routed experts. The nearest that fit: 64.",
        ),
        (
            # 256 divides the experts but not 128 replicas.
            {"pp": 16, "ep": 256},
            2048,
            V3,
            "layout.ep: 256 x etp 1 does not divide tp 1 x cp 1 x dp 128 = 128 ranks "
            "(= 2048 GPUs / pp 16). The nearest that fit: 128.",
        ),
        (
            # 3 divides neither 128 heads nor 2,048 GPUs, and the product is looked at first.
            {"tp": 3},
            2048,
            V3,
            "layout.tp: 3 does not divide 2048 GPUs: tp 3 x cp 1 x pp 1 x dp must be 2048. "
            "The nearest that do: 2 and 4.",
        ),
    ],
)
def test_degrees_that_do_not_fit_are_told_the_rule_that_broke_and_the_nearest_that_fit(
    degrees, gpus, model, message
):
    assert refusal(resolve, LayoutConfig(**degrees), gpus, model) == message


@pytest.mark.parametrize(
    "degrees", [{"pp": 4}, {"pp": 8}, {"pp": 16, "ep": 32}, {"pp": 16, "ep": 64}]
)
def test_the_remedies_work(degrees):
    assert resolve(LayoutConfig(**degrees), 2048, V3).gpus == 2048


def test_a_dense_model_has_no_experts_to_spread():
    assert resolve(LayoutConfig(pp=2), 8, DENSE).ep == 1
    with pytest.raises(LayoutError, match=r"^layout.ep: 2 "):
        resolve(LayoutConfig(pp=2, ep=2), 8, DENSE)


# Ranks


def test_ranks_run_over_replicas_first_and_expert_groups_are_runs_of_them():
    # 12 GPUs, pp 3: dp 4. ep 2: two groups on each pipeline index.
    layout = Layout(gpus=12, tp=1, pp=3, ep=2, dp=4, zero=1)
    assert [[layout.rank(stage, replica) for replica in range(4)] for stage in range(3)] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
        [8, 9, 10, 11],
    ]
    assert layout.groups("expert").tolist() == [[0, 1], [2, 3]]
    assert layout.ranks(1, "expert").tolist() == [[4, 5], [6, 7]]
    assert layout.ranks(2, "expert_data").tolist() == [[8, 10], [9, 11]]


@pytest.mark.parametrize(("pp", "ep"), [(1, 1), (1, 8), (2, 4), (16, 64), (16, 128), (32, 1)])
def test_expert_groups_part_the_ranks_of_a_pipeline_index(pp, ep):
    layout = resolve(LayoutConfig(pp=pp, ep=ep), 2048, V3)
    groups = [
        tuple(group) for index in range(pp) for group in layout.ranks(index, "expert").tolist()
    ]
    assert sorted(rank for group in groups for rank in group) == list(range(2048))
    assert {len(group) for group in groups} == {ep}
    assert all(len({layout.pipeline_index(rank) for rank in group}) == 1 for group in groups)
    assert all(
        layout.rank(layout.pipeline_index(rank), layout.local_rank(rank)) == rank
        for rank in range(2048)
    )


# Stages


def test_a_stage_without_a_block_is_refused():
    with pytest.raises(LayoutError) as error:
        parse_stages(["embedding 0", "", "1-3 head"], 3, DENSE)
    assert str(error.value) == "layout.stages: leaves stage 1 empty. Give every stage a block."


def test_stages_are_read_as_blocks():
    assert parse_stages(["embedding 0", "1-2 3", "head"], 3, DENSE) == (
        ("embedding", "dense"),
        ("dense", "dense", "dense"),
        ("head",),
    )
    assert parse_stages(["embedding 0-3", "4-60 head mtp"], 2, V3) == (
        ("embedding", "dense", "dense", "dense", "moe"),
        (*["moe"] * 57, "head", "mtp"),
    )


@given(st.data(), st.integers(1, 6))
def test_stages_print_and_read_back(data, pp):
    inner = st.integers(1, len(V3.blocks) - 1)
    ends = sorted(data.draw(st.lists(inner, min_size=pp - 1, max_size=pp - 1, unique=True)))
    lengths = [end - start for start, end in itertools.pairwise([0, *ends, len(V3.blocks)])]
    stages = cut(V3.blocks, lengths)
    assert parse_stages(print_stages(stages), pp, V3) == stages


def test_stages_print_as_people_write_them():
    assert print_stages(cut(V3.blocks, (5, 57, 1, 1))) == ("embedding 0-3", "4-60", "head", "mtp")
    assert print_stages(cut(DENSE.blocks, (2, 0, 1, 3))) == ("embedding 0", "", "1", "2-3 head")


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [WHOLE],
            "names 1 stages where layout.pp is 2. Name as many, or write 'stages: balanced'.",
        ),
        (["embedding 0-3", "5-60 head mtp"], "has 5 where 4 is due. {rule}"),
        (["embedding 0-3", "3-60 head mtp"], "has 3 where 4 is due. {rule}"),
        (["embedding 0-3", "60-4 head mtp"], "has head where 4 is due. {rule}"),
        (["0-3", "4-60 head mtp"], "has 0 where embedding is due. {rule}"),
        (["embedding 0-3", "4-60 head"], "has nothing where mtp is due. {rule}"),
        (["embedding 0-3", "4-60 head mtp mtp"], "has mtp where nothing is due. {rule}"),
        (["embedding 0-3", "4-61 head mtp"], "has 61 where head is due. {rule}"),
        (
            ["embedding 0-3", "4-60 tail"],
            "'tail' is not a block. Write embedding, a layer or a range 3-6, head, mtp.",
        ),
    ],
)
def test_stages_that_miss_repeat_or_invent_a_block_are_refused(stages, message):
    rule = "Name each once, in order: embedding, 0 to 60, head, mtp."
    assert refusal(parse_stages, stages, 2, V3) == f"layout.stages: {message.format(rule=rule)}"


def test_a_rule_for_stages_that_is_not_known_is_refused():
    with pytest.raises(
        ValueError,
        match=r"'blanced' is not a stage map\. Write one text per stage, or balanced or even\.",
    ):
        LayoutConfig(stages="blanced")


def test_a_stage_of_one_layer_may_be_written_as_a_number():
    assert LayoutConfig(stages=["embedding 0", 1, "2 head"]).stages == (
        "embedding 0",
        "1",
        "2 head",
    )


# Cuts


def every_cut(count, parts):
    """Return the lengths of every way to cut `count` blocks into `parts` runs, empty ones included."""
    for ends in itertools.combinations_with_replacement(range(count + 1), parts - 1):
        yield tuple(end - start for start, end in itertools.pairwise((0, *ends, count)))


def cost(weights, lengths):
    sums = [sum(run) for run in cut(weights, lengths)]
    return max(sums), sum(total**2 for total in sums)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 4))
def test_balance_is_the_best_of_all_cuts(weights, parts):
    # Oracle: the longest run is as short as any cut makes it; among those, the sum of squares is
    # least.
    lengths = balance(weights, parts)
    assert len(lengths) == parts
    assert sum(lengths) == len(weights)
    assert cost(weights, lengths) == min(
        cost(weights, other) for other in every_cut(len(weights), parts)
    )
    assert 0 not in lengths or len(weights) < parts


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=8), st.integers(1, 4))
def test_no_cut_has_a_shorter_longest_run_than_balance_also_in_seconds(weights, parts):
    shortest = min(cost(weights, other)[0] for other in every_cut(len(weights), parts))
    assert cost(weights, balance(weights, parts))[0] == pytest.approx(shortest)


@pytest.mark.parametrize(
    ("weights", "parts", "lengths"),
    [
        ([1, 2, 3], 1, (3,)),
        ([3, 1, 1, 1, 3], 3, (1, 3, 1)),
        (
            [5, 1, 1, 1],
            3,
            (1, 1, 2),
        ),  # 5 is the longest whatever is done; 1 + 2 is more even than 0 + 3
        ([1, 1], 3, (0, 1, 1)),  # fewer blocks than runs
        ([], 2, (0, 0)),
    ],
)
def test_small_cuts(weights, parts, lengths):
    assert cost(weights, balance(weights, parts)) == cost(weights, lengths)
    assert balance(weights, parts).count(0) == lengths.count(0)


@pytest.mark.parametrize("model", [V3, DENSE])
@pytest.mark.parametrize("parts", [1, 2, 3, 4, 8, 16, 61])
def test_even_gives_each_run_as_many_layers_the_ends_fewest(model, parts):
    stages = cut(model.blocks, even(model, parts))
    layers = [sum(kind in ("dense", "moe") for kind in stage) for stage in stages]
    assert sum(map(len, stages)) == len(model.blocks)
    assert sum(layers) == model.num_hidden_layers
    assert max(layers) - min(layers) <= 1
    assert max(layers[0], layers[-1]) <= min(layers[1:-1], default=max(layers))
    assert stages[0][0] == "embedding"
    assert "head" in stages[-1]


def test_61_layers_over_16_runs_leave_three_with_3():
    # 61 = 16 x 3 + 13: 13 runs have 4, and the fewer stand at the ends, the last before the first.
    assert even(V3, 16) == (4, *[4] * 13, 3, 5)
    assert print_stages(cut(V3.blocks, even(V3, 16)))[::15] == ("embedding 0-2", "58-60 head mtp")

"""Ranks, places and groups of every kind, in every order that Megatron knows; and what product rules say."""

import math

import pytest
from builders import dense, scenario
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simulator.errors import InputError, LayoutError
from simulator.layout import GROUPS, Layout, LayoutConfig, resolve
from simulator.model import ModelConfig

MOE = ModelConfig(
    vocab_size=100,
    hidden_size=64,
    num_hidden_layers=8,
    num_attention_heads=16,
    num_key_value_heads=4,
    intermediate_size=128,
    n_routed_experts=16,
    num_experts_per_tok=2,
    moe_intermediate_size=64,
)
ORDERS = ("tp-cp-ep-dp-pp", "tp-cp-ep-pp-dp", "tp-ep-cp-dp-pp", "cp-tp-ep-dp-pp")


def laid(order: str, gpus: int = 64, **degrees: int) -> Layout:
    return resolve(LayoutConfig(order=order, **degrees), gpus, MOE)


def cases() -> list[Layout]:
    """Return layouts of 64 GPUs; where pp stands before dp, both grids fill the ranks before it alike."""
    some = [laid(order, tp=2, cp=2, pp=4, ep=2, etp=2) for order in ORDERS]
    some += [laid(order, tp=4, pp=2, ep=4, etp=1) for order in ORDERS]
    return [
        *some,
        laid(ORDERS[0], pp=8, ep=8),
        laid(ORDERS[0], tp=2, cp=4, pp=2, ep=8),
        laid(ORDERS[0], tp=8, etp=1),
    ]


CASES = cases()
every_layout = pytest.mark.parametrize("layout", CASES, ids=str)


def size(layout: Layout, kind: str) -> int:
    """Return how many ranks stand in a group, by the degrees that its name stands for."""
    return {
        "tp": layout.tp,
        "userbuffers": layout.tp,
        "cp": layout.cp,
        "cp_ring": layout.cp,
        "ulysses": layout.cp,
        "data": layout.cp * layout.dp,
        "etp": layout.etp,
        "expert": layout.ep,
        "expert_data": layout.edp,
    }[kind]


@every_layout
@pytest.mark.parametrize("kind", GROUPS)
def test_groups_of_every_kind_part_the_places(layout, kind):
    groups = layout.groups(kind)
    assert groups.shape == (layout.per_stage // size(layout, kind), size(layout, kind))
    assert sorted(groups.ravel().tolist()) == list(range(layout.per_stage))
    assert all(row == sorted(row) for row in groups.tolist())


@every_layout
@pytest.mark.parametrize("kind", GROUPS)
def test_groups_of_all_pipeline_indices_part_the_ranks(layout, kind):
    ranks = [row for index in range(layout.pp) for row in layout.ranks(index, kind).tolist()]
    assert sorted(rank for row in ranks for rank in row) == list(range(layout.gpus))
    assert all(len({layout.pipeline_index(rank) for rank in row}) == 1 for row in ranks)


@every_layout
def test_a_rank_is_its_pipeline_index_and_its_place(layout):
    for rank in range(layout.gpus):
        index, place = layout.pipeline_index(rank), layout.local_rank(rank)
        assert (0 <= index < layout.pp, 0 <= place < layout.per_stage) == (True, True)
        assert layout.rank(index, place) == rank


@every_layout
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tp", "data"),
        ("etp", "expert"),
        ("etp", "expert_data"),
        ("expert", "expert_data"),
        ("tp", "cp"),
    ],
)
def test_groups_of_two_kinds_in_one_grid_meet_in_one_rank_at_most(layout, one, other):
    for row in layout.groups(one).tolist():
        for column in layout.groups(other).tolist():
            assert len(set(row) & set(column)) <= 1


@every_layout
def test_both_grids_hold_every_place(layout):
    assert (
        layout.tp * layout.cp * layout.dp == layout.etp * layout.ep * layout.edp == layout.per_stage
    )
    assert layout.per_stage * layout.pp == layout.gpus


def test_ranks_by_hand_in_megatrons_default_order():
    # 16 GPUs, tp 2 fastest, then cp 2, dp 2, pp 2 slowest. Experts: etp 1, ep 4 fastest, edp 2.
    layout = laid(ORDERS[0], 16, tp=2, cp=2, pp=2, ep=4, etp=1)
    assert layout.ranks(0, "tp").tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert sorted(layout.ranks(0, "cp").tolist()) == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert sorted(layout.ranks(0, "data").tolist()) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert sorted(layout.ranks(1, "expert").tolist()) == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert sorted(layout.ranks(1, "expert_data").tolist()) == [[8, 12], [9, 13], [10, 14], [11, 15]]


def test_ranks_by_hand_where_the_pipeline_runs_before_the_replicas():
    # 16 GPUs, tp 2, cp 2, then pp 2: pipeline indices alternate in runs of 4; dp 2 is 8 ranks
    # apart.
    layout = laid(ORDERS[1], 16, tp=2, cp=2, pp=2, ep=4, etp=1)
    assert [layout.pipeline_index(rank) for rank in range(16)] == [0] * 4 + [1] * 4 + [0] * 4 + [
        1
    ] * 4
    assert sorted(layout.ranks(1, "data").tolist()) == [[4, 6, 12, 14], [5, 7, 13, 15]]
    assert sorted(layout.ranks(1, "expert").tolist()) == [[4, 5, 6, 7], [12, 13, 14, 15]]


def test_experts_need_no_grid_where_there_are_none():
    model = MOE.model_copy(update={"n_routed_experts": 0, "num_experts_per_tok": 0})
    layout = resolve(LayoutConfig(tp=2, pp=2, order=ORDERS[1]), 8, model)
    assert [layout.pipeline_index(rank) for rank in range(8)] == [0, 0, 1, 1, 0, 0, 1, 1]


@given(
    tp=st.sampled_from([1, 2, 4]),
    cp=st.sampled_from([1, 2]),
    pp=st.sampled_from([1, 2, 4]),
    dp=st.sampled_from([1, 2, 4]),
    ep=st.sampled_from([1, 2, 4, 8]),
    etp=st.sampled_from([0, 1, 2]),
    order=st.sampled_from(ORDERS),
)
@settings(max_examples=100, deadline=None)
def test_any_layout_that_is_accepted_parts_the_ranks(**degrees):
    order, dp = degrees.pop("order"), degrees.pop("dp")
    gpus = dp * math.prod(degrees[name] for name in ("tp", "cp", "pp"))
    try:
        layout = laid(order, gpus, **degrees)
    except LayoutError:
        assume(False)
    assert layout.dp == dp
    for kind in GROUPS:
        ranks = [
            rank
            for index in range(layout.pp)
            for rank in layout.ranks(index, kind).ravel().tolist()
        ]
        assert sorted(ranks) == list(range(gpus))
    assert all(
        layout.rank(layout.pipeline_index(rank), layout.local_rank(rank)) == rank
        for rank in range(gpus)
    )


# What does not fit


@pytest.mark.parametrize(
    ("degrees", "message"),
    [
        (
            {"tp": 2, "cp": 3},
            "layout.cp: 3 does not divide 64 GPUs: tp 2 x cp 3 x pp 1 x dp must be 64. "
            "The nearest that do: 2 and 4.",
        ),
        (
            {"tp": 32},
            "layout.tp: 32 does not divide 16 attention heads. The nearest that fit: 16.",
        ),
        (
            {"tp": 2, "ep": 3},
            "layout.ep: 3 does not divide 16 routed experts. The nearest that fit: 2 and 4.",
        ),
        (
            {"pp": 4, "etp": 3},
            "layout.etp: 3 does not divide the experts' width 64. The nearest that fit: 2 and 4.",
        ),
        (
            {"pp": 4, "vpp": 3},
            "layout.vpp: 3 makes 12 stages of the model's 10 blocks: layers, embedding, head, MTP. "
            "Every stage needs one: choose fewer stages.",
        ),
        (
            {"shard": 24},
            "layout.shard: 24 does not divide the cp 1 x dp 64 ranks that share parameters. "
            "The nearest that do: 16 and 32.",
        ),
        (
            {"tp": 2, "sequence_parallel": False},
            "layout.sequence_parallel: False cannot be combined with "
            "tensor parallelism and routed experts. Write sequence_parallel: true, which Megatron requires there too.",
        ),
        (
            {"tp": 2, "pp": 2, "ep": 4, "etp": 1, "order": "tp-cp-ep-pp-dp"},
            "layout.order: 'tp-cp-ep-pp-dp' puts 2 "
            "ranks of the dense grid but 4 of the experts' before the next pipeline index. Put pp last.",
        ),
    ],
)
def test_degrees_that_do_not_fit_are_told_the_rule_that_broke_and_the_nearest_that_fit(
    degrees, message
):
    with pytest.raises(LayoutError) as caught:
        resolve(LayoutConfig(**degrees), 64, MOE)
    assert str(caught.value) == message


def test_an_order_names_each_dimension():
    with pytest.raises(
        InputError, match=r"layout\.order: 'tp-cp-dp-pp' does not name each dimension once"
    ):
        scenario(layout__order="tp-cp-dp-pp")


def test_shards_part_the_ranks_that_share_experts_too():
    # 48 GPUs, ep 8: 48 dense replicas, 6 of each expert; 4 divides the first alone, 3 both.
    model = MOE
    with pytest.raises(LayoutError) as caught:
        resolve(LayoutConfig(ep=8, shard=4), 48, model)
    assert str(caught.value) == (
        "layout.shard: 4 does not divide the 6 ranks that share routed experts. "
        "The nearest that do: 3 and 6."
    )
    assert resolve(LayoutConfig(ep=8, shard=3), 48, model).shard == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layout__cp": 4, "layout__pp": 1, "training__seq_length": 2046},
            "training.seq_length: 2046 does not divide "
            "over cp 4 x tp 1 = 4 parts. Write a multiple of 4.",
        ),
        (
            {"layout__tp": 4, "training__seq_length": 2046},
            "training.seq_length: 2046 does not divide over cp 1 x tp 4 "
            "= 4 parts. Write a multiple of 4.",
        ),
        (
            {"layout__cp": 2, "training__attention": "unfused"},
            "training.attention: 'unfused' needs the whole sequence "
            "on a GPU, and cp cuts it. Write attention: flash, or cp: 1.",
        ),
    ],
)
@pytest.mark.slow
def test_sequences_that_cannot_be_cut_are_refused(changes, message):
    with pytest.raises(InputError) as caught:
        dense(**changes)
    assert message in str(caught.value)


def test_without_sequence_parallelism_tensor_parallelism_does_not_cut_sequences():
    assert (
        dense(layout__tp=4, layout__sequence_parallel=False, training__seq_length=2046).layout.tp
        == 4
    )


def test_expert_groups_that_fill_no_whole_nodes_are_refused():
    with pytest.raises(
        LayoutError,
        match="makes expert parallel groups of 2 ranks, which neither fill whole nodes of 3",
    ):
        scenario(
            nodes=4,
            node__gpus=3,
            node__nics=3,
            layout__pp=1,
            layout__ep=2,
            training__global_batch_size=12,
        )

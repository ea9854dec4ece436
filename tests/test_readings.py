"""What a second reading found: each mistake with the smallest case that shows it."""

import pytest
from builders import dense, lone, scenario, simulated

from simulator.costs import price, work
from simulator.errors import InputError
from simulator.memory import memory_of
from simulator.ops import Op, Transfer, block_ops
from simulator.scenario import load
from simulator.schedules import Action, Schedule, build, grid, read
from simulator.validate import validate


def activations(one, schedule=None):
    return max(
        rank.by_category["activations"]
        for rank in memory_of(one, price(one), schedule or one.pipeline.fixed)
    )


def by_hand(*order):
    """Return the schedule of one rank and one stage that runs these actions."""
    return Schedule("by hand", 1, 2, (tuple(Action.parse(text) for text in order),))


# SwiGLU's output of a layer: 2 B x 2,048 tokens x 4,096 wide; four layers.
SWIGLU = 2 * 2048 * 4096


def test_what_i_computes_again_stays_until_w_has_read_it():
    # After both I the outputs that both W read are there again, as if they had been kept all along.
    split = by_hand("F0@0", "F1@0", "I0@0", "I1@0", "W0@0", "W1@0")
    kept, again = (
        activations(lone(training__recompute=names), split) for names in ([], ["swiglu"])
    )
    assert again == pytest.approx(kept, rel=1e-12)


def test_a_full_backward_brings_back_one_layer_at_a_time():
    merged = by_hand("F0@0", "F1@0", "B0@0", "B1@0")
    kept, again = (
        activations(lone(training__recompute=names), merged) for names in ([], ["swiglu"])
    )
    assert kept - again == pytest.approx(2 * 4 * SWIGLU - SWIGLU, rel=1e-12)


def test_a_layer_that_is_run_again_is_whole_until_its_weight_gradients_have_run():
    split = by_hand("F0@0", "F1@0", "I0@0", "I1@0", "W0@0", "W1@0")
    whole, full = (activations(lone(training__recompute=names), split) for names in ([], ["full"]))
    assert full == pytest.approx(whole, rel=1e-12)


def test_what_attention_alone_reads_again_is_not_held_for_weight_gradients():
    keys = {"schedule__name": "zb-h1", "training__attention": "unfused"}
    one = dense(training__recompute=["core_attention"], **keys)
    assert all(block.reread == 0 for block in price(one).stage(0))
    assert activations(one) < activations(dense(training__recompute=[], **keys))


def test_gpus_with_loads_of_their_own_gather_their_own_bytes_in_expert_tensor_groups():
    keys = {"layout__ep": 2, "layout__etp": 2, "layout__tp": 2, "layout__pp": 1}
    unlike = {"distribution": "log_normal", "sigma": 0.5, "seed": 3}
    worst, each = (
        simulated(scenario(**keys, experts={**unlike, "resolve": how})) for how in ("worst", "each")
    )
    assert each.step_time == pytest.approx(worst.step_time, rel=0.05)


def phases(recipe, **keys):
    one = dense(precision__recipe=recipe, layout__tp=2, **keys)
    return block_ops("dense", work(one, None))[0]


@pytest.mark.parametrize("recipe", ["fp8_tensor", "fp8_current", "fp8_block"])
def test_what_is_gathered_is_cast_before_by_each_gpu_its_own_tokens(recipe):
    ops = phases(recipe).mlp_f
    place = next(i for i, op in enumerate(ops) if isinstance(op, Transfer))
    cast = ops[place - 1]
    assert isinstance(cast, Op) and cast.name == "cast"
    one = dense(precision__recipe=recipe, layout__tp=2)
    assert cast.bytes == one.recipe.cast_bytes * 2048 / 2 * 1024  # half of 2,048 tokens, 1,024 wide
    assert ops[place + 1].name == "gate+up"


def test_the_heads_input_is_gathered_in_bf16_whatever_the_recipe():
    one = dense(precision__recipe="fp8_tensor", layout__tp=2)
    (head,) = block_ops("head", work(one, None))
    (moved,) = [op for op in head.attention_f if isinstance(op, Transfer)]
    assert moved.bytes == 2048 * 1024 * 2


def test_tokens_that_travel_in_bf16_are_cast_where_experts_read_them():
    one = scenario(precision__recipe="fp8_tensor")
    found = price(one)
    (ops,) = block_ops("moe", work(one, found.loads.even))
    rows = found.work.expert_rows * 1024
    casts = [
        op.bytes / one.recipe.cast_bytes
        for op in ops.mlp_f
        if isinstance(op, Op) and op.name == "cast"
    ]
    assert rows in casts
    assert not [op for op in ops.attention_f[-2:] if op.name == "cast"]


def test_full_recompute_takes_the_other_names_in():
    both, alone = (
        price(dense(training__recompute=names)) for names in (["swiglu", "full"], ["full"])
    )
    assert both.blocks == alone.blocks


@pytest.mark.parametrize("name", ["1f1b", "dualpipe", "zb-v"])
def test_what_simulate_schedule_prints_is_a_custom_schedule(name):
    schedule = build(name, 4, 8)
    text = "\n".join(
        [
            f"{name}: a title",
            *(f"rank {rank} | {line}" for rank, line in enumerate(grid(schedule))),
            "ends at 93",
        ]
    )
    assert read(text).ranks == schedule.ranks


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            {"schedule.group": 3},
            "schedule.group: 3 is not read by schedule dualpipe. Leave it out: --set schedule.group=null",
        ),
        (
            {"schedule.limit": 3},
            "schedule.limit: 3.0 is not read by schedule dualpipe. Leave it out: --set schedule.limit=null",
        ),
        ({"schedule.name": "custom"}, "schedule.name: 'custom' needs a grid. Add schedule.file."),
        (
            {"schedule": {"name": "custom", "file": "nope.txt"}},
            "schedule.file: 'nope.txt' does not exist.",
        ),
    ],
)
def test_keys_that_mean_nothing_are_refused(sets, message):
    with pytest.raises(InputError) as found:
        load("h800-2048", "deepseek-v3", sets)
    assert message in str(found.value)


def test_only_mla_expands_compressed_vectors_again():
    with pytest.raises(InputError, match="only multi-head latent attention"):
        dense(training__recompute=["mla_up_projection"])


def test_etp_of_a_dense_model_is_blamed_by_its_own_name():
    with pytest.raises(InputError, match=r"layout\.etp: 2 must be 1"):
        dense(layout__etp=2)


def test_a_mistyped_case_is_told_its_neighbours():
    with pytest.raises(InputError, match=r"Near are megatron_2022/22b-"):
        validate(("megatron_2022/22b-selectiv",))


def test_published_figures_of_another_run_say_so():
    assert load("h800-2048", "deepseek-v3").as_published
    assert not load("h100-2048", "deepseek-v3").as_published
    assert not load("h800-2048", "deepseek-v3", {"layout.ep": 32}).as_published


def test_gemms_leave_sms_to_exchanges_only_where_passes_overlap():
    # DeepSeek-V3's 20 of 132; without pairs nothing runs beside dispatch and combine.
    kept = {
        name: price(scenario(schedule__name=name)).processor.reserved_sms
        for name in ("1f1b", "zb-v", "dualpipe")
    }
    assert kept == {"1f1b": 0, "zb-v": 0, "dualpipe": 20}


def test_zero_3_has_two_blocks_parameters_whole_at_a_time():
    # Of the dense model's blocks a layer is the largest: 15,730,688 parameters of 2 B.
    layer = 16 * 128 * 1024 + 1024 * 1024 + 2 * 1024 + 3 * 1024 * 4096
    whole, shards = (
        memory_of(one, price(one), one.pipeline.fixed)[0].by_category["buffers"]
        for one in (dense(layout__zero=3), dense(layout__zero=2))
    )
    assert whole - shards == 2 * layer * 2

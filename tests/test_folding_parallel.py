"""In every kind of parallelism the folded run is exact and a step scales with its hardware."""

import pytest
from builders import configuration_name, faster, scenario, simulated
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from parallel_cases import DENSE, GPT, MLA, MODELS, SHORT
from test_folding import UNEQUAL, agree

from simulator.engine import run
from simulator.errors import InputError
from simulator.program import lower
from simulator.report import summarise

CASES = [
    {**DENSE, "layout__tp": 2},
    {**DENSE, "layout__tp": 4, "layout__tp_comm_overlap": True},
    {**DENSE, "layout__tp": 2, "layout__sequence_parallel": False},
    {**DENSE, "layout__cp": 2},
    {**DENSE, "layout__cp": 2, "layout__cp_comm": "all_gather", "layout__tp": 2},
    {**DENSE, "layout__order": "tp-cp-ep-pp-dp", "layout__tp": 2},
    {**DENSE, "layout__vpp": 2, "schedule__name": "interleaved"},
    {
        **DENSE,
        "layout__vpp": 2,
        "layout__tp": 2,
        "schedule__name": "interleaved",
        "layout__zero": 3,
    },
    {**GPT, "layout__tp": 2, "training__attention": "unfused", "training__recompute": ["full"]},
    {**DENSE, **MLA, "layout__tp": 2},
    {**MLA, "layout__tp": 2, "layout__ep": 4, "layout__etp": 1},
    {"layout__ep": 2, "layout__tp": 2, "layout__etp": 2},
    {"layout__ep": 2, "layout__etp": 2},
    {"layout__ep": 2, "layout__tp": 2, "schedule__name": "dualpipe"},
    {
        "layout__ep": 2,
        "layout__cp": 2,
        "schedule__name": "dualpipe",
        "training__recompute": ["full"],
    },
    *({**DENSE, "layout__zero": zero} for zero in (0, 2, 3)),
    *({"layout__ep": 2, "layout__zero": zero, "schedule__name": "dualpipe"} for zero in (0, 2, 3)),
    *({**DENSE, "layout__pp": 1, "layout__zero": zero, "layout__shard": 4} for zero in (1, 3)),
    {"layout__pp": 1, "layout__ep": 2, "layout__zero": 3, "layout__shard": 2},
]
parallel = pytest.mark.parametrize("changes", CASES, ids=configuration_name)


@pytest.mark.slow
@parallel
def test_the_folded_run_is_the_unfolded_one(changes):
    classes, ranks = agree({**SHORT, **changes})
    assert classes < ranks


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [one for one in CASES if one.get("layout__tp", 1) <= 2], ids=configuration_name
)
def test_leaves_that_part_the_replicas_do_not_part_folded_from_unfolded(changes):
    # 4 nodes of 2 GPUs, 3 nodes to a leaf.
    agree(
        {
            **SHORT,
            **UNEQUAL,
            "nodes": 4,
            "node__gpus": 2,
            "node__nics": 2,
            "fabric__switch_ports": 6,
            **changes,
        }
    )


@pytest.mark.slow
@parallel
def test_hardware_k_times_as_fast_divides_the_step_by_k(changes):
    one, k = scenario(**{**SHORT, **changes}), 3.0
    first, second = summarise(simulated(one)), summarise(simulated(faster(one, k)))
    # Up to what counts as one instant, 0.1 ns, which is not hardware's: a few of them in 7 ms.
    assert second.step_time == pytest.approx(first.step_time / k, rel=1e-6)
    scaled = {name: seconds / k for name, seconds in first.breakdown.items()}
    assert second.breakdown == pytest.approx(scaled, rel=1e-6, abs=1e-6 * second.step_time)


@parallel
@pytest.mark.slow
def test_parts_phases_and_bounds_hold(changes):
    one = summarise(simulated(scenario(**{**SHORT, **changes})))
    for parts in (one.breakdown, one.phases):
        assert sum(parts.values()) == pytest.approx(one.step_time, rel=1e-9)
        assert min(parts.values()) >= -1e-12 * one.step_time
    assert all(0 <= bound.seconds <= one.step_time * (1 + 1e-12) for bound in one.bounds)
    assert max(one.utilisation.values()) <= 1 + 1e-9
    assert ("tensor_exposed" in one.breakdown) and ("context_exposed" in one.breakdown)


@pytest.mark.slow
@given(
    model=st.sampled_from(sorted(MODELS)),
    tp=st.sampled_from([1, 2, 4]),
    cp=st.sampled_from([1, 2]),
    pp=st.sampled_from([1, 2, 4]),
    ep=st.sampled_from([1, 2, 4]),
    etp=st.sampled_from([0, 1, 2]),
    zero=st.sampled_from([0, 1, 2, 3]),
    shard=st.sampled_from([0, 2]),
    order=st.sampled_from(["tp-cp-ep-dp-pp", "tp-cp-ep-pp-dp"]),
    ports=st.sampled_from([4, 6, 8]),
    schedule=st.sampled_from(["1f1b", "interleaved", "dualpipe", "zb-h1", "zb-v"]),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
@settings(max_examples=12, deadline=None)
def test_any_layout_folds_exactly(*, model, order, ports, schedule, flags, **degrees):
    # 4 nodes of 2 GPUs under leaves of 2, 3 or 4 nodes: replicas that cross leaves and some that do
    # not.
    given_ = {f"layout__{name}": degree for name, degree in degrees.items()}
    if "moe" not in model:
        given_ |= {"layout__ep": 1, "layout__etp": 0}
    changes = {
        **SHORT,
        **MODELS[model],
        **given_,
        **UNEQUAL,
        "nodes": 4,
        "node__gpus": 2,
        "node__nics": 2,
        "fabric__switch_ports": ports,
        "layout__order": order,
        "schedule__name": schedule,
        "layout__vpp": 2 if schedule == "interleaved" else 1,
        "layout__overlap_grad_reduce": flags[0],
        "layout__reshard_after_forward": flags[1] or degrees["zero"] < 3,
        "layout__tp_comm_overlap": flags[2] and degrees["tp"] > 1,
        "layout__cp_comm": "all_gather" if flags[2] else "p2p",
        "training__global_batch_size": 32,
    }
    try:
        agree(changes)
    except InputError:
        assume(False)


@pytest.mark.parametrize("name", ["dualpipe", "dualpipev", "zb-v"])
@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.slow
def test_holders_of_a_stage_that_run_it_in_other_orders_do_not_wait_for_each_other_for_ever(
    name, zero
):
    # In a bidirectional pipeline rank 0 runs stages 0 and 3, rank 3 stages 3 and 0: gradients are
    # summed between them.
    one = scenario(
        **SHORT,
        **DENSE,
        layout__pp=4,
        layout__zero=zero,
        schedule__name=name,
        model__num_hidden_layers=8,
    )
    assert run(lower(one, folded=False)).step_time > 0

"""What others measured and published. Nothing is fitted to a step; kernel tables are calibrated on single kernels."""

import json

import pytest

from simulator import inputs
from simulator.costs import block_seconds, price
from simulator.errors import InputError
from simulator.inputs import shipped
from simulator.layout import balance, cut, print_stages
from simulator.scenario import load
from simulator.validate import BUNDLES, PHASE_NAMES, names, score, validate
from simulator.validate.case import files
from simulator.whatif import simulate
from simulator.whatif import spans as alternatives_of


@pytest.fixture(scope="module")
def v3():
    return simulate(load("h800-2048", "deepseek-v3"))


@pytest.fixture(scope="module")
def pair():
    return {check.quantity: check for check in validate(("deepseek-v3-chunk",))}


def test_a_deepseek_v3_step_takes_19_9_s():
    # arXiv 2412.19437, section 1: 180 K GPU-hours per trillion tokens on 2,048 GPUs; 15,360 x 4,096
    # tokens per step.
    seconds_per_token = 180e3 * 3600 / 2048 / 1e12
    assert seconds_per_token * 15360 * 4096 == pytest.approx(19.91, abs=0.005)


@pytest.mark.slow
def test_the_simulated_step_is_within_12_percent_of_it(v3):
    # Payloads at their fastest, ranks that never wait for slow ones, and no straggling explain a
    # shorter step.
    error = v3.step_time / 19.91 - 1
    assert -0.12 < error < 0.12


@pytest.mark.slow
def test_all_published_figures_of_time_agree_with_each_other(v3):
    # Tokens per day is the inverse of the step; the run of 14.8 T tokens has no ramp here.
    errors = {row.quantity: row.error for row in v3.references()}
    assert errors["gpu_hours_per_trillion_tokens"] == pytest.approx(errors["step_time_s"], abs=1e-3)
    assert errors["gpu_hours"] == pytest.approx(errors["step_time_s"], abs=1e-3)
    assert errors["cost_usd"] == pytest.approx(errors["gpu_hours"], abs=1e-3)
    assert 1 / (1 + errors["tokens_per_day"]) - 1 == pytest.approx(errors["step_time_s"], abs=2e-3)


@pytest.mark.slow
def test_deepseek_v3_has_671_03_b_parameters_of_which_36_63_b_are_active(v3):
    # arXiv 2412.19437, abstract: 671 B and 37 B, the input embedding of 0.93 B included in the
    # latter.
    found = v3.quantities()
    assert found["parameters"] / 1e9 == pytest.approx(671.03, abs=0.005)
    assert found["active_parameters"] / 1e9 == pytest.approx(36.63, abs=0.005)
    assert (
        found["active_parameters"] + v3.scenario.model.embedding_parameters
    ) / 1e9 == pytest.approx(37.55, abs=0.01)


def test_a_token_takes_250_5_gflops(v3):
    # arXiv 2505.09343, table 2: 250 GFLOPs per token at 4,096 tokens.
    assert v3.quantities()["flops_per_token"] / 1e9 == pytest.approx(250.5, abs=0.05)


def test_a_step_has_62_9_m_tokens_in_120_micro_batches_per_replica(v3):
    assert v3.scenario.tokens_per_step == 15360 * 4096 == 62_914_560
    assert v3.scenario.micro_batches == 15360 // 128 == 120
    assert v3.scenario.pipeline.name == "dualpipe"


def test_the_bubble_is_of_the_size_that_dualpipe_claims(v3):
    # (P/2 - 1)(FB + B - 3W) with P = 16 over 120 micro-batches is of the order of a tenth of the
    # step.
    assert 0.02 < v3.phases["bubble"] / v3.step_time < 0.15


# The published chunk pair: calibration of kernels, how streams wait is not fitted


@pytest.mark.slow
def test_a_chunk_pair_of_four_layers_spans_129_ms(pair):
    check = pair["span"]
    assert (check.published, check.unit) == (129.0, "ms")
    assert abs(check.error) < 0.05


@pytest.mark.parametrize("phase", PHASE_NAMES)
@pytest.mark.slow
def test_each_phase_of_a_layer_takes_what_the_profile_shows(pair, phase):
    assert abs(pair[f"{phase}, kernels per layer"].error) < 0.10


@pytest.mark.parametrize("name", ["dispatch(F)", "combine(F)", "combine(B)", "dispatch(B)"])
def test_payloads_beside_compute_take_what_the_profile_shows(pair, name):
    # The profile's payloads vary by 15% between four layers, as the rows of their experts do.
    assert abs(pair[f"{name}, payload per layer"].error) < 0.15


@pytest.mark.slow
def test_calibration_is_named_as_such():
    uses = {case: {check.use for check in validate((case,))} for case in BUNDLES}
    assert uses == {"deepseek-v3-chunk": {"calibration"}, "deepseek-v3": {"validation"}}


# What was not published


@pytest.mark.slow
def test_the_shipped_stage_map_is_the_balanced_one():
    scenario = load("h800-2048", "deepseek-v3")
    costs = price(scenario)
    weights = [block_seconds(costs.blocks[kind]) for kind in scenario.model.blocks]
    lengths = balance(weights, 16)
    assert print_stages(cut(scenario.model.blocks, lengths)) == scenario.workload.layout.stages
    assert load("h800-2048", sets={"layout.stages": "balanced"}).pipeline == scenario.pipeline
    assert price(load("h800-2048", sets={"layout.stages": "balanced"})).stages == costs.stages


@pytest.mark.slow
def test_alternatives_of_what_is_assumed_stand_beside_it(v3):
    spans = {span.key: span for span in alternatives_of(v3.scenario)}
    assert list(spans) == [
        "layout.stages",
        "experts.max_violation",
        "layout.overlap_param_gather",
        "training.micro_batch_size",
    ]
    steps = {one.value: one.step_time for one in spans["layout.stages"].alternatives}
    assert len(steps) == 2
    assert all(0.8 * v3.step_time < step < 1.4 * v3.step_time for step in steps.values())


# Integer steps of others: kernels and links alone are fitted, so the errors are what they are; all
# cases: results/

QUICK = (
    *(f"megatron_2021/{size}" for size in ("1.7b", "3.6b", "7.5b", "18b", "39b")),
    *(f"megatron_2022/22b-{how}" for how in ("selective", "full")),
    "dgxc_h100/8b-8",
    *(
        f"zero_bubble/{size}-{name}-24"
        for size in ("1.5b", "6.2b")
        for name in ("1f1b", "interleaved", "zb-1p", "zb-2p")
    ),
)


MISSED = {
    "zero_bubble/1.5b-interleaved-24",
    "zero_bubble/1.5b-zb-1p-24",
    "zero_bubble/6.2b-interleaved-24",
    "zero_bubble/6.2b-zb-1p-24",
}
"""Misses that are known, all too fast. The authors' profile (published/zero_bubble.yaml) has weight
gradients within 2% of ours and input gradients within 9%, but forward passes that take 11 to 15%
longer: what unfused attention's kernels reach there was not measured one by one."""


@pytest.mark.slow
def test_quick_published_steps_are_met_within_a_tenth_but_for_known_misses():
    checks = list(validate(QUICK))
    assert [check.case for check in checks] == sorted(QUICK, key=names().index)
    assert {check.case for check in checks if abs(check.error) > 0.10} == MISSED
    total = score(checks)
    assert (total.checks, total.mean < 0.06, abs(total.worst.error) < 0.17) == (
        len(QUICK),
        True,
        True,
    )


@pytest.mark.slow
def test_published_memory_is_met_within_8_percent_and_within_3_on_average():
    cases = [case.case for table in files().values() for case in table.memory]
    errors = {check.case: check.error for check in validate(tuple(cases))}
    assert len(errors) == 28
    assert {case: error for case, error in errors.items() if abs(error) > 0.08} == {}
    assert sum(map(abs, errors.values())) / len(errors) < 0.03
    # Formulas of a layer are met to the digit that is printed (arXiv 2205.05198).
    formulas = [case for case in errors if "activations" in case]
    assert max(abs(errors[case]) for case in formulas) < 0.001


@pytest.mark.slow
def test_every_case_names_a_shipped_topology_and_workload_and_is_called_once():
    rows = [row for table in files().values() for row in table.rows]
    assert len({row.case for row in rows}) == len(rows)
    assert all(
        row.case.partition("/")[0] == name for name, table in files().items() for row in table.rows
    )
    assert {row.topology for row in rows} <= set(shipped("topologies"))
    runs = [row for table in files().values() for row in (*table.cases, *table.memory)]
    assert {row.workload for row in runs} <= set(shipped("workloads"))


@pytest.mark.slow
def test_a_collective_is_compared_with_what_simulate_collective_says():
    # Two nodes of 8 H100: the sizes are timed as NCCL would choose, in microseconds.
    name = "user_measurements/nccl-2x8h100-allreduce-1gib"
    (check,) = validate((name,))
    assert (check.published, check.unit, check.kind) == (pytest.approx(4607.6), "us", None)
    # 2^30 B in 15/16 of twice their size over 450 GB/s of NVLink takes 4.47 ms at the line rate of a
    # ring; NVLS in the nodes may halve that, no more.
    assert 0.5 * 4474 < check.simulated < 2 * 4474


def test_an_a100_refuses_fp8_with_the_remedy_and_runs_v3_in_bf16():
    with pytest.raises(
        InputError, match=r"multiplies in fp8, which a100 cannot.*Write bf16, or choose a GPU"
    ):
        load("h800-2048", "deepseek-v3", {"topology.gpu": "a100"})
    assert (
        load(
            "h800-2048", "deepseek-v3", {"topology.gpu": "a100", "precision.recipe": "bf16"}
        ).recipe.name
        == "bf16"
    )


@pytest.mark.slow
def test_a_mistyped_case_is_told_its_neighbours():
    with pytest.raises(InputError, match=r"Did you mean megatron_2022/22b-"):
        validate(("megatron_2022/22b-selectiv",))


@pytest.mark.slow
def test_figures_of_before_belong_to_cases_that_exist():
    results = inputs.ROOT.parent / "results"
    before = json.loads((results / "before.json").read_text(encoding="utf-8"))
    assert set(before["simulated"]) <= set(names())
    landings = json.loads((results / "landings.json").read_text(encoding="utf-8"))["landings"]
    assert landings[0]["commit"] == before["commit"]
    for row in landings:
        # A step before is the figure before, where that is a step.
        assert set(row.get("step_time_s", ())) <= set(before["simulated"])
    name = "user_measurements/qwen3-235b-256h100-tp4-pp8-ep8"
    assert landings[0]["step_time_s"][name] == before["simulated"][name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moonlight-16b-8h100-none", "qwen3-235b-256h100-tp4-pp8-ep8"])
def test_steps_of_many_small_kernels_lie_between_lean_and_ordinary_hosts(name):
    # Kernels take a quarter and half of the measured steps, launches the rest. Nobody profiled
    # Megatron's hosts, so the interval over measured paces must hold the step.
    (check,) = validate((f"user_measurements/{name}",), alternatives=True)
    least, most = check.hosts
    assert least < check.published < most
    assert least == pytest.approx(check.simulated)  # Megatron's pace is the lean one


@pytest.mark.slow
def test_cuda_graphs_help():
    cases = (
        "user_measurements/qwen3-30b-16h100-eager",
        "user_measurements/qwen3-30b-16h100-cuda-graphs",
    )
    eager, graphs = validate(cases)
    assert (graphs.published < eager.published) == (graphs.simulated < eager.simulated)

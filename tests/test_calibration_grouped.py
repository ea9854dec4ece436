"""Calibration of what runs for all experts of a GPU, and of norms by software stack."""

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import scenario
from calibration import AMPERE, HOPPER

from simulator.compute import Processor
from simulator.costs import price, work
from simulator.hardware import StackConfig
from simulator.inputs import data, table, validate
from simulator.ops import Op, Phase, block_ops
from simulator.ops.op import gemm, moved
from simulator.residuals.grouped import grouped, in_loop, infersim, published_weight_gradients
from simulator.residuals.rows import processor

OUTSIDE = replace(HOPPER, own_grouped=False)


def changed(part: Processor, tables: str, **constants: float) -> Processor:
    """Return a processor with other constants of the grouped FP8 GEMM."""
    old = getattr(part.kernels, tables)
    model = old["fp8"].model_copy(update=constants)
    kernels = part.kernels.model_copy(update={tables: old | {"fp8": model}})
    return replace(part, kernels=kernels)


H800 = processor("h800", own_grouped=False)


def squares(rows, **constants):
    """Return the sum of squared logarithms of computed over measured."""
    part = changed(H800, "grouped", **constants)
    return sum(math.log(in_loop(part, row.op) / row.us * 1e6) ** 2 for row in rows)


@pytest.mark.parametrize(
    ("key", "step"), [("mainloop", 0.005), ("memory", 0.02), ("ramp", 2e-6), ("exponent", 1.0)]
)
def test_the_grouped_gemm_is_least_squares_over_infersims_rows(key, step):
    rows = list(infersim())
    best = getattr(HOPPER.kernels.grouped["fp8"], key)
    least = squares(rows)
    assert math.sqrt(least / len(rows)) < 0.06
    assert least <= min(squares(rows, **{key: best - step}), squares(rows, **{key: best + step}))


def test_few_rows_of_an_expert_load_and_multiply_one_after_the_other():
    # 32 experts of 256 rows, gate and up: multiplying takes about as long as loading the weights.
    # The longer of the two would be a quarter too fast.
    (row,) = (row for row in infersim() if row.op.shape == (32, 256, 4096, 7168))
    squared = in_loop(H800, row.op)
    longer = in_loop(changed(H800, "grouped", exponent=50), row.op)
    assert squared == pytest.approx(row.us * 1e-6, rel=0.06)
    assert longer < 0.78 * row.us * 1e-6


def test_weight_gradients_of_experts_are_least_squares_over_deepgemms():
    rows = list(published_weight_gradients())
    parts = {gpu: processor(gpu, own_grouped=False) for gpu in ("h800", "h200")}

    def error(mainloop):
        total = 0.0
        for gpu, timed in rows:
            part = changed(parts[gpu], "grouped_wgrad", mainloop=mainloop)
            total += math.log(in_loop(part, timed.op) / timed.us * 1e6) ** 2
        return total

    best = HOPPER.kernels.grouped_wgrad["fp8"].mainloop
    assert error(best) <= min(error(best - 0.01), error(best + 0.01))
    assert math.sqrt(error(best) / len(rows)) < 0.1


def test_rows_that_differ_leave_half_a_tile_of_each_expert_empty():
    # 132 experts of 512 rows, 4 tiles of 128: 4.5 on average where they differ. 132 experts, 132 SMs
    # and columns of one tile: as many waves as tiles of an expert, 5 instead of 4.
    even = gemm("", 512, 128, 7168, "fp8", 132)
    model = HOPPER.kernels.grouped["fp8"].model_copy(update={"tiles": ((128, 128, 1.0),)})
    kernels = HOPPER.kernels.model_copy(update={"grouped": {"fp8": model}})
    part = replace(OUTSIDE, kernels=kernels)
    on_memory = even.bytes / (part.gpu.memory.bandwidth * model.memory)
    waves = []
    for op in (even, even._replace(uneven=True)):
        both = in_loop(part, op) - model.ramp
        waves.append(math.sqrt(both**2 - on_memory**2))
    assert waves[1] / waves[0] == pytest.approx(5 / 4)


def test_experts_of_a_step_have_rows_that_differ_and_weight_gradients_sum_over_them():
    one = scenario(layout__ep=1)
    (ops,) = block_ops("moe", work(one, price(one).loads.even))
    routed = [
        op for phase in Phase for op in ops[phase] if isinstance(op, Op) and op.shape.groups > 1
    ]
    assert {op.uneven for op in routed if op.kind == "gemm"} == {True}
    assert not any(op.uneven for op in routed if op.kind != "gemm")


@pytest.mark.parametrize(("streams", "waves", "ramps"), [(4, 20, 5), (3, 20, 7), (1, 20, 20)])
def test_one_kernel_per_expert_chooses_its_tiles_alone_and_waits_for_its_stream(
    streams, waves, ramps
):
    # An expert of 3,328 rows has 26 x 4 = 104 tiles of 128 x 128, one wave of 132 SMs: the fastest of
    # its tiles were it alone. Four at once are 416 tiles, 4 waves, five times; three at once 312
    # tiles, 3 waves, six times, and two more 208, 2 waves; one after another 20 times one.
    one = gemm("", 3328, 512, 2048, "bf16", 20)._replace(launches=20)
    part = replace(OUTSIDE, streams=streams)
    model = HOPPER.kernels.grouped["bf16"]
    rate = part.gpu.peak["bf16"] / 132 * model.mainloop
    on_sms = waves * (2 * 128 * 128 * 2048 / rate + model.tile)
    on_memory = one.bytes / (part.gpu.memory.bandwidth * model.memory)
    due = ramps * model.ramp + math.hypot(on_sms, on_memory)
    assert in_loop(part, one) == pytest.approx(due)


def test_one_kernel_per_expert_takes_what_transformer_engine_measured():
    # Not fitted: 20 experts of 3,328 rows, forward, input gradient and weight gradient.
    (row,) = (
        row for row in grouped() if row.name.endswith("one kernel per expert, Transformer Engine")
    )
    assert abs(row.bias) < 0.02
    assert abs(row.worst) < 0.08


def test_small_kernels_of_a_router_are_those_of_the_stack():
    ops = block_ops("moe", work(scenario(stack="megatron"), None))[0]
    (top_k,) = [op for op in ops.attention_f if op.name == "top-k"]
    (back,) = [op for op in ops.attention_b if op.name == "top-k backward"]
    experts = validate(data("stacks", "megatron"), StackConfig).experts
    assert (top_k.launches, back.launches) == (experts.router, experts.router_backward)


@pytest.mark.parametrize("gpu", ["a100", "h100", "b200"])
def test_what_was_not_measured_grouped_has_the_constants_of_its_dense_gemm(gpu):
    kernels = processor(gpu).kernels
    pairs = [(kernels.grouped, kernels.gemm), (kernels.grouped_wgrad, kernels.wgrad)]
    for grouped_tables, dense in pairs:
        assert set(grouped_tables) == set(dense)
        for dtype, model in grouped_tables.items():
            assert model.exponent == 2
            if dtype == "fp8" and gpu == "h100":
                continue
            for key in ("mainloop", "tile", "memory", "ramp", "tiles"):
                assert getattr(model, key) == getattr(dense[dtype], key), (dtype, key)


def test_deepseeks_own_grouped_gemm_is_the_dense_wave_model():
    # Two experts of 4,096 rows are as many tiles as one of 8,192; a memory-bound part is hidden.
    two = gemm("", 4096, 4096, 7168, "fp8", 2)
    one = gemm("", 8192, 4096, 7168, "fp8")
    own, dense = (HOPPER.kernel(op, overlapped=False) for op in (two, one))
    assert own == pytest.approx(dense, rel=1e-9)
    assert OUTSIDE.kernel(one, overlapped=False) == dense


@pytest.mark.parametrize(("direction", "each"), [("forward", 4.0), ("backward", 6.0)])
def test_compiled_norms_are_the_mean_of_torch_compiles_rows_on_h200(direction, each):
    h200 = processor("h200")
    shares = []
    for row in table("norms_h200"):
        if row["implementation"] == "torch_compile" and _wide(row):
            moved = each * int(row["rows"]) * int(row["width"])
            seconds = float(row[f"{direction}_ms"]) * 1e-3
            shares.append(moved / seconds / h200.gpu.memory.bandwidth)
    kind = "compiled_norm" if direction == "forward" else "compiled_norm_backward"
    alone = h200.kernels.memory[kind] * h200.kernels.overlap_slowdown.memory
    assert np.mean(shares) == pytest.approx(alone, rel=0.005)


@pytest.mark.parametrize(("direction", "each"), [("forward", 4.0), ("backward", 6.0)])
@pytest.mark.parametrize(
    ("implementation", "kind"), [("cudnn", "fused_norm"), ("torch_compile", "compiled_norm")]
)
def test_blackwells_norms_are_least_squares_of_a_share_and_a_start(
    implementation, kind, direction, each
):
    part = processor("gb200")  # and GB300, of the same HBM
    kind += "" if direction == "forward" else "_backward"
    rows = [
        row
        for row in table("norms_blackwell")
        if row["implementation"] == implementation and _wide(row)
    ]
    assert len(rows) == 18

    def error(share, start):
        kernels = part.kernels.model_copy(update={"memory": {kind: share}, "start": {kind: start}})
        other = replace(part, kernels=kernels)
        logs = []
        for row in rows:
            op = moved("", kind, float(row["rows"]) * float(row["width"]), each)
            seconds = float(row[f"{direction}_ms"]) * 1e-3
            logs.append(np.log(other.kernel(op, overlapped=False) / seconds))
        return np.square(logs).sum()

    share, start = part.kernels.memory[kind], part.kernels.start[kind]
    best = error(share, start)
    for step in (-1, 1):
        assert error(share + 0.004 * step, start) > best
        assert error(share, start + 0.2e-6 * step) > best


def _wide(row):
    return row["norm"] == "rms_norm" and int(row["width"]) >= 2048


@pytest.mark.parametrize("part", [HOPPER, AMPERE], ids=lambda part: part.gpu.name)
def test_the_shortest_kernel_is_the_median_of_vidurs_smallest_additions(part):
    us = [float(row["us"]) for row in table("vidur_shortest") if row["gpu"] == part.gpu.name]
    assert part.kernels.shortest == pytest.approx(np.median(us) * 1e-6)


def test_many_small_kernels_take_at_least_as_many_times_the_shortest():
    # 35 kernels of a router on 16 tokens hardly move a byte: 2 us each, and 2 us between them.
    op = moved("", "router", 16 * 128, 4.0)._replace(launches=35)
    assert HOPPER.kernel(op, overlapped=True) == pytest.approx(70e-6)
    assert HOPPER.seconds((op,), overlapped=True) == pytest.approx(140e-6)

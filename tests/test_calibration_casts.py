"""Calibration of what FP8 adds to a GEMM: casts, the pass for the largest value, scales of blocks."""

import numpy as np
import pytest
from calibration import HOPPER, measured, measured_csv
from scipy.optimize import least_squares

from simulator.ops.op import AMAX_KERNELS, quantise
from simulator.precision import RECIPES
from simulator.residuals.fp8_training import fp8_training

TABLE = measured("fp8_training")
LAYERS = TABLE["transformer_engine"]
H200_BANDWIDTH = 4.8e12  # of the NVL card too


def test_the_start_of_a_cast_is_that_of_large_tensors():
    # From 60 MB on nothing stays in the L2 cache: seconds = start + 3 B an element over a bandwidth.
    table = measured_csv("fp8_quantise")
    rows = [
        (float(m) * float(k) * 3.0, float(us) * 1e-6)
        for gpu, m, k, us in zip(*(table[key] for key in ("gpu", "m", "k", "cast_us")), strict=True)
        if gpu == "h100"
    ]
    size, seconds = np.array([row for row in rows if row[0] > 60e6]).T

    def residual(values):
        return np.log((values[0] * 1e-6 + size / (values[1] * 1e12)) / seconds)

    fit = least_squares(residual, [1.0, 2.0])
    assert np.sqrt(np.mean(fit.fun**2)) == pytest.approx(0.007, abs=0.0005)
    start = HOPPER.kernels.start
    assert start["cast_transpose"] == pytest.approx(fit.x[0] * 1e-6, rel=0.01)
    assert start["amax"] == start["cast_transpose"]


def elements():
    """Return the elements of both operands of four GEMMs by pass."""
    rows, layers = LAYERS["rows"], LAYERS["layers"]
    inputs = sum(rows * k for _, k in layers)
    weights = sum(n * k for n, k in layers)
    gradients = sum(rows * n for n, _ in layers)
    return {
        "forward": inputs + weights,
        "dgrad": gradients + weights,
        "wgrad": inputs + gradients,
    }


def test_the_largest_value_takes_what_current_scaling_takes_more_than_delayed():
    casts = LAYERS["with_casts"]
    more = 1e-3 * sum(row["fp8_current"] - row["fp8_tensor"] for row in casts.values())
    tensors = 3 * 2 * len(LAYERS["layers"])
    moving = more - tensors * AMAX_KERNELS * HOPPER.kernels.start["amax"]
    share = 2.0 * sum(elements().values()) / moving / H200_BANDWIDTH
    assert share == pytest.approx(0.868, abs=0.003)
    in_flight = share / HOPPER.kernels.overlap_slowdown.memory
    assert HOPPER.kernels.memory["amax"] == pytest.approx(in_flight, abs=0.003)


def test_blocks_take_what_is_left_of_their_time_without_the_casts():
    # Delayed scaling's casts move the same bytes in one kernel each, so the difference is the
    # GEMMs' own.
    ratios = []
    for name, row in LAYERS["with_casts"].items():
        alone = LAYERS["cast_before"][name]["fp8_current"]
        ratios.append((alone + row["fp8_blockwise"] - row["fp8_tensor"]) / alone)
    assert ratios == pytest.approx([1.222, 1.235, 1.241], abs=0.001)
    for part in HOPPER.kernels.gemm["fp8_blockwise"].measured.values():
        assert part.speed == pytest.approx(1 / np.mean(ratios), abs=0.001)


def test_blocks_are_per_tensor_scaling_at_another_rate():
    blocks, plain = HOPPER.kernels.gemm["fp8_blockwise"], HOPPER.kernels.gemm["fp8_tensor"]
    speed = blocks.measured["h100"].speed
    for name in ("tile", "ramp"):
        assert getattr(blocks, name) * speed == pytest.approx(getattr(plain, name), rel=0.005)
    assert blocks.mainloop == pytest.approx(plain.mainloop * speed, rel=0.005)
    for gpu, part in blocks.measured.items():
        assert part.burst == plain.measured[gpu].burst


def test_weight_gradients_without_fast_accumulation_take_as_long_as_with_it():
    # One of three GEMMs with, or none: less than 1% of all three, so that nothing is added.
    ratios = [row["off_ms"] / row["on_ms"] for row in TABLE["fast_accumulation"]]
    assert max(ratios) < 1.01
    alone = {name: row["fp8_current"] for name, row in LAYERS["cast_before"].items()}
    assert alone["wgrad"] < alone["forward"] < alone["dgrad"]  # 5.55, 5.58, 5.66 ms


@pytest.mark.parametrize("row", list(fp8_training())[:3], ids=lambda row: row.name)
def test_transformer_engines_layers_with_casts_follow_over_bf16(row):
    # Nothing but the largest value's rate and the blocks' is fitted to this table.
    assert abs(row.bias) < 0.035
    assert np.abs(row.errors).max() < 0.055


def test_current_scaling_reads_a_tensor_before_it_casts_it():
    ops = quantise(RECIPES["fp8_current"], 1e6, 2e6)
    assert [(op.kind, op.bytes) for op in ops] == [
        ("amax", 2e6),
        ("cast_transpose", 4e6),
        ("amax", 4e6),
        ("cast_transpose", 8e6),
    ]
    assert [op.kind for op in quantise(RECIPES["fp8_tensor"], 1e6)] == ["cast_transpose"]
    assert [op.kind for op in quantise(RECIPES["fp8_block"], 1e6)] == ["quantise"]

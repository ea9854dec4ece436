"""Calibration of GEMMs: the wave model's constants, fitted again from a neutral start to the published rows."""

import re
from functools import partial

import numpy as np
import pytest
from calibration import (
    AMPERE,
    B200,
    CHUNK,
    HOPPER,
    LAYER,
    TRACED,
    measured,
    measured_csv,
)
from scipy.optimize import least_squares

from simulator.compute.grid import grid
from simulator.compute.waves import waves
from simulator.ops.op import gemm, wgrad


class Waves:
    """The wave model over arrays of measured rows, written a second time so that it checks `compute` as well."""

    def __init__(self, part, ops, model):
        self.bandwidth = part.gpu.memory.bandwidth
        self.bytes = np.array([op.bytes for op in ops])
        groups, m, n, k = np.array([op.shape for op in ops]).T
        sms, peak = part.gpu.sms - part.reserved_sms, part.peak(ops[0].dtype) / part.gpu.sms
        tiles = [
            (groups * np.ceil(m / rows) * np.ceil(n / columns), rows * columns / relative)
            for rows, columns, relative in model.tiles
        ]
        self.full = np.array([count / sms for count, _ in tiles])
        self.work = np.array([2.0 * area * k / peak for _, area in tiles])

    def seconds(self, mainloop, tile, memory, ramp, tail):
        waves = np.maximum(1.0, self.full + tail * (np.ceil(self.full) - self.full))
        on_sms = (waves * (self.work / mainloop + tile)).min(axis=0)
        return ramp + np.maximum(on_sms, self.bytes / (self.bandwidth * memory))


def deepgemm():
    rows = measured("deepgemm_a6d97a1")["dense_and_contiguous"]
    ops = [gemm("", row["m"], row["n"], row["k"], "fp8", row["groups"]) for row in rows]
    return ops, np.array(
        [op.flops / row["tflops"] / 1e12 for op, row in zip(ops, rows, strict=True)]
    )


def vidur(gpu, tokens):
    """Return the FP16 GEMMs whose number of tokens satisfies `tokens`, and their seconds."""
    table = measured_csv(f"vidur_{gpu}_gemm")
    rows = [
        row
        for row in zip(*(table[key] for key in ("m", "n", "k", "us")), strict=True)
        if tokens(int(row[0]))
    ]
    ops = [gemm("", int(m), int(n), int(k), "bf16") for m, n, k, _ in rows]
    return ops, np.array([float(us) * 1e-6 for *_, us in rows])


def traced_wgrads():
    """Return the trace's weight gradients, without what `Processor` adds in a process and beside communication."""
    kernels = TRACED.kernels
    longer = kernels.wgrad["fp8"].sustained * kernels.overlap_slowdown.gemm
    ops = [wgrad("", row["m"], row["n"], row["k"], "fp8") for row in CHUNK["fp8_wgrad_us"]]
    return ops, np.array([np.mean(row["us"]) * 1e-6 / longer for row in CHUNK["fp8_wgrad_us"]])


def gridded(gpu, dtype):
    """Return the GEMMs of a grid whose sizes are all 1,024 and more, and their seconds."""
    found = grid(f"aic_gemm_{gpu}", dtype).seconds
    large = {shape: seconds for shape, seconds in found.items() if min(shape) >= 1024}
    return [gemm("", *shape, dtype) for shape in large], np.array(list(large.values()))


ALL = ("mainloop", "tile", "memory", "ramp", "tail")
START = {"mainloop": 0.6, "tile": 1e-6, "memory": 0.6, "ramp": 2e-6, "tail": 0.5}
LOWER = {"mainloop": 0.1, "tile": 0.0, "memory": 0.1, "ramp": 0.0, "tail": 0.0}
UPPER = {"mainloop": 1.0, "tile": 1e-5, "memory": 1.0, "ramp": 2e-5, "tail": 1.0}
BLOCKS = ("mainloop", "tile", "memory", "ramp")  # DeepGEMM leaves every tile on its SM: tail 1
CUBLAS = ("mainloop", "tile", "ramp", "tail")  # memory: of skinnier ones, see below
# name -> processor, its model, measured rows, the constants that were fitted to them
FITS = {
    "hopper gemm fp8": (HOPPER, HOPPER.kernels.gemm["fp8"], deepgemm, BLOCKS),
    "hopper wgrad fp8": (TRACED, TRACED.kernels.wgrad["fp8"], traced_wgrads, ("mainloop", "tile")),
}
for part, dtype in (
    (HOPPER, "bf16"),
    (HOPPER, "fp8_tensor"),
    (AMPERE, "bf16"),
    (B200, "bf16"),
    (B200, "fp8_tensor"),
):
    FITS[f"{part.kernels.name} gemm {dtype}"] = (
        part,
        part.kernels.gemm[dtype],
        partial(gridded, part.gpu.name, dtype),
        CUBLAS,
    )


def rms(errors):
    return float(np.sqrt(np.mean(np.square(errors))))


def shipped_errors(name):
    """Return (the rows' model, seconds, log errors of the shipped constants)."""
    part, model, rows, _ = FITS[name]
    ops, seconds = rows()
    model_here = Waves(part, ops, model)
    return (
        model_here,
        seconds,
        np.log(model_here.seconds(*(getattr(model, key) for key in ALL)) / seconds),
    )


@pytest.mark.parametrize("name", FITS)
def test_the_wave_model_here_is_the_one_that_the_simulator_uses(name):
    part, model, rows, _ = FITS[name]
    ops, _ = rows()
    alone = waves(part.gpu, model, part.peak(ops[0].dtype))
    sms = part.gpu.sms - part.reserved_sms
    simulated = [alone.seconds(op, sms) for op in ops]
    assert Waves(part, ops, model).seconds(*(getattr(model, key) for key in ALL)) == pytest.approx(
        simulated, rel=1e-9
    )


@pytest.mark.parametrize("name", FITS)
def test_no_other_constants_describe_the_measured_gemms_better(name):
    # Compared by residual, not constant by constant: tile, memory and ramp trade against each
    # other.
    waves, seconds, errors = shipped_errors(name)
    model, free = FITS[name][1], FITS[name][3]
    fixed = {key: getattr(model, key) for key in ALL}

    def residual(values):
        return np.log(waves.seconds(**(fixed | dict(zip(free, values, strict=True)))) / seconds)

    start, low, high = ([limit[key] for key in free] for limit in (START, LOWER, UPPER))
    refit = least_squares(residual, start, bounds=(low, high), x_scale=high, diff_step=1e-3)
    assert rms(errors) == pytest.approx(rms(refit.fun), rel=0.02), dict(
        zip(free, refit.x, strict=True)
    )
    assert model.mainloop == pytest.approx(refit.x[0], rel=0.02)


@pytest.mark.parametrize("name", FITS)
def test_the_source_states_rows_and_rms_of_the_fit(name):
    _, seconds, errors = shipped_errors(name)
    source = FITS[name][1].source
    said = re.search(r"the (\d+) .*rms ([\d.]+)%", source)
    assert said, source
    assert (int(said[1]), round(100 * rms(errors), 1)) == (len(seconds), float(said[2]))


@pytest.mark.parametrize(
    ("gpu", "part", "reached"),
    [
        ("h100", HOPPER, 0.80),
        ("a100", AMPERE, 0.72),
    ],
)
def test_gemms_of_64_tokens_reach_the_memory_share_of_the_table(gpu, part, reached):
    # 64 tokens x more than 60 MB of weights: nothing but reading the weights takes time.
    ops, seconds = vidur(gpu, lambda tokens: tokens == 64)
    share = [
        op.bytes / s / part.gpu.memory.bandwidth
        for op, s in zip(ops, seconds, strict=True)
        if op.bytes > 60e6
    ]
    assert np.median(share) == pytest.approx(reached, abs=0.01)
    assert part.kernels.gemm["bf16"].memory == pytest.approx(reached, rel=0.1)


@pytest.mark.parametrize(
    ("part", "dtype"),
    [(HOPPER, "bf16"), (HOPPER, "fp8_tensor"), (AMPERE, "bf16"), (B200, "bf16"), (B200, "mxfp8")],
)
def test_weight_gradients_of_cublas_take_the_forward_constants_as_their_source_says(part, dtype):
    assert part.kernels.gemm[dtype] == part.kernels.wgrad[dtype]


def test_fp8_medians_of_another_laboratory_follow_without_a_fit():
    # Medians of cuBLAS in a loop, 0.07 to 0.3 ms: they were this table's constants before the grid.
    rows = measured("fp8_tensor_gemm")["rows"]
    errors = []
    for row in rows:
        op = gemm("", row["m"], row["n"], row["k"], "fp8_tensor")
        errors.append(HOPPER.kernel(op, overlapped=False) * 1e6 / row["us"] - 1)
    assert len(errors) == 5
    assert np.mean(errors) == pytest.approx(-0.03, abs=0.03)
    assert max(map(abs, errors)) < 0.15


def test_gemms_of_8192_tokens_on_a100_follow_without_a_fit():
    # From another laboratory, twice as many tokens as any row of the fit: 3% on average, 7% at
    # most.
    rows = measured("training_kernels")["megatron_layer"]["gemms"]
    ops = [gemm("", row["m"], row["n"], row["k"], "bf16") for row in rows]
    rates = [op.flops / AMPERE.kernel(op, overlapped=False) / 1e12 for op in ops]
    errors = [rate / row["tflops"] - 1 for rate, row in zip(rates, rows, strict=True)]
    assert max(map(abs, errors)) < 0.08
    assert abs(np.mean(errors)) < 0.04


def test_batched_gemms_of_unfused_attention_are_not_fitted():
    # The scores write four times what they read; the wave model, which knows only single problems,
    # has them a fifth faster than the one published row.
    scores, values = measured("training_kernels")["megatron_layer"]["batched_gemms"]
    rate = {}
    for row in (scores, values):
        op = gemm(row["name"], row["m"], row["n"], row["k"], "bf16", row["groups"])
        rate[row["name"]] = op.flops / AMPERE.kernel(op, overlapped=False) / 1e12 / row["tflops"]
    assert rate == pytest.approx(
        {"attention scores": 1.23, "attention over values": 1.09}, abs=0.02
    )


def test_gemms_in_the_trace_take_longer_by_sustained_and_overlap():
    rows = [row for row in CHUNK["fp8_gemm_us"] if not row["name"].endswith("again")]
    ops = [gemm(row["name"], row["m"], row["n"], row["k"], "fp8", row["groups"]) for row in rows]
    sustained = TRACED.kernels.gemm["fp8"].sustained
    model = sum(TRACED.kernel(op, overlapped=False) for op in ops) / sustained
    ratio = sum(np.mean(row["us"]) for row in rows) * 1e-6 / model
    assert len(rows) == 18
    assert sustained == TRACED.kernels.wgrad["fp8"].sustained
    assert sustained * TRACED.kernels.overlap_slowdown.gemm == pytest.approx(ratio, rel=0.005)


def test_two_streams_of_expert_weight_gradients_take_as_long_as_one():
    # They share the SMs, so from the first start to the last end they take the sum of what each
    # takes alone; the casts of gate+up stand between the two blocks.
    spans = [
        max(end for _, end in layer[name]) - layer[name][0][0]
        for layer in CHUNK["expert_wgrad_us"]
        for name in ("down", "gate+up")
    ]
    routed = [
        op for op in (*LAYER.mlp_w, *LAYER.side_w) if op.kind == "wgrad" and op.shape.k == 8192
    ]
    assert len(routed) == 8
    assert sum(TRACED.kernel(op, overlapped=True) for op in routed) == pytest.approx(
        sum(spans) / 4 * 1e-6, rel=0.03
    )

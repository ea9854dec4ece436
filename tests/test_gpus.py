"""Every GPU that is shipped: its data file, its kernels, a step on it; and what its relatives and power limits say."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from calibration import measured, processor
from scipy.optimize import least_squares

from simulator.compute.gemm import Clock, burst
from simulator.compute.grid import grid
from simulator.compute.grouped import Share, grouped_seconds
from simulator.compute.power import power_law, stretch
from simulator.compute.waves import waves
from simulator.errors import InputError
from simulator.hardware import GpuConfig, KernelConfig
from simulator.inputs import ROOT, data, data_names, validate
from simulator.ops.op import Op, Shape, gemm
from simulator.scenario import load
from simulator.whatif import simulate

GPUS = data_names("gpus")
every_gpu = pytest.mark.parametrize("name", GPUS)


def sheet(name):
    return validate(data("gpus", name), GpuConfig)


def seconds(part, m, n, k, dtype="bf16"):
    return part.kernel(gemm("", m, n, k, dtype), overlapped=False)


@every_gpu
def test_every_figure_of_a_gpu_has_a_source(name):
    gpu = sheet(name)
    assert gpu.name == name
    assert {"sms", "memory", "peak", "power", "host_link"} <= set(gpu.sources)
    assert ("relative" in gpu.sources) == bool(gpu.relative)
    assert validate(data("kernels", gpu.kernels), KernelConfig).name == gpu.kernels


@every_gpu
def test_a_relative_was_measured_and_shares_the_kernel_table(name):
    gpu = sheet(name)
    if not gpu.relative:
        return
    known = sheet(gpu.relative)
    assert known.kernels == gpu.kernels and not known.relative
    table = validate(data("kernels", gpu.kernels), KernelConfig)
    assert known.name in table.gemm["bf16"].measured
    assert name not in table.gemm["bf16"].measured


@every_gpu
@pytest.mark.slow
def test_a_dense_step_runs_on_every_gpu(name):
    one = simulate(
        load(
            "a100-node",
            "llama-3.1-8b",
            {
                "topology.gpu": name,
                "training.global_batch_size": 8,
                "training.seq_length": 2048,
                "layout.cp": 1,
                "layout.tp": 2,
                "layout.zero": 3,
            },
        )
    )
    peak = sheet(name).peak["bf16"]
    flops = one.quantities()["tflops_per_gpu"] * 1e12
    assert 0.1 * peak < flops < peak
    assert all(bound.seconds <= one.step_time for bound in one.bounds)


@every_gpu
@pytest.mark.slow
def test_a_large_gemm_comes_near_the_peak_of_every_gpu_and_never_beyond(name):
    part = processor(name)
    dtypes = [dtype for dtype in part.kernels.gemm if dtype != "nvfp4"]
    for dtype in dtypes:
        for in_loop in (part, replace(part, sustained=False)):
            found = 2.0 * 8192**3 / seconds(in_loop, 8192, 8192, 8192, dtype)
            assert 0.35 * part.peak(dtype) < found < part.peak(dtype), dtype


def test_a_grace_feeds_its_gpus_faster_than_pcie():
    # NVLink-C2C: 900 GB/s in both directions together, shared by the two GPUs of a superchip.
    assert sheet("gb200").host_link == sheet("gb300").host_link == 225e9
    assert sheet("h100").host_link == 64e9


# Relatives


def test_a_relative_on_the_same_hbm_at_the_same_limit_takes_the_same_time():
    # H800 and A800 are H100 and A100 with another NVLink: the same to the last bit.
    for name, known in (("h800", "h100"), ("a800", "a100")):
        assert seconds(processor(name), 8192, 4096, 4096) == seconds(
            processor(known), 8192, 4096, 4096
        )
    # 40 GB of HBM: the same on SMs, 2,039 / 1,555 as long where HBM binds and nothing fills.
    assert seconds(processor("a100-40gb"), 8192, 8192, 8192) == seconds(
        processor("a100"), 8192, 8192, 8192
    )
    slower = seconds(processor("a100-40gb"), 128, 51200, 16384) / seconds(
        processor("a100"), 128, 51200, 16384
    )
    assert 1.25 < slower < 2.039 / 1.555


def test_a_gpu_with_other_sms_takes_the_wave_model_at_the_clock_that_its_power_allows():
    # H100 PCIe: 350 W for 114 SMs, H100 SXM 700 W for 132.
    part = processor("h100-pcie")
    model = part.kernels.gemm["bf16"]
    per_sm, known = 350 / 114, 700 / 132
    idle = 0.279 * known
    clock = ((per_sm - idle) / (known - idle)) ** (1 / 2.005)
    own_peak = (756.5 / 114) / (989.4 / 132)
    assert stretch(part.gpu, 0.0) == pytest.approx(own_peak / clock, rel=1e-12)
    # 8,192^3 takes 1.56 ms on H100.
    length = grid("aic_gemm_h100", "bf16").seconds[8192, 8192, 8192]
    slower = burst(model.measured["h100"].burst, length) * own_peak / clock
    on_sms = waves(part.gpu, model, 756.5e12).seconds(
        gemm("", 8192, 8192, 8192, "bf16"), 114, slower
    )
    assert seconds(part, 8192, 8192, 8192) == pytest.approx(on_sms, rel=1e-9)
    assert not part.measured(gemm("", 8192, 8192, 8192, "bf16"))


def h20(grouped):
    text = (ROOT / "data" / "measured" / "h20_gemm.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    for row in rows:
        groups, m, n, k = (int(row[key]) for key in ("groups", "m", "n", "k"))
        if (groups > 1) == grouped:
            yield gemm("", m, n, k, "fp8", groups), float(row["us"]) * 1e-6


@pytest.mark.parametrize(("grouped", "count", "rms"), [(False, 75, 0.043), (True, 40, 0.055)])
def test_h20s_share_of_its_peak_is_the_best_one_for_what_was_measured(grouped, count, rms):
    part = processor("h20")
    tables = part.kernels.grouped if grouped else part.kernels.gemm
    rows = list(h20(grouped))
    assert len(rows) == count

    def error(share):
        model = tables["fp8"].model_copy(update={"mainloop_of": {"h20": share}})
        on_gpu = waves(part.gpu, model, 296e12) if not grouped else None
        off = []
        for op, us in rows:
            if grouped:
                found = grouped_seconds(
                    op._replace(uneven=True), part.gpu, model, 296e12, Share(78)
                )
            else:
                found = on_gpu.seconds(op, 78)
            off.append(math.log(found / us))
        return math.sqrt(np.mean(np.square(off)))

    best = tables["fp8"].mainloop_of["h20"]
    assert error(best) == pytest.approx(rms, abs=0.001)
    assert error(best) < error(best - 0.03)
    assert error(best) < error(best + 0.03) or best + 0.03 > 1


def test_h20s_attention_is_held_up_by_its_tensor_cores_alone():
    # H100's SMs reach 529 TFLOP/s at 8,192 tokens of 128: 78 of 132 would do 313, tensor cores do
    # 148. What reaches 0.948 of them: 16 heads 256 wide on H20, 15.68 ms for 16,384 tokens.
    part = processor("h20")
    flops = 4 * 64 * 128 * 8192**2 / 2
    op = Op("", "attention", flops, Shape(64, 8192, 8192, 128), seq_length=8192)
    rate = flops / part.kernel(op, overlapped=False)
    assert rate == pytest.approx(0.948 * 148e12, rel=0.05)
    reached = 4 * 16 * 256 * 16384**2 / 2 / 15678.989e-6
    assert reached / 148e12 == pytest.approx(0.948, abs=0.001)


def test_a_relatives_attention_runs_at_the_clock_that_the_power_of_an_sm_allows():
    # H100 PCIe: 114 of 132 SMs at the clock of the test above, whatever its datasheet's clock is.
    per_sm, known = 350 / 114, 700 / 132
    idle = 0.279 * known
    clock = ((per_sm - idle) / (known - idle)) ** (1 / 2.005)
    assert clock == pytest.approx(0.646, abs=0.001)
    flops = 4 * 64 * 128 * 8192**2 / 2
    op = Op("", "attention", flops, Shape(64, 8192, 8192, 128), seq_length=8192)
    longer = processor("h100-pcie").kernel(op, overlapped=False)
    longer /= processor("h100").kernel(op, overlapped=False)
    # 64 matrices fill either number of SMs alike, within a percent.
    assert longer == pytest.approx(132 / 114 / clock, rel=0.01)
    # The same law under a lower limit: at 500 W H100 keeps 0.7775 of its clock.
    capped = replace(processor("h100"), power_limit=500.0).kernel(op, overlapped=False)
    assert capped / processor("h100").kernel(op, overlapped=False) == pytest.approx(
        1 / 0.7775, rel=0.001
    )


# Power limits


def limits():
    """Return the watts, the reference watts and the rate that is left of every measured pair."""
    rows = []
    for pair in measured("power_limits")["pairs"]:
        rates = np.array(pair["tflops"]) / np.array(pair["reference_tflops"])
        rows.append((pair["watts"], pair["reference_watts"], np.exp(np.log(rates).mean())))
    return rows


def test_the_power_law_is_the_best_one_for_the_measured_pairs():
    def off(values):
        idle, exponent = values
        return [
            math.log(((watts - idle * full) / (full - idle * full)) ** (1 / exponent) / rate)
            for watts, full, rate in limits()
        ]

    best = least_squares(off, [0.2, 1.5], bounds=([0, 1], [0.34, 3]))
    law = power_law()
    assert best.x == pytest.approx([law.idle, law.exponent], abs=0.005)
    assert math.sqrt(np.mean(np.square(best.fun))) == pytest.approx(0.050, abs=0.001)


def test_the_pair_of_h200s_is_what_its_grid_says():
    # The twelve GEMMs of a layer, 15,872 tokens: 19.17 TFLOP in 31.968 ms at 600 W.
    table = measured("fp8_training")["transformer_engine"]
    part, rows = processor("h200"), table["rows"]
    ops = []
    for n, k in table["layers"]:
        ops += [gemm("", *shape, "bf16") for shape in ((rows, n, k), (rows, k, n), (n, k, rows))]
    flops = sum(op.flops for op in ops)
    found = flops / sum(part.kernel(op, overlapped=False) for op in ops)
    (pair,) = [row for row in measured("power_limits")["pairs"] if "H200" in row["name"]]
    assert found / 1e12 == pytest.approx(pair["reference_tflops"][0], abs=0.1)
    slowest = sum(table["cast_before"][way]["bf16"] for way in ("forward", "dgrad", "wgrad"))
    slowest *= 1e-3
    assert flops / slowest / 1e12 == pytest.approx(pair["tflops"][0], abs=0.1)


def test_a_limit_slows_what_the_sms_bind_and_nothing_else():
    part = processor("h100")
    capped = replace(part, power_limit=500.0)
    # (500 - 0.279 x 700) / (700 - 0.279 x 700) = 0.604; its root of 2.005: 0.7775.
    slower = seconds(capped, 8192, 8192, 8192) / seconds(part, 8192, 8192, 8192)
    assert slower == pytest.approx(1 / 0.7775, rel=0.01)
    memory_bound = Op("", "optimizer", bytes=1e9)
    assert capped.kernel(memory_bound, overlapped=False) == part.kernel(
        memory_bound, overlapped=False
    )
    assert seconds(capped, 128, 51200, 8192) < 1.1 * seconds(part, 128, 51200, 8192)


@every_gpu
def test_the_limit_that_a_gpu_comes_with_changes_nothing_by_a_bit(name):
    part = processor(name)
    gpu = part.gpu
    assert stretch(gpu, gpu.power) == pytest.approx(stretch(gpu, 0.0), rel=1e-12)
    whole = seconds(replace(part, power_limit=gpu.power), 4096, 4096, 4096)
    assert whole == seconds(part, 4096, 4096, 4096)


def test_no_clock_is_faster_than_without_a_limit():
    assert Clock(sustained=True, stretch=0.5).slower(1.09) == 1.0
    assert Clock(sustained=False, stretch=2.0).slower(1.09) == 1.0
    assert Clock(sustained=True, stretch=1.5).slower(1.09) == pytest.approx(1.635)


@pytest.mark.slow
def test_a_step_at_a_lower_limit_takes_longer_and_keeps_its_bounds():
    times = []
    for watts in ("700 W", "600 W", "500 W", "400 W"):
        sets = {"topology.node.power_limit": watts, "training.global_batch_size": 8}
        one = simulate(load("h100-node", "llama-3.1-8b", sets | {"layout.cp": 1}))
        assert all(bound.seconds <= one.step_time for bound in one.bounds)
        times.append(one.step_time)
    assert times == sorted(times)
    plain = simulate(
        load("h100-node", "llama-3.1-8b", {"training.global_batch_size": 8, "layout.cp": 1})
    )
    assert times[0] == plain.step_time
    assert 1.0 < times[2] / times[0] < 1 / 0.7775


@pytest.mark.parametrize(
    ("watts", "rule"), [("800 W", "exceeds the limit that h100 comes with"), ("150 W", "leaves no")]
)
def test_a_limit_that_does_nothing_or_leaves_nothing_is_refused(watts, rule):
    with pytest.raises(InputError, match=rule) as caught:
        load("h100-node", "llama-3.1-8b", {"topology.node.power_limit": watts})
    assert caught.value.key == "node.power_limit"
    assert caught.value.file == "--set"


def test_a_limit_that_a_gpu_of_slow_tensor_cores_does_not_meet_is_refused():
    # An SM of H20 has 0.253 of the tensor cores of H100's, which take 78 (1.48 + 0.253^2.005 x 3.82)
    # = 134 W at H100's clock; 115 W are drawn at any.
    sets = {"topology.gpu": "h20", "topology.node.power_limit": "300 W"}
    with pytest.raises(InputError, match="not known to slow h20") as caught:
        load("h100-node", "llama-3.1-8b", sets)
    assert caught.value.remedy == "Write more than 115 W and at most 134 W."


def test_the_name_of_a_gpu_is_meant_whatever_its_case_is():
    with pytest.raises(InputError, match="Did you mean 'gb300'"):
        load("h100-node", "llama-3.1-8b", {"topology.gpu": "GB300"})


def test_the_watts_of_a_clock_are_those_that_allow_it():
    law, known = power_law(), sheet("h100")
    assert law.watts(1.0, known) == pytest.approx(700 / 132)
    assert law.clock(law.watts(0.5, known), known) == pytest.approx(0.5)


def test_no_clock_is_left_below_what_is_drawn_at_any():
    known = sheet("h100")
    assert power_law().drawn(known) == pytest.approx(0.279 * 700 / 132)
    with pytest.raises(InputError, match="leaves nothing"):
        power_law().clock(0.279 * 700 / 132, known)

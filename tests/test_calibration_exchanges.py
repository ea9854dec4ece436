"""Calibration of dispatch and combine: what SMs copy, time to fill and links, from kernels alone."""

import exchange_fits as fits
import numpy as np
import pytest
from calibration import AMPERE, HOPPER, processor

from simulator import inputs
from simulator.residuals.exchanges import Run, exchanges, timed

BLACKWELL = processor("b200")
CLASSES = exchanges()
NAMES = [row.name for row in CLASSES]
LIMITS = {
    # class -> |bias|, rms and worst that it may have
    "DeepEP dispatch, H100, 1 node": (0.01, 0.055, 0.12),
    "DeepEP dispatch, H100, 2 nodes": (0.055, 0.115, 0.32),
    "DeepEP dispatch, H100, 4 nodes": (0.03, 0.04, 0.08),
    "DeepEP combine, H100, 1 node": (0.015, 0.045, 0.12),
    "DeepEP combine, H100, 2 nodes": (0.01, 0.03, 0.06),
    "DeepEP combine, H100, 4 nodes": (0.03, 0.04, 0.08),
    "HybridEP dispatch in FP8, H100": (0.01, 0.03, 0.05),
    "HybridEP dispatch in BF16, H100": (0.01, 0.045, 0.07),
    "HybridEP combine, H100": (0.01, 0.05, 0.08),
    "DeepEP V1 dispatch in FP8, 8 B200": (0.01, 0.04, 0.06),
    "DeepEP V1 dispatch in BF16, 8 B200": (0.03, 0.045, 0.075),
    "DeepEP V1 combine, 8 B200": (0.01, 0.035, 0.06),
}


def kernel(part, kind):
    return part.kernels.communication[kind]


# Constants


@pytest.mark.parametrize("op", ["dispatch", "combine"])
@pytest.mark.slow
def test_deepep_on_hopper(op):
    # Over SMs on H100, and the README's rates on H800 less the time to fill.
    found, model = fits.deepep(op), kernel(HOPPER, op)
    assert model.nvlink == pytest.approx(found.nvlink, abs=0.0001)
    assert model.nic == pytest.approx(found.nic, abs=0.0001)
    for number, part in enumerate((model.copies.inside, model.copies.across)):
        assert part.sm == pytest.approx(found.sm[number], rel=0.0005)
        assert part.overhead == pytest.approx(found.overhead, rel=0.0005)
        assert part.fill == pytest.approx(found.fill[number], rel=0.005)
    assert kernel(HOPPER, "cached_dispatch").copies == kernel(HOPPER, "dispatch").copies


def test_a_token_costs_sms_the_same_for_each_node_and_each_gpu():
    # 4 SMs, 8,192 tokens of 7,168: on 2 nodes 1.99 nodes and 6.45 GPUs take 890 ns a token, on 4
    # nodes 3.60 and 7.17 take 1,140. Two equations: x a node and y a GPU, SM-ns.
    rows = {
        int(row["nodes"]): float(row["dispatch_us"]) * 1e3 / 8192 * 4
        for row in inputs.table("deepep_normal_h100")
        if (row["hidden"], row["top_k"], row["sms"], row["tokens"]) == ("7168", "8", "4", "8192")
    }
    matrix = np.array([[1.99, 6.45], [3.60, 7.17]])
    node, gpu = np.linalg.solve(matrix, [rows[2], rows[4]])
    assert node == pytest.approx(gpu, rel=0.05)


@pytest.mark.parametrize("op", ["dispatch", "combine"])
@pytest.mark.slow
def test_hybrid_ep(op):
    for part in (HOPPER, BLACKWELL):
        model = kernel(part, f"hybrid_{op}")
        nic, sm, overhead, fill = fits.hybrid_across(op)
        across = model.copies.across
        assert model.nic == pytest.approx(nic, abs=0.0001)
        assert across.sm == pytest.approx(sm, rel=0.0005)
        assert across.overhead == pytest.approx(overhead, rel=0.0005)
        assert across.fill == pytest.approx(fill, rel=0.005)
        nvlink, sm, overhead = fits.hybrid_inside(op)
        inside = model.copies.inside
        assert model.nvlink == pytest.approx(nvlink, abs=0.0001)
        assert inside.sm == pytest.approx(sm, rel=0.001)
        assert inside.overhead == pytest.approx(overhead, rel=0.001)


@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_what_precedes_hybrid_ep_is_its_call_less_its_kernel_and_its_copy(op):
    between, within = fits.hybrid_setups(op, "hopper"), fits.hybrid_setups(op, "blackwell")
    name = f"hybrid_{op}"
    for part in (HOPPER, BLACKWELL):
        assert kernel(part, name).setups.across == pytest.approx(between, abs=0.05e-6)
        assert kernel(part, name).setup == 0.0
    assert kernel(BLACKWELL, name).setups.inside == pytest.approx(within, abs=0.05e-6)
    # Inside eight H100 nothing was published.
    assert kernel(HOPPER, name).setups.inside == pytest.approx({8: within[8]}, abs=0.05e-6)


def test_a_call_of_hybrid_ep_takes_as_much_longer_in_either_format():
    # 16 H100, 8 SMs, bytes of 1.99 nodes and 4,096 tokens over either bandwidth: 372 us more than
    # the kernel in FP8, 503 in BF16. Copying what 6.60 GPUs' worth of tokens bring out of the
    # buffer at 3.14 TB/s takes 127 and 247 us of it: what is left is 245 and 256.
    left = []
    for width, api, alone, token in ((1.03125, 44.87, 62.0, 7392), (2, 57.74, 76.8, 14336)):
        sent = 1.99 * 4096 * token
        copied = 2 * 6.60 * 4096 * 7168 * width / 3.14e12
        left.append((sent / api - sent / alone) * 1e-9 - copied)
    assert left[0] == pytest.approx(left[1], rel=0.06)
    assert kernel(HOPPER, "hybrid_dispatch").setups.across[16] == pytest.approx(left[0], rel=0.04)


@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_deepep_on_blackwell(op):
    model = kernel(BLACKWELL, op)
    sm, overhead, fill = fits.deepep_on_blackwell(op, model.nvlink)
    assert model.copies.inside.sm == pytest.approx(sm, rel=0.001)
    assert model.copies.inside.overhead == pytest.approx(overhead, rel=0.001)
    assert model.copies.inside.fill == pytest.approx(fill, rel=0.005)
    assert model.copies.across == kernel(HOPPER, op).copies.across  # not measured


@pytest.mark.parametrize("part", [AMPERE, HOPPER, BLACKWELL], ids=["a100", "h100", "b200"])
def test_an_all_to_all_crosses_nics_as_every_send(part):
    model = kernel(part, "all_to_all")
    # 46 to 49 GB/s of 50 (nccl-tests issues 130, 267, 290).
    assert (model.nic, model.nic_overhead) == (
        kernel(part, "send_recv").nic,
        kernel(part, "send_recv").nic_overhead,
    )


# What they reach


@pytest.mark.parametrize("start", LIMITS)
def test_every_class_is_described(start):
    (row,) = (row for row in CLASSES if row.name.startswith(start))
    bias, rms, worst = LIMITS[start]
    assert abs(row.bias) <= bias
    assert row.rms <= rms
    assert abs(row.worst) <= worst


def test_only_the_twelve_sms_of_two_nodes_are_missed_by_more_than_12_percent():
    # A disturbed run: it takes 1.8 times as long as 16 SMs, and its notifications five times.
    far = 0
    for row in CLASSES:
        if row.use == "fitted" and "4 to 24 SMs" in row.name:
            far += int((np.abs(row.errors) > 0.12).sum())
    assert far == 9


def test_measured_figures_are_met_by_name():
    # One node, 4,096 tokens of 7,168 in FP8: 2,068 us with 4 SMs, 491 with 20; with 4 SMs and
    # hidden 4,096 1,411.
    inside = fits.Setting(
        "h100", 1, 7168, 8, 256, "deepep", fits.CoflowKind.DISPATCH, fits.WIDTH["dispatch"]
    )
    small = inside._replace(hidden=4096, experts=128)
    for setting, sms, us in ((inside, 4, 2068), (inside, 20, 491), (small, 4, 1411)):
        assert took(setting, sms) * 1e6 == pytest.approx(us, rel=0.12)


def took(setting, sms):

    return timed(setting, Run(4096.0, sms)).seconds


def test_names_are_told_apart():
    assert len(set(NAMES)) == len(NAMES)

"""How well the kernel tables describe what was measured: the figures of results/kernels.md."""

import numpy as np
import pytest

from simulator.plot import kernels
from simulator.residuals import residuals
from simulator.residuals.rows import Compared

LIMITS = {
    # group -> |bias| and rms that no fitted class may exceed
    "GEMM": (0.02, 0.12),
    "grouped GEMM": (0.02, 0.12),
    "grid of GEMMs": (0.02, 0.10),
    "memory-bound": (0.02, 0.05),
    "attention": (0.035, 0.09),
    "link": (0.05, 0.09),
}
SCATTERED = {
    # class -> the same, where one share stands for sizes that differ, or one model for kernels that
    # a library chooses unevenly; a step takes their grids, not the model alone
    "l40s BF16, wave model alone": (0.02, 0.11),
    "l40s FP8, per tensor, wave model alone": (0.02, 0.11),
    "b200 NVFP4, wave model alone": (0.02, 0.165),
    "h200 compiled_norm, torch_compile, forward": (0.005, 0.15),
    "h200 compiled_norm, torch_compile, backward": (0.005, 0.12),
    "gb200 fused_norm, cudnn, forward": (0.02, 0.065),
    "gb300 fused_norm, cudnn, forward": (0.02, 0.065),
    "gb200 fused_norm, cudnn, backward": (0.02, 0.095),
    "gb300 fused_norm, cudnn, backward": (0.02, 0.095),
    "gb200 compiled_norm, torch_compile, forward": (0.03, 0.11),
    "gb300 compiled_norm, torch_compile, forward": (0.03, 0.11),
    "gb200 compiled_norm, torch_compile, backward": (0.03, 0.12),
    "gb300 compiled_norm, torch_compile, backward": (0.03, 0.12),
    # Two of the smallest on 8 H100 took twice as long as on 4.
    "h100 all-to-all, 2 to 8 GPUs, 16 KiB to 32 MB": (0.03, 0.11),
}


def test_errors_are_signed_and_relative():
    # 10 us computed as 11 and 20 us as 16: +10% and -20%, -5% on average, the second is the worst.
    row = Compared(name="", measured=np.array([10e-6, 20e-6]), computed=np.array([11e-6, 16e-6]))
    assert (row.bias, row.worst) == pytest.approx((-0.05, -0.2))
    assert row.rms == pytest.approx(np.sqrt((0.1**2 + 0.2**2) / 2))


@pytest.fixture(scope="module")
def classes():
    """Return all classes of measurements: seconds, which nobody spends who only collects tests."""
    return residuals()


def offends(row):
    """Tell whether a class is described with more bias or scatter than its group may have."""
    bias, rms = SCATTERED.get(f"{row.gpu} {row.name}", LIMITS[row.group])
    return abs(row.bias) > bias or row.rms > rms


@pytest.mark.slow
def test_every_fitted_class_is_described_without_bias_and_within_its_scatter(classes):
    offenders = {
        f"{row.gpu} {row.name}": (row.bias, row.rms)
        for row in classes
        if row.fitted and offends(row)
    }
    assert not offenders


@pytest.mark.slow
def test_every_group_has_rows_of_both_generations_where_both_were_measured(classes):
    assert {row.group for row in classes} == set(LIMITS)
    for group in LIMITS:
        assert {"a100", "h100"} <= {row.gpu for row in classes if row.group == group}


@pytest.mark.slow
def test_the_figure_is_the_same_twice(classes, tmp_path):
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        kernels(classes, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()

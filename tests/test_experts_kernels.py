"""Dispatch and combine kernels against DeepEP's published table, predicted from its rows of 8 and 64 ranks.

Source: github deepseek-ai/DeepEP, docs/legacy.md. Misses stand beside the prediction; nothing but 8 and 64 ranks is
fitted. Normal kernels at 128 ranks were not published.
"""

import numpy as np
import pytest

from simulator.experts import EXPECTED, Copies, Rates, kernel_time
from simulator.experts.kernels import (
    benchmark_visits,
    deepep_bytes,
    low_latency_rates,
    low_latency_visits,
    normal_rates,
)
from simulator.inputs import ROOT, data, read, validate
from simulator.model import ModelConfig

V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)
ROWS = {row["ep"]: row for row in data("measured", "deepep").data["normal_kernels"]}
TOKEN = {"dispatch": 7168 + 7168 / 128 * 4, "combine": 7168 * 2.0}  # FP8 with FP32 scales; BF16
MESSAGE = {"dispatch": TOKEN["dispatch"] + 16, "combine": TOKEN["combine"]}  # low latency: with its index
LATENCY = {"dispatch": (77e-6, 173e-6), "combine": (114e-6, 314e-6)}  # of 8 and 64 ranks


def normal(kind, ranks):
    """Return (time, GB/s as DeepEP counts) of 4,096 tokens per GPU."""
    published = (ROWS[8][f"{kind}_gb_s"] * 1e9, ROWS[64][f"{kind}_gb_s"] * 1e9)
    rates = normal_rates((benchmark_visits(V3, 8, 8), benchmark_visits(V3, 64, 8)), published)
    visits, size = benchmark_visits(V3, ranks, 8), 4096 * TOKEN[kind]
    time = kernel_time(EXPECTED["hierarchical"](visits, size), rates)
    return time, deepep_bytes(visits, size) / time.seconds / 1e9


def low_latency(kind, ranks):
    """Return (time, GB/s as DeepEP counts) of 128 tokens per GPU."""
    nvlink = ROWS[8][f"{kind}_gb_s"] * 1e9 * 7 / 8
    size = 128 * MESSAGE[kind]
    known = (low_latency_visits(V3, 8, 8), low_latency_visits(V3, 64, 8))
    visits = low_latency_visits(V3, ranks, 8)
    time = kernel_time(EXPECTED["low_latency"](visits, size), low_latency_rates(known, LATENCY[kind], size, nvlink))
    return time, deepep_bytes(visits, size, "low_latency") / time.seconds / 1e9


# (kind, ranks, published GB/s, miss of the prediction)
NORMAL = [
    ("dispatch", 8, 153, 0.0),
    ("dispatch", 16, 43, +0.086),
    ("dispatch", 32, 58, +0.026),
    ("dispatch", 64, 51, 0.0),
    ("combine", 8, 158, 0.0),
    ("combine", 16, 43, +0.121),
    ("combine", 32, 57, +0.023),
    ("combine", 64, 50, 0.0),
]
# (kind, ranks, published us, published GB/s, miss of the predicted time)
LOW_LATENCY = [
    ("dispatch", 8, 77, 98, 0.0),
    ("dispatch", 16, 118, 63, -0.063),
    ("dispatch", 32, 155, 48, -0.018),
    ("dispatch", 64, 173, 43, 0.0),
    ("dispatch", 128, 192, 39, -0.045),
    ("dispatch", 256, 194, 39, -0.028),
    ("combine", 8, 114, 127, 0.0),
    ("combine", 16, 195, 74, -0.033),
    ("combine", 32, 273, 53, -0.003),
    ("combine", 64, 314, 46, 0.0),
    ("combine", 128, 369, 39, -0.092),
    ("combine", 256, 360, 40, -0.041),
]


@pytest.mark.parametrize(("kind", "ranks", "published", "miss"), NORMAL)
def test_normal_kernels_come_within_13_percent_of_the_published_bandwidth(kind, ranks, published, miss):
    # At 16 ranks NVLink binds; the kernel that forwards from the NIC reaches less there than the one within a node.
    found = normal(kind, ranks)[1]
    assert found == pytest.approx(published, rel=0.13)
    assert found / published - 1 == pytest.approx(miss, abs=0.005)


@pytest.mark.parametrize(("kind", "ranks", "seconds", "published", "miss"), LOW_LATENCY)
def test_low_latency_kernels_come_within_10_percent_of_the_published_time(kind, ranks, seconds, published, miss):
    time, bandwidth = low_latency(kind, ranks)
    assert time.seconds == pytest.approx(seconds * 1e-6, rel=0.10)
    assert time.seconds / (seconds * 1e-6) - 1 == pytest.approx(miss, abs=0.005)
    assert bandwidth == pytest.approx(published, rel=0.13)


@pytest.mark.parametrize("kind", TOKEN)
def test_which_link_binds_changes_with_the_number_of_nodes(kind):
    # NVLink within a node and on two (6.5 GPUs per token, 7/8 of them, against one NIC copy at a third of the rate).
    assert [normal(kind, ranks)[0].binds for ranks in (8, 16, 32, 64, 128)] == ["nvlink", "nvlink", "nic", "nic", "nic"]
    assert [low_latency(kind, ranks)[0].binds for ranks in (8, 16, 64)] == ["nvlink", "nic", "nic"]


def test_at_128_ranks_15_of_16_cross_instead_of_7_of_8():
    # 51 GB/s x 7/8 on the wire at 64 ranks; 15/16 of 4 nodes at 128: 51 x (7/8) / (15/16) = 47.6.
    assert normal("dispatch", 128)[1] == pytest.approx(47.6, abs=0.05)
    assert normal("dispatch", 128)[0].seconds == pytest.approx(2.54e-3, rel=0.005)


@pytest.mark.parametrize("kind", TOKEN)
def test_flat_kernels_pay_for_every_gpu_on_the_nic(kind):
    visits = benchmark_visits(V3, 64, 8)
    rates = Rates(44.6e9, 133.9e9)
    flat, grouped = (kernel_time(EXPECTED[way](visits, 4096 * TOKEN[kind]), rates) for way in ("flat", "hierarchical"))
    # 7.48 GPUs of which 56/64 are on other nodes, against 3.98 nodes of which 7/8 are.
    assert flat.seconds / grouped.seconds == pytest.approx(visits.gpus.sum() / visits.nodes.sum(), rel=1e-6)


def test_a_kernel_ends_with_its_busiest_link():
    # 3 and 5 B on NICs at 1 B/s, 12 B on NVLink at 2 B/s, 1 s before.
    nic, nvlink = np.zeros((2, 2)), np.zeros((2, 2))
    nic[0, 1], nic[1, 0], nvlink[0, 1] = 3.0, 5.0, 12.0
    time = kernel_time(Copies(nic, nvlink), Rates(1.0, 2.0, 1.0))
    assert (time.seconds, time.binds) == (7.0, "nvlink")
    assert kernel_time(Copies(nic, nvlink), Rates(1.0, 4.0)).binds == "nic"


def test_unlike_gpus_wait_for_the_busiest():
    # The same bytes in total, twice as many into one GPU.
    nic = np.array([[0.0, 2.0], [2.0, 0.0]])
    skewed = np.array([[0.0, 4.0], [0.0, 0.0]])
    none, rates = np.zeros((2, 2)), Rates(1.0, 1.0)
    assert kernel_time(Copies(skewed, none), rates).seconds == 2 * kernel_time(Copies(nic, none), rates).seconds


def test_rates_are_those_of_the_shipped_kernel_table():
    # 51 x 7/8 of 50 GB/s and 153 x 7/8 of 200 GB/s.
    table = data("kernels", "hopper").data["communication"]["dispatch"]
    rates = normal_rates((benchmark_visits(V3, 8, 8), benchmark_visits(V3, 64, 8)), (153e9, 51e9))
    assert rates.nic / 50e9 == pytest.approx(table["nic"], abs=0.0005)
    assert rates.nvlink / 200e9 == pytest.approx(table["nvlink"], abs=0.0005)

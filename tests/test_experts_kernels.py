"""Dispatch and combine kernels against DeepEP's published table, predicted from its rows of 8 and 64 ranks.

Source: github deepseek-ai/DeepEP, docs/legacy.md. Misses stand beside the prediction; nothing but 8
and 64 ranks is fitted. Normal kernels at 128 ranks were not published.
"""

import numpy as np
import pytest

from simulator.collectives import (
    DISPATCHERS,
    CoflowKind,
    Round,
    Rounds,
    Timed,
    cost,
    demand,
    exchange_row,
    straight,
    without_forwarding,
)
from simulator.experts import WAYS, Copies, Rates, kernel_time
from simulator.experts.kernels import (
    Known,
    LowLatencyKernels,
    benchmark_visits,
    deepep_bytes,
    free_routing,
    low_latency_rates,
    low_latency_visits,
    normal_rates,
)
from simulator.inputs import ROOT, data, find, read, validate
from simulator.model import ModelConfig
from simulator.topology import TopologyConfig, network

V3 = validate(read(ROOT.parent / "workloads" / "models" / "deepseek-v3.json"), ModelConfig)
ROWS = {row["ep"]: row for row in data("measured", "deepep").data["normal_kernels"]}
TOKEN = {"dispatch": 7168 + 7168 / 128 * 4, "combine": 7168 * 2.0}  # FP8 with FP32 scales; BF16
MESSAGE = {
    "dispatch": TOKEN["dispatch"] + 16,
    "combine": TOKEN["combine"],
}  # low latency: with its index
MEASURED = data("measured", "deepep").data
LATENCY = {
    kind: tuple(row[f"{kind}_us"] * 1e-6 for row in MEASURED["low_latency"]) for kind in MESSAGE
}  # of 8 and 64
TABLE = validate(data("low_latency", "hopper"), LowLatencyKernels)
SITE = validate(read(find("h800-2048", "topologies")), TopologyConfig)


KNOWN = Known(benchmark_visits(V3, 8, 8), benchmark_visits(V3, 64, 8))


def normal(kind, ranks):
    """Return (time, GB/s as DeepEP counts) of 4,096 tokens per GPU."""
    published = Known(ROWS[8][f"{kind}_gb_s"] * 1e9, ROWS[64][f"{kind}_gb_s"] * 1e9)
    rates = normal_rates(KNOWN, published)
    visits, size = benchmark_visits(V3, ranks, 8), 4096 * TOKEN[kind]
    time = kernel_time(WAYS["hierarchical"].expected(visits, size), rates)
    return time, deepep_bytes(visits, size) / time.seconds / 1e9


def low_latency(kind, ranks):
    """Return what the command says of 128 tokens per GPU on DeepSeek's cluster."""
    row = DISPATCHERS["deepep_low_latency"]
    kernel = getattr(TABLE, kind)
    timed = Timed(
        network(SITE), CoflowKind(kind), row, row.name, kernel, 128.0, MESSAGE[kind], row.sms
    )
    return exchange_row(timed, free_routing(V3, ranks, 8), low_latency_visits(V3, ranks, 8))


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
# (kind, ranks) -> miss of the predicted time; only 8 and 64 ranks were looked at
LOW_LATENCY = {
    ("dispatch", 8): 0.0,
    ("dispatch", 16): -0.061,
    ("dispatch", 32): -0.018,
    ("dispatch", 64): 0.0,
    ("dispatch", 128): -0.045,
    ("dispatch", 256): -0.028,
    ("combine", 8): 0.0,
    ("combine", 16): -0.033,
    ("combine", 32): -0.003,
    ("combine", 64): 0.0,
    ("combine", 128): -0.092,
    ("combine", 256): -0.041,
}
PUBLISHED = {
    row["ep"]: row for row in (*MEASURED["low_latency"], *MEASURED["low_latency_validation"])
}


@pytest.mark.parametrize(("kind", "ranks", "published", "miss"), NORMAL)
def test_normal_kernels_come_within_13_percent_of_the_published_bandwidth(
    kind, ranks, published, miss
):
    # At 16 ranks NVLink binds; the kernel that forwards from the NIC reaches less there than the
    # one within a node.
    found = normal(kind, ranks)[1]
    assert found == pytest.approx(published, rel=0.13)
    assert found / published - 1 == pytest.approx(miss, abs=0.005)


def test_every_published_row_of_low_latency_kernels_is_predicted():
    assert set(LOW_LATENCY) == {(kind, ranks) for kind in MESSAGE for ranks in PUBLISHED}


@pytest.mark.parametrize(("kind", "ranks"), LOW_LATENCY)
@pytest.mark.slow
def test_low_latency_kernels_come_within_10_percent_of_the_published_time(kind, ranks):
    # The prediction is too fast beyond 64 ranks: more peers cost DeepEP something that bytes do not
    # explain.
    row, seconds = low_latency(kind, ranks), PUBLISHED[ranks][f"{kind}_us"] * 1e-6
    assert row.seconds == pytest.approx(seconds, rel=0.10)
    assert row.seconds / seconds - 1 == pytest.approx(LOW_LATENCY[kind, ranks], abs=0.005)
    assert row.algbw / 1e9 == pytest.approx(PUBLISHED[ranks][f"{kind}_gb_s"], rel=0.13)


@pytest.mark.parametrize("kind", MESSAGE)
def test_the_shipped_low_latency_table_follows_from_8_and_64_ranks(kind):
    # The same split as without a network, less the latency of the way: 3.33 us over NVLink, 3.7 us
    # across leaves.
    nvlink, size = ROWS[8][f"{kind}_gb_s"] * 1e9 * 7 / 8, 128 * MESSAGE[kind]
    known = Known(low_latency_visits(V3, 8, 8), low_latency_visits(V3, 64, 8))
    seconds = Known(LATENCY[kind][0] - 3.33e-6, LATENCY[kind][1] - 3.7e-6)
    rates, table = low_latency_rates(known, seconds, size, nvlink), getattr(TABLE, kind)
    assert TABLE.tokens * MESSAGE[kind] == size
    assert TABLE.header == MESSAGE["dispatch"] - TOKEN["dispatch"]
    assert table.nvlink == pytest.approx(nvlink / 200e9, abs=0.0005)
    assert table.nic == pytest.approx(rates.nic / 50e9, abs=0.0001)
    assert table.setup == pytest.approx(rates.setup, abs=0.05e-6)


@pytest.mark.parametrize("way", ["flat", "low_latency"])
@pytest.mark.parametrize("ranks", [8, 32])
def test_pair_by_pair_and_as_a_coflow_straight_kernels_take_the_same_time(way, ranks):
    # Every port is equally busy and nothing forwards, so that the busiest link tells the time of
    # all.
    net = without_forwarding(network(SITE))
    sent = WAYS[way].expected(benchmark_visits(V3, ranks, 8), 1e6)
    rounds = straight(sent)
    took = cost(net, rounds, TABLE.dispatch)
    assert took.transfer == pytest.approx(
        kernel_time(sent, Rates(50e9 * TABLE.dispatch.nic, 200e9 * TABLE.dispatch.nvlink)).seconds
    )
    asked = demand(net, rounds, TABLE.dispatch)
    assert asked.seconds(net, TABLE.dispatch) == pytest.approx(took.rounds + took.transfer)


def test_straight_kernels_cross_the_spines_where_hierarchical_ones_forward_over_nvlink():
    # GPU 0 to GPU 9: rail 0 to rail 1. Planes do not meet, so there NVLink forwards whoever sends.
    for site, kinds in (
        (SITE, ["nic", "fabric", "fabric", "nic"]),
        (
            SITE.model_copy(
                update={"fabric": SITE.fabric.model_copy(update={"kind": "multi_plane"})}
            ),
            ["nvlink", "nvlink", "nic", "nic"],
        ),
    ):
        net = without_forwarding(network(site))
        assert [net.kind[link] for link in net.route(0, 9)[0]] == kinds
        one = Rounds((Round(np.array([0]), np.array([9]), np.array([1.0])),))
        assert set(demand(net, one).links.tolist()) == set(net.route(0, 9)[0])


@pytest.mark.parametrize("kind", TOKEN)
def test_which_link_binds_changes_with_the_number_of_nodes(kind):
    # NVLink within a node and on two (6.5 GPUs per token, 7/8 of them, against one NIC copy at a
    # third of the rate).
    assert [normal(kind, ranks)[0].binds for ranks in (8, 16, 32, 64, 128)] == [
        "nvlink",
        "nvlink",
        "nic",
        "nic",
        "nic",
    ]
    assert [low_latency(kind, ranks).binds for ranks in (8, 16, 64)] == ["nvlink", "nic", "nic"]


def test_at_128_ranks_15_of_16_cross_instead_of_7_of_8():
    # 51 GB/s x 7/8 on the wire at 64 ranks; 15/16 of 4 nodes at 128: 51 x (7/8) / (15/16) = 47.6.
    assert normal("dispatch", 128)[1] == pytest.approx(47.6, abs=0.05)
    assert normal("dispatch", 128)[0].seconds == pytest.approx(2.54e-3, rel=0.005)


@pytest.mark.parametrize("kind", TOKEN)
def test_flat_kernels_pay_for_every_gpu_on_the_nic(kind):
    visits = benchmark_visits(V3, 64, 8)
    rates = Rates(44.6e9, 133.9e9)
    flat, grouped = (
        kernel_time(WAYS[way].expected(visits, 4096 * TOKEN[kind]), rates)
        for way in ("flat", "hierarchical")
    )
    # 7.48 GPUs of which 56/64 are on other nodes, against 3.98 nodes of which 7/8 are.
    assert flat.seconds / grouped.seconds == pytest.approx(
        visits.gpus.sum() / visits.nodes.sum(), rel=1e-6
    )


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
    assert (
        kernel_time(Copies(skewed, none), rates).seconds
        == 2 * kernel_time(Copies(nic, none), rates).seconds
    )


def test_rates_are_those_of_the_published_bandwidths():
    # 51 x 7/8 of 50 GB/s and 153 x 7/8 of 200 GB/s; the shipped table takes the time to fill out.
    rates = normal_rates(KNOWN, Known(153e9, 51e9))
    assert rates.nic / 50e9 == pytest.approx(0.8925, abs=0.0005)
    assert rates.nvlink / 200e9 == pytest.approx(0.669, abs=0.0005)

"""NCCL across nodes: NVLSTree's pipeline, lone sends, trees' rounds and PAT, recomputed from link measurements."""

from functools import cache

import numpy as np
import pytest
from calibration import HOPPER
from scipy.optimize import least_squares
from test_calibration_collectives import curve, machine, residuals

from simulator import inputs
from simulator.collectives import Kernels, choices, chosen, open_to
from simulator.collectives.nccl_kernels import adapted, peer_channels, tree_loop
from simulator.collectives.tuner import shape
from simulator.hardware import KernelConfig
from simulator.topology import TopologyConfig, network

MIB = 2.0**20
EFA = 23e-6
"""A round over EFA, its completion included [s]: aws-ofi-nccl, simulator/data/fabrics/efa.yaml."""


@cache
def site(nodes, local=8, transport="infiniband", nic="50 GB/s"):
    return TopologyConfig(
        name="made up",
        gpu="h100",
        nodes=nodes,
        price="1 USD per GPU-hour",
        node={
            "gpus": local,
            "nvlink": "450 GB/s per direction",
            "nics": local,
            "nic": f"{nic} per direction",
        },
        fabric={"kind": "rail_optimised", "switch_ports": 1024, "transport": transport},
    )


@cache
def net(nodes, local=8, transport="infiniband", nic="50 GB/s"):
    return network(site(nodes, local, transport, nic))


def ways(op, nodes, local=8, transport="infiniband", algorithm=None):
    cluster = net(nodes, local, transport)
    kernels = Kernels.of(HOPPER.kernels.over(site(nodes, local, transport).fabric.carrier))
    return choices(cluster, range(nodes * local), kernels, op, open_to(op, algorithm))


def measured(transport):
    rows = [row for row in inputs.table("nccl_two_nodes") if row["transport"] == transport]
    size = np.array([float(row["bytes"]) for row in rows])
    return size, np.array([float(row["us"]) for row in rows]) * 1e-6


# NVLSTree


def pipeline(size, setup, share, most):
    """Return the time of NVLSTree on 2 x 8 H100 over EFA, in closed form [s]."""
    # S + S/8 over each NVLink at 0.668 of 450 GB/s binds, not the NICs' S/8 at 47 GB/s.
    transfer = size * (1 + 1 / 8) / (0.668 * 450e9)
    return setup + 2 * EFA + np.minimum(share * transfer, most) + transfer


def fitted(size, time):
    scale = [80e-6, 1.5, 250e-6]
    best = least_squares(
        lambda x: pipeline(size, *x) / time - 1, scale, x_scale=scale, ftol=1e-12, xtol=1e-12
    )
    return best.x


def large():
    size, time = measured("efa")
    return size[size >= 4 * MIB], time[size >= 4 * MIB]


def test_nvls_trees_row_is_the_least_squares_over_the_all_reduces_of_4_mib_and_more():
    size, time = large()
    row = HOPPER.kernels.communication["nvls_tree"]
    assert len(size) == 13
    assert [row.setup, row.ramp.share, row.ramp.most] == pytest.approx(fitted(size, time), rel=5e-3)
    error = pipeline(size, row.setup, row.ramp.share, row.ramp.most) / time - 1
    assert float(np.sqrt((error**2).mean())) == pytest.approx(0.042, abs=0.001)


@pytest.mark.parametrize("start", [0, 1])
def test_every_second_size_predicts_the_others_within_12_per_cent(start):
    size, time = large()
    some = np.arange(len(size)) % 2 == start
    found = pipeline(size[~some], *fitted(size[some], time[some]))
    assert np.abs(found / time[~some] - 1).max() < 0.08


@pytest.mark.parametrize("transport", ["efa", "infiniband"])
def test_two_nodes_take_what_was_measured(transport):
    # Nothing is fitted to InfiniBand, nor below 4 MiB, where trees with LL128 run: their chunks,
    # and rounds as NCCL expects them.
    possible = ways("all_reduce", 2, transport=transport)
    size, time = measured(transport)
    kept = size >= 0.5 * MIB
    found = np.array([chosen(possible, each).seconds(each) for each in size[kept]])
    error = found / time[kept] - 1
    assert np.abs(error[size[kept] >= 4 * MIB]).max() < 0.12, error
    assert np.abs(error).max() < 0.35, error


def test_from_four_nodes_on_nvls_tree_passes_on_half_chunks():
    def row(nodes):
        found = {way.algorithm: way.kernel for way in ways("all_reduce", nodes)}
        return found["nvls_tree"].ramp

    assert (row(4).share, row(4).most) == (row(2).share, row(2).most / 2)


def test_blackwells_nvls_tree_differs_from_its_nvls_as_hoppers_does():
    def constants(name):
        rows = inputs.validate(inputs.data("kernels", name), KernelConfig).communication
        return rows["nvls"], rows["nvls_tree"]

    (near, far), (near_b, far_b) = constants("hopper"), constants("blackwell")
    assert far_b.setup - near_b.setup == pytest.approx(far.setup - near.setup, abs=1e-7)
    for name in ("share", "most"):
        ratio = getattr(far.ramp, name) / getattr(near.ramp, name)
        assert getattr(far_b.ramp, name) / getattr(near_b.ramp, name) == pytest.approx(
            ratio, rel=2e-3
        )


# Trees


def test_a_trees_first_chunk_passes_its_rounds_alone():
    # 2 x 8 H100 by LL128: 1 MiB goes in chunks of 562.5 KiB / 32 on 16 channels, 281.25 KiB at once.
    group = shape(net(2), range(16), HOPPER.kernels.nccl)
    assert tree_loop("LL128", MIB, group) == 16 * 562.5 * 1024 / 32
    assert tree_loop("LL128", 1000, group) == 1000
    assert tree_loop("Simple", 1e9, group) == 16 * 512 * 1024


# Sends


def test_two_channels_carry_what_a_lone_pair_of_gpus_was_measured_at():
    _, size, time = curve("h100", "send_recv", "nic")
    row = HOPPER.kernels.communication["send_recv"]

    def error(x):
        return np.log((x[0] * 1e-6 + size / (x[1] * 1e9)) / time)

    setup, rate = least_squares(error, [20, 36], loss="soft_l1", f_scale=0.1).x
    assert row.channel == pytest.approx(rate * 1e9 / 2, rel=1e-3)
    assert row.setup + row.nic_overhead + 3.7e-6 == pytest.approx(setup * 1e-6, abs=0.3e-6)


def test_sends_between_nodes_take_what_was_measured():
    found = residuals("h100", "send_recv", "nic")
    assert all(found[low][2] < 0.11 for low in found), found


@pytest.mark.parametrize(("ranks", "channels"), [(2, 2), (8, 2), (16, 1)])
def test_a_pair_gets_two_channels_until_they_crowd_the_groups(ranks, channels):
    # One GPU a node with a NIC of 400 Gb/s: 4 channels, of which each takes up to 4 sends.
    group = shape(net(ranks, 1), range(ranks), HOPPER.kernels.nccl)
    assert peer_channels(group) == channels


@pytest.mark.parametrize(("nodes", "channels"), [(4, 2), (8, 1)])
def test_four_gpus_with_narrow_nics_lose_a_channel_at_eight_nodes(nodes, channels):
    # NVIDIA/nccl issue 1272: GH200 with NICs of 25 GB/s fell from 24.2 to 18.3 GB/s from 32 GPUs on.
    group = shape(net(nodes, 4, nic="25 GB/s"), range(4 * nodes), HOPPER.kernels.nccl)
    assert peer_channels(group) == channels


def test_gpus_that_share_a_nic_fill_it_together():
    # Two channels of 18 GB/s each: 36 of 50 GB/s for one GPU, all that NCCL reaches for two.
    row = HOPPER.kernels.communication["send_recv"]
    alone = site(2, 2)
    shared = alone.model_copy(update={"node": alone.node.model_copy(update={"nics": 1})})
    shares = [
        adapted(row, "direct", "Simple", shape(network(one), (0, 2), HOPPER.kernels.nccl)).nic
        for one in (alone, shared)
    ]
    assert shares == pytest.approx([2 * row.channel / 50e9, row.nic])


def test_channels_do_not_slow_a_slot_that_is_narrower_than_they_are():
    # 10 GB/s of PCIe in front of 50 GB/s: two channels of 18 GB/s would carry more.
    one = site(2, 2)
    node = one.node.model_copy(update={"pcie": 10e9})
    group = shape(
        network(one.model_copy(update={"node": node})), range(0, 4, 2), HOPPER.kernels.nccl
    )
    assert group.nic == 10e9
    row = HOPPER.kernels.communication["send_recv"]
    assert adapted(row, "direct", "Simple", group).nic == row.nic


# All-to-alls


def test_messages_of_an_all_to_all_are_posted_one_after_another():
    # 64 H800 of 8 nodes, 128 KiB a pair: 337.8 us (NVIDIA/nccl issue 1531, not fitted). 56 peers on
    # other nodes at 3 us of NCCL's overhead come to 168 of them.
    size = 8 * MIB
    cluster = machine("h800", 8)
    table = open_to("all_to_all", None)
    possible = choices(cluster, range(64), Kernels.of(HOPPER.kernels), "all_to_all", table)
    best = chosen(possible, size)
    row = HOPPER.kernels.communication["all_to_all"]
    assert best.kernel.setup == pytest.approx(row.setup + 56 * 3e-6)
    assert best.seconds(size) == pytest.approx(337.8e-6, rel=0.12)


# PAT


def test_lone_gpus_gather_in_trees_as_long_as_latency_counts():
    possible = ways("all_gather", 32, local=1)
    assert chosen(possible, MIB).algorithm == "pat"
    assert chosen(possible, 4096 * MIB).algorithm == "ring"
    assert "pat" not in {way.algorithm for way in ways("all_gather", 4)}


def test_pat_sends_what_a_ring_sends_in_fewer_rounds():
    # 31/32 of the buffer leaves each NIC, at 0.75 of 47 GB/s; 5 rounds of 3.7 us, 32 ranks at 2.8.
    (way,) = ways("all_gather", 32, local=1, algorithm="pat")
    row = HOPPER.kernels.communication["nccl_simple"]
    byte = way.cost
    assert byte.transfer == pytest.approx(31 / 32 / (0.75 * 47e9))
    assert byte.rounds == pytest.approx(5 * 3.7e-6)
    assert way.kernel.setup == pytest.approx(row.setup + 32 * 2.8e-6)

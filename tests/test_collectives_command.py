"""`simulate collective`: rows, columns, JSON, figure, and one message for each mistake."""

import json

import pytest

from simulator.cli.commands import _main
from simulator.collectives import BUS_FACTORS

OPS = ["all_reduce", "reduce_scatter", "all_gather", "broadcast", "all_to_all", "send_recv"]
CLUSTER = """name: t
gpu: {gpu}
nodes: 2
node: {{gpus: 8, nvlink: 400 GB/s bidirectional, nics: 8, nic: {nic} per direction}}
fabric: {{kind: rail_optimised, switch_ports: 64, latency: 3.7 us}}
price: 2 USD per GPU-hour
"""
PAIR = """name: pair
gpu: h800
nodes: 2
node: {gpus: 1, nvlink: 400 GB/s bidirectional, nics: 1, nic: 50 GB/s per direction}
fabric: {kind: rail_optimised, switch_ports: 8, latency: 3.7 us}
price: 2 USD per GPU-hour
"""
KEYS = {"op", "algorithm", "ranks", "bytes", "time_s", "algbw_gb_s", "busbw_gb_s"}


def rows(capsys, *arguments, topology="h800-2048"):
    assert _main(["collective", topology, *arguments, "--json", "-"]) == 0
    return json.loads(capsys.readouterr().out)["rows"]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.slow
def test_every_op_gives_a_row_for_each_doubling(op, capsys):
    found = rows(capsys, "--op", op, "--bytes", "1MiB:8MiB", "--ranks", "16")
    assert [row["bytes"] for row in found] == [2**20, 2**21, 2**22, 2**23]
    for row in found:
        assert set(row) >= KEYS
        assert (row["op"], row["ranks"]) == (op, 16)
        assert row["algbw_gb_s"] == pytest.approx(row["bytes"] / row["time_s"] / 1e9)
        assert row["busbw_gb_s"] == pytest.approx(row["algbw_gb_s"] * BUS_FACTORS[op](16))


def test_the_last_size_need_not_be_a_doubling(capsys):
    found = rows(capsys, "--op", "broadcast", "--bytes", "3kB:7kB", "--ranks", "8")
    assert [row["bytes"] for row in found] == [3e3, 6e3]


def test_without_ranks_all_gpus_take_part(capsys):
    (row,) = rows(capsys, "--op", "all_reduce", "--bytes", "1GiB", "--algorithm", "hierarchical")
    assert (row["ranks"], row["algorithm"]) == (2048, "hierarchical")


@pytest.mark.parametrize(
    ("op", "token", "deepep"), [("dispatch", 7392, 51), ("combine", 14336, 50)]
)
def test_dispatch_and_combine_speak_deepeps_convention(op, token, deepep, capsys):
    # EP64 in DeepEP's table: 51 and 50 GB/s, of which 7/8 cross the wire. A token reaches 3.98 of
    # its 4 nodes.
    (row,) = rows(capsys, "--op", op, "--tokens", "4096", "--ranks", "64")
    assert row["deepep_gb_s"] == pytest.approx(deepep, rel=0.005)
    assert row["bytes"] == pytest.approx(4096 * token * 3.98, rel=0.005)
    assert row["busbw_gb_s"] == pytest.approx(row["deepep_gb_s"] * 7 / 8)


@pytest.mark.parametrize(
    ("op", "token", "time"), [("dispatch", 7408, 173e-6), ("combine", 14336, 314e-6)]
)
@pytest.mark.slow
def test_low_latency_kernels_take_128_tokens_unless_told(op, token, time, capsys):
    # DeepEP's table at EP64: 8 copies of each token, of which 7 leave the node; a dispatched one
    # carries 16 B more.
    common = ["--op", op, "--algorithm", "low_latency", "--ranks", "64"]
    (row,) = rows(capsys, *common)
    assert (row["algorithm"], row["binds"], row["bytes"]) == ("low_latency", "nic", 128 * 8 * token)
    assert row["time_s"] == pytest.approx(time, rel=0.002)
    assert row["busbw_gb_s"] == pytest.approx(row["deepep_gb_s"] * 7 / 8)
    (half,) = rows(capsys, *common, "--tokens", "64")
    assert half["bytes"] == row["bytes"] / 2
    assert (
        row["time_s"] / 2 < half["time_s"] < row["time_s"]
    )  # the kernel's start does not depend on tokens


@pytest.mark.parametrize("ranks", [8, 16])
@pytest.mark.slow
def test_what_crosses_the_link_of_low_latency_kernels_is_what_leaves_its_gpu_or_its_node(
    ranks, capsys
):
    # 8 copies of each token, spread evenly: on one node 7 of 8 leave their GPU over NVLink, on two 1
    # of 2 leaves the node over the NIC.
    words = ["--op", "combine", "--algorithm", "low_latency", "--ranks", str(ranks)]
    (row,) = rows(capsys, *words)
    crossing = {8: 7 / 8, 16: 1 / 2}[ranks]
    assert row["busbw_gb_s"] == pytest.approx(row["deepep_gb_s"] * crossing)


def test_few_sms_copy_more_slowly_than_links_carry(capsys):
    # One node of H800, 4,096 tokens of 7,392 B to 5.27 GPUs each: 4 SMs of 22.11 GB/s copy them,
    # and 1,803 B of overhead each, in 2.24 ms; with 20 NVLink binds at 153 GB/s.
    common = ["--op", "dispatch", "--tokens", "4096", "--ranks", "8"]
    (few,), (usual,) = rows(capsys, *common, "--sms", "4"), rows(capsys, *common)
    copying = 4096 * 5.27 * (7392 + 1803) / (4 * 22.11e9)
    assert few["time_s"] == pytest.approx(copying + 34.9e-6 + 3.33e-6, rel=0.005)
    assert usual["deepep_gb_s"] == pytest.approx(153, rel=0.005)


@pytest.mark.slow
def test_flat_kernels_send_to_every_gpu_and_hierarchical_ones_to_every_node(capsys):
    common = ["--op", "dispatch", "--tokens", "4096", "--ranks", "64"]
    (grouped,), (flat,) = rows(capsys, *common), rows(capsys, *common, "--algorithm", "flat")
    assert rows(capsys, *common, "--algorithm", "hierarchical") == [grouped]
    # A token reaches 7.48 GPUs on 3.98 nodes; 7/8 of either cross the NIC, which binds.
    assert (grouped["binds"], flat["binds"]) == ("nic", "nic")
    # Both take 63 us to fill besides.
    filled = 57.9e-6 + 7e-6
    ratio = (flat["time_s"] - filled) / (grouped["time_s"] - filled)
    assert ratio == pytest.approx(7.48 / 3.98, rel=0.005)
    # On one node both are the same sends.
    inside = [*common[:-1], "8"]
    (grouped,), (flat,) = rows(capsys, *inside), rows(capsys, *inside, "--algorithm", "flat")
    assert flat["binds"] == "nvlink"
    assert flat["time_s"] == pytest.approx(grouped["time_s"], rel=1e-6)


def test_low_latency_kernels_are_refused_where_none_were_measured(capsys):
    assert _main(["collective", "a100-node", "--op", "dispatch", "--algorithm", "low_latency"]) == 2
    assert "'low_latency' has no published measurement on ampere GPUs" in capsys.readouterr().err


def test_the_columns_are_those_of_nccl_tests(capsys):
    assert (
        _main(["collective", "h100-2048", "--op", "all_reduce", "--bytes", "1GiB", "--ranks", "8"])
        == 0
    )
    title, head, units, line = (text.split() for text in capsys.readouterr().out.splitlines())
    assert title[:3] == ["all_reduce", "on", "8"]
    assert head == ["size", "count", "type", "algorithm", "protocol", "time", "algbw", "busbw"]
    assert units == ["(B)", "(elements)", "(us)", "(GB/s)", "(GB/s)"]
    assert line[:5] == ["1073741824", "268435456", "float", "nvls", "Simple"]
    assert float(line[7]) == pytest.approx(459, abs=3)  # 445 and 460 measured at 512 MiB


@pytest.mark.parametrize("ending", ["png", "svg"])
@pytest.mark.slow
def test_a_figure_is_drawn(ending, tmp_path, capsys):
    path = tmp_path / f"curve.{ending}"
    arguments = [
        "--op",
        "all_reduce",
        "--bytes",
        "64KiB:1GiB",
        "--ranks",
        "16",
        "--plot",
        str(path),
    ]
    assert _main(["collective", "h800-2048", *arguments]) == 0
    assert path.stat().st_size > 5000
    capsys.readouterr()


@pytest.mark.slow
def test_a_slower_nic_slows_what_crosses_nodes_and_nothing_else(tmp_path, capsys):
    path = tmp_path / "t.yaml"
    path.write_text(CLUSTER.format(gpu="h800", nic="50 GB/s"))
    took = {}
    for nic in ("50 GB/s", "25 GB/s"):
        common = ["--op", "all_to_all", "--bytes", "8GiB", "--set", f"node.nic={nic} per direction"]
        for ranks in ("8", "16"):
            (row,) = rows(capsys, *common, "--ranks", ranks, topology=str(path))
            took[nic, ranks] = row["time_s"]
    assert took["25 GB/s", "8"] == took["50 GB/s", "8"]
    # But for the overheads of the messages, some 0.2 ms, which do not hang on the rate.
    assert took["25 GB/s", "16"] == pytest.approx(2 * took["50 GB/s", "16"], rel=0.002)


MISTAKES = [
    (["--op", "all_reduce", "--bytes", "5"], "--bytes: '5' has no unit. Write for example '1GiB'."),
    (
        ["--op", "all_reduce", "--bytes", "1MiB:x"],
        "--bytes: 'x' is not a number with a unit. Write for example '1GiB'.",
    ),
    (
        ["--op", "all_reduce", "--bytes", "2GiB:1GiB"],
        "--bytes: '2GiB:1GiB' does not go up from a size above zero. Write 1MiB:8GiB.",
    ),
    (
        ["--op", "all_reduce", "--bytes", "0B"],
        "--bytes: '0B' does not go up from a size above zero. Write 1MiB:8GiB.",
    ),
    (
        ["--op", "all_reduce"],
        "--bytes: is missing, which all_reduce needs. Write --bytes 1MiB:8GiB.",
    ),
    (
        ["--op", "all_reduce", "--bytes", "1GiB", "--ranks", "3000"],
        "--ranks: 3000 exceeds the 2048 GPUs of the cluster. Write 2048 at most.",
    ),
    (
        ["--op", "all_reduce", "--bytes", "1GiB", "--ranks", "1"],
        "--ranks: 1 must be at least 2.",
    ),
    (
        ["--op", "all_gather", "--bytes", "1GiB", "--algorithm", "tree"],
        "--algorithm: 'tree' is not an algorithm of all_gather. Choose from: ring, halving_doubling, hierarchical_ring, nvls, pat.",
    ),
    (
        ["--op", "all_reduce", "--bytes", "1GiB", "--ranks", "12", "--algorithm", "hierarchical"],
        "--ranks: 12 spreads a group of 12 GPUs unevenly over 2 nodes. Write a multiple of 8, or leave --algorithm out.",
    ),
    (
        [
            "--op",
            "all_reduce",
            "--bytes",
            "1GiB",
            "--ranks",
            "12",
            "--algorithm",
            "halving_doubling",
        ],
        "--algorithm: 'halving_doubling' needs a power of two; these are 12 ranks. Choose ring, or --ranks 8.",
    ),
    (
        ["--op", "all_reduce", "--bytes", "1GiB", "--ranks", "16", "--algorithm", "nvls"],
        "--algorithm: 'nvls' stays inside one node; these are 2. Choose nvls_tree or sharp, or fewer ranks.",
    ),
    (
        ["--op", "dispatch", "--bytes", "1GiB"],
        "--tokens: is missing, which dispatch needs. Write --tokens 4096.",
    ),
    (
        ["--op", "dispatch", "--tokens", "4096", "--bytes", "1GiB"],
        "--bytes: '1GiB' means nothing to dispatch. Write --tokens 4096 instead.",
    ),
    (
        ["--op", "all_reduce", "--bytes", "1GiB", "--tokens", "1"],
        "--tokens: 1 means nothing to all_reduce. Write --bytes 1MiB:8GiB instead.",
    ),
    (["--op", "dispatch", "--tokens", "0"], "--tokens: 0 must be at least 1."),
    (
        ["--op", "combine", "--tokens", "4096", "--sms", "0"],
        "--sms: 0 must be at least 1. Write 20, as many as its library takes.",
    ),
    (
        ["--op", "all_reduce", "--bytes", "1GiB", "--sms", "8"],
        "--sms: 8 means nothing to all_reduce. Leave it out.",
    ),
    (
        ["--op", "dispatch", "--tokens", "1", "--algorithm", "ring"],
        "--algorithm: 'ring' is not a dispatcher for dispatch. Choose from: deepep, deepep_flat, deepep_low_latency, hybridep, all_to_all, all_gather.",
    ),
    (
        ["--op", "combine", "--algorithm", "flat"],
        "--tokens: is missing, which combine needs. Write --tokens 4096.",
    ),
    (
        ["--op", "dispatch", "--tokens", "1", "--plot", "x.png"],
        "--plot: 'x.png' means nothing to dispatch. Leave it out.",
    ),
    (
        ["--op", "dispatch", "--tokens", "1", "--ranks", "12"],
        "--ranks: 12 does not divide the 256 experts of deepseek-v3. Write a divisor.",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
@pytest.mark.slow
def test_a_mistake_is_one_message_and_exit_status_2(arguments, message, capsys):
    assert _main(["collective", "h800-2048", *arguments]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"simulate: {message}\n")


def test_an_unknown_gpu_is_named_with_its_line(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(CLUSTER.format(gpu="h900", nic="50 GB/s"))
    assert _main(["collective", str(path), "--op", "all_reduce", "--bytes", "1GiB"]) == 2
    assert f"{path}:2: gpu: 'h900' is not among the gpus known." in capsys.readouterr().err


def test_a_tree_reaches_092_of_its_protocols_rate(capsys, tmp_path):
    # Two nodes of one GPU: each is the root of one tree and the leaf of the other, S/2 up and S/2
    # down, so that a NIC carries S each way: 50 GB/s x 0.94 (Simple) x 0.92 (NCCL's share for
    # trees). The difference of two sizes leaves latencies out.
    (tmp_path / "pair.yaml").write_text(PAIR, encoding="utf-8")
    small, large = rows(
        capsys,
        *("--op", "all_reduce", "--bytes", "1GB:2GB", "--algorithm", "tree"),
        topology=str(tmp_path / "pair.yaml"),
    )
    assert small["protocol"] == large["protocol"] == "Simple"
    assert large["time_s"] - small["time_s"] == pytest.approx(1e9 / (50e9 * 0.94 * 0.92))

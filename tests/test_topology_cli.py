"""`simulate topology`: keys, text, figures of every family, and what a wrong file is told."""

import json

import pytest
from test_topology_families import CASES, SMALL, cluster, ring

from simulator.cli.commands import _main
from simulator.plot import cluster as draw

KEYS = {"name", "gpus", "switches", "links", "bisection_bandwidth", "cost_usd"}


def test_json_has_the_published_keys(capsys):
    assert _main(["topology", "h800-2048-mpft", "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert set(tree) >= KEYS
    # arXiv 2505.09343, table 3: eight planes of 96 switches hold 16,384; for 2,048 each plane has 8
    # leaves, 4 spines.
    assert (tree["gpus"], tree["switches"], tree["links"], tree["bisection_bandwidth"]) == (
        2048,
        96,
        2048,
        51.2e12,
    )
    assert tree["cost_usd"] is None


@pytest.mark.slow
def test_the_text_names_counts_bisection_and_diameter(capsys):
    assert _main(["topology", "h100-16384"]) == 0
    out = capsys.readouterr().out
    for words in (
        "16,384",
        "1,024 leaf, 48 mid, 5 top",
        "58.51 TB/s per direction",
        "cables between the two furthest apart",
    ):
        assert words in out


def test_a_key_can_be_replaced_and_a_price_gives_a_cost(capsys):
    prices = "prices={switch: 20 kUSD, cable: 500 USD, nic: 1 kUSD}"
    assert (
        _main(
            ["topology", "h800-512", "--set", prices, "--set", "fabric.routing=ecmp", "--json", "-"]
        )
        == 0
    )
    tree = json.loads(capsys.readouterr().out)
    # 8 rails of two leaves and 8 spines; 512 cables between switches and 512 to NICs.
    assert (tree["switches"], tree["routing"]) == (24, "ecmp")
    assert tree["cost_usd"] == 24 * 20e3 + 1024 * 500 + 512 * 1000


def test_a_wrong_fabric_is_one_message_and_status_two(capsys):
    assert _main(["topology", "h800-512", "--set", "fabric.kind=torus_3d"]) == 2
    assert capsys.readouterr().err.strip().endswith("which torus_3d needs. Add 'dims:' there.")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "number"), CASES)
def test_every_family_is_drawn(tmp_path, kind, number):
    extra = {"file": str(ring(tmp_path))} if kind == "custom" else {}
    draw(cluster(kind, **{**SMALL[kind][number], **extra}), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_large_cluster_is_drawn_in_blocks(tmp_path):
    file = tmp_path / "figure.svg"
    assert _main(["topology", "h100-16384", "--plot", str(file)]) == 0
    assert file.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("name", "gpus", "nvlink"),
    [
        ("h200-node", 8, 450),
        ("b200-node", 8, 900),
        ("gb200-nvl72", 72, 900),
        ("gb200-nvl72-576", 576, 900),
    ],
)
@pytest.mark.slow
def test_shipped_nodes_and_racks_are_described_and_run_collectives(name, gpus, nvlink, capsys):
    assert _main(["topology", name, "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["gpus"] == gpus
    racks = max(1, gpus // 72)
    if racks == 1:
        assert tree["bisection_bandwidth"] == gpus // 2 * nvlink * 1e9
    else:
        # 8 racks x 18 NICs on each of 4 rails take 5 leaves of 32; 20 leaves take 10 spines by
        # ports, 16 divide 32.
        assert tree["switches_by_layer"] == {"leaf": 20, "spine": 16}
        assert tree["bisection_bandwidth"] == gpus // 2 * 50e9
    ring = ["--op", "all_gather", "--bytes", "1GiB", "--algorithm", "ring"]
    assert _main(["collective", name, *ring, "--json", "-"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    # A ring crosses NVLink at its kernel's share, NICs where there are racks.
    link = 900 * 0.755 if nvlink == 900 else 450 * 0.822
    assert row["ranks"] == gpus
    assert row["busbw_gb_s"] < (link if racks == 1 else 72 * 50)
    if racks == 1:
        assert row["busbw_gb_s"] > 0.8 * link


def test_a_slot_is_described_in_text(capsys):
    assert _main(["topology", "h800-512", "--set", "node.pcie=25 GB/s per direction"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "PCIe switches 512" in out
    assert "6.4 TB/s per direction of the NICs' PCIe slots" in out

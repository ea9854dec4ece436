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
    # arXiv 2505.09343, table 3: eight planes of 96 switches hold 16,384; for 2,048 each plane has 8 leaves, 4 spines.
    assert (tree["gpus"], tree["switches"], tree["links"], tree["bisection_bandwidth"]) == (2048, 96, 2048, 51.2e12)
    assert tree["cost_usd"] is None


def test_the_text_names_counts_bisection_and_diameter(capsys):
    assert _main(["topology", "h100-16384"]) == 0
    out = capsys.readouterr().out
    for words in ("16,384", "1,024 leaf, 48 mid, 5 top", "58.51 TB/s per direction", "cables between the furthest two"):
        assert words in out


def test_a_key_can_be_replaced_and_a_price_gives_a_cost(capsys):
    prices = "prices={switch: 20 kUSD, cable: 500 USD, nic: 1 kUSD}"
    assert _main(["topology", "h800-512", "--set", prices, "--set", "fabric.routing=ecmp", "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    # 8 rails of two leaves and 8 spines; 512 cables between switches and 512 to NICs.
    assert (tree["switches"], tree["routing"]) == (24, "ecmp")
    assert tree["cost_usd"] == 24 * 20e3 + 1024 * 500 + 512 * 1000


def test_a_wrong_fabric_is_one_message_and_status_two(capsys):
    assert _main(["topology", "h800-512", "--set", "fabric.kind=torus_3d"]) == 2
    assert capsys.readouterr().err.strip().endswith("which torus_3d needs. Add 'dims:' there.")


@pytest.mark.parametrize(("kind", "number"), CASES)
def test_every_family_is_drawn(tmp_path, kind, number):
    extra = {"file": str(ring(tmp_path))} if kind == "custom" else {}
    draw(cluster(kind, **{**SMALL[kind][number], **extra}), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_a_large_cluster_is_drawn_in_blocks(tmp_path):
    file = tmp_path / "figure.svg"
    assert _main(["topology", "h100-16384", "--plot", str(file)]) == 0
    assert file.stat().st_size < 300_000

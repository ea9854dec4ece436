"""How long large clusters take, and clusters whose ranks are not alike. By name: pytest tests/benchmarks/bench_clusters.py.

Whole commands but for the unfolded one. Data parallelism grows with the GPUs, as the batch does; a
step then takes longer only by what its gradients do.
"""

from __future__ import annotations

import json
import math

import pytest
from processes import simulate

RUN = ("run", "h800-2048", "--no-alternatives", "--json", "-")
GROWN = {
    2048: 64,
    131072: 128,
    1048576: 256,
}
"""GPUs -> ports of the switches of a fat tree of three layers."""
BROKEN = {
    "ecmp": ["topology.fabric.routing=ecmp"],
    "jitter": ["topology.jitter={deviation: 0.02, gpus: 8}"],
    "dragonfly": [
        "topology.fabric.kind=dragonfly",
        "topology.fabric.group_routers=16",
        "topology.fabric.leaf_latency=null",
    ],
    "nic_down": ["topology.faults=[{nic: [3, 0], down: true}]"],
}
"""What makes ranks different -> its keys."""


def sets(*pairs):
    """Return options that set keys."""
    return [part for pair in pairs for part in ("--set", pair)]


def grown(gpus):
    """Return the keys of V3 on more GPUs, each of which does the same."""
    return {
        "topology.fabric.kind": "fat_tree_3",
        "topology.fabric.switch_ports": GROWN[gpus],
        "topology.nodes": gpus // 8,
        "training.global_batch_size": 15360 * gpus // 2048,
    }


@pytest.mark.parametrize("gpus", GROWN)
def test_gpus(processes, gpus):
    rounds = 1 if gpus > 1e6 else 3
    keys = sets(*(f"{key}={value}" for key, value in grown(gpus).items()))
    tree = json.loads(processes(lambda: simulate(*RUN, *keys), rounds).text)
    assert tree["gpus"] == gpus
    assert tree["engine"]["rank_classes"] == 8
    assert all(bound["seconds"] <= tree["step_time_s"] for bound in tree["bounds"])


@pytest.mark.parametrize("gpus", [2048, 131072])
def test_next_point_of(benchmark, watch, scenarios, gpus):
    keys = grown(gpus)
    points = [{**keys, "topology.node.nic": f"{rate} GB/s per direction"} for rate in range(41, 47)]
    scenarios.ask(keys)
    answers = watch.time(scenarios.ask, points)
    assert len({answer["step_time"] for answer in answers}) == len(points)


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_symmetry(processes, kind):
    tree = json.loads(processes(lambda: simulate(*RUN, *sets(*BROKEN[kind]))).text)
    assert 8 <= tree["engine"]["rank_classes"] <= 2048
    assert math.isfinite(tree["step_time_s"])
    assert all(bound["seconds"] <= tree["step_time_s"] * (1 + 1e-9) for bound in tree["bounds"])


def test_each_gpu_its_own_load(processes):
    tree = json.loads(processes(lambda: simulate(*RUN, *sets("experts.resolve=each"))).text)
    assert tree["engine"]["ops"] > 2.5e6


def test_all_ranks_unfolded(benchmark, watch, scenarios):
    one = {"experts.resolve": "each"}
    (answer,) = watch.time(lambda sets: scenarios.ask(sets, folded=False), [one])
    benchmark.extra_info["phases"] = answer["phases"]
    assert answer["rows"] > 1e7
    assert sum(answer["parts"]) == pytest.approx(answer["step_time"])

"""How long an all-to-all takes to resolve pair by pair. Run by name: pytest tests/benchmarks/bench_fairshare.py.

The figures of interest are the medians; the aims, on two cores and warm, are 150 ms for 64 ranks
with unequal sizes (4,032 flows that end one by one) and 100 ms for 1,024 ranks with equal sizes
(1,047,552 flows). Each benchmark also checks its answer by what a closed form or the total of bytes
says.
"""

import numpy as np
import pytest

from simulator.collectives.paths import ways
from simulator.fairshare import max_min
from simulator.flows import drain
from simulator.topology import TopologyConfig, network

NODE = {"gpus": 8, "nvlink": "400 GB/s bidirectional", "nics": 8, "nic": "50 GB/s per direction"}
FABRICS = {
    "rail_optimised": {
        "kind": "rail_optimised",
        "switch_ports": 64,
    },  # a leaf per rail, joined by spines
    "leaf_spine": {
        "kind": "fat_tree_2",
        "switch_ports": 16,
    },  # 64 ranks: 8 leaves, 4 spines, ideal spreading
    "leaf_spine_ecmp": {"kind": "fat_tree_2", "switch_ports": 16, "routing": "ecmp"},
}


def all_to_all(nodes, fabric):
    """Return capacity, flow_ptr, flow_link and weights (None where all are 1) of all pairs of a cluster."""
    known = {"latency": "3.7 us"} | FABRICS[fabric]
    parts = {
        "name": fabric,
        "gpu": "h800",
        "nodes": nodes,
        "node": NODE,
        "price": "2 USD per GPU-hour",
    }
    net = network(TopologyConfig.model_validate(parts | {"fabric": known}))
    ranks = nodes * NODE["gpus"]
    src, dst = np.divmod(np.arange(ranks * ranks), ranks)
    way = ways(net, src[src != dst], dst[src != dst])
    pairs = ranks * (ranks - 1)
    ptr = np.concatenate([[0], np.cumsum(np.bincount(way.pair, minlength=pairs))])
    return net.capacity, ptr, way.link, None if (way.share == 1).all() else way.share


def at_least(flows, size):
    """Return when the slowest link has moved its bytes [s]: nothing ends before."""
    capacity, ptr, link, weight = flows
    share = np.ones(len(link)) if weight is None else weight
    return (
        np.bincount(link, share * np.repeat(size, np.diff(ptr)), len(capacity)) / capacity
    ).max()


@pytest.mark.parametrize("fabric", FABRICS)
def test_64_ranks_with_unequal_sizes(benchmark, fabric):
    flows = capacity, ptr, link, weight = all_to_all(8, fabric)
    size = np.random.default_rng(0).uniform(0.5e9, 1.5e9, len(ptr) - 1)
    end = benchmark.pedantic(
        drain,
        (capacity, ptr, link, size),
        {"weight": weight, "executor": "numba"},
        rounds=15,
        warmup_rounds=1,
    )
    assert len(np.unique(end)) == len(end) == 4032
    assert end.max() >= at_least(flows, size) * (1 - 1e-9)


def test_64_ranks_with_unequal_sizes_by_the_oracle(benchmark):
    capacity, ptr, link, weight = all_to_all(8, "rail_optimised")
    size = np.random.default_rng(0).uniform(0.5e9, 1.5e9, len(ptr) - 1)
    own = {"weight": weight, "executor": "numpy"}
    end = benchmark.pedantic(drain, (capacity, ptr, link, size), own, rounds=1)
    assert end == pytest.approx(
        drain(capacity, ptr, link, size, weight=weight, executor="numba"), rel=1e-9
    )


@pytest.mark.parametrize("executor", ["numpy", "numba"])
@pytest.mark.parametrize("fabric", FABRICS)
def test_64_ranks_with_equal_sizes(benchmark, fabric, executor):
    flows = capacity, ptr, link, weight = all_to_all(8, fabric)
    size = np.full(len(ptr) - 1, 1e9)
    own = {"weight": weight, "executor": executor}
    end = benchmark.pedantic(drain, (capacity, ptr, link, size), own, rounds=5, warmup_rounds=1)
    assert end.max() >= at_least(flows, size) * (1 - 1e-9)


@pytest.mark.parametrize("fabric", ["rail_optimised"])
def test_1024_ranks_with_equal_sizes(benchmark, fabric):
    flows = capacity, ptr, link, weight = all_to_all(128, fabric)
    size = np.full(len(ptr) - 1, 1e6)
    own = {"weight": weight, "executor": "numba"}
    end = benchmark.pedantic(drain, (capacity, ptr, link, size), own, rounds=15, warmup_rounds=1)
    # Each NIC sends 1 MB to 127 nodes of 8 GPUs, at 50 GB/s.
    assert end.max() == pytest.approx(127 * 8 * 1e6 / 50e9)
    assert end.max() == pytest.approx(at_least(flows, size))


def test_routes_of_1024_ranks(benchmark):
    benchmark.pedantic(all_to_all, (128, "rail_optimised"), rounds=3, warmup_rounds=1)


def test_rates_of_64_ranks(benchmark):
    capacity, ptr, link, _ = all_to_all(8, "rail_optimised")
    rates = benchmark(
        max_min, capacity, ptr, link, np.ones(len(link)), np.full(len(ptr) - 1, np.inf)
    )
    assert np.bincount(
        link, np.repeat(rates, np.diff(ptr)), len(capacity)
    ).max() <= capacity.max() * (1 + 1e-9)

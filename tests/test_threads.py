"""Threads of one process, as workers of Dask have them, share what is kept, and find what one alone finds."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fabrics import cluster

from simulator.collectives import paths
from simulator.topology import network

THREADS = 8


@pytest.fixture
def hasty():
    """Let threads take turns a thousand times as often as they do, so that few of them meet everywhere."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(interval)


def test_ways_that_several_threads_look_up_at_once_are_those_that_one_looks_up(hasty):
    net = network(cluster("fat_tree_2", nodes=64, gpus=2, ports=16))
    rng = np.random.default_rng(0)
    asked = [rng.integers(0, 128, (2, 10)) for _ in range(100)]  # [question] of [end, pair]

    def found(pairs):
        ways = paths.ways(net, *pairs)
        return ways.pair.tolist(), ways.link.tolist(), ways.share.tolist()

    alone = [found(pairs) for pairs in asked]
    paths._switches.cache_clear()
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(found, asked)) == alone

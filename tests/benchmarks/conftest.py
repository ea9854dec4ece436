"""What benchmarks share: a record of the machine, and of processes that are measured."""

from __future__ import annotations

import os
import statistics
from importlib import metadata

import pytest
from processes import LIMIT, Scenarios

TOOLS = ("numpy", "numba", "llvmlite", "simpy", "pydantic")


def pytest_benchmark_update_machine_info(config, machine_info):
    """Say what a reader needs in order to compare: cores, memory, versions."""
    machine_info["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    machine_info["memory"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    machine_info["load"] = os.getloadavg()[0]
    machine_info["versions"] = {name: metadata.version(name) for name in TOOLS}


class Watch:
    """Times an act round by round; one that takes longer than LIMIT is recorded as that long."""

    def __init__(self, benchmark):
        self.benchmark = benchmark

    def time(self, act, rounds):
        """Time act(argument) for each argument of `rounds`, and return what it returned."""
        found, late = [], []
        waiting = iter(rounds)

        def once(argument):
            try:
                found.append(act(argument))
            except TimeoutError as error:
                late.append(error)

        self.benchmark.pedantic(once, setup=lambda: ((next(waiting),), {}), rounds=len(rounds))
        if late:
            self.benchmark.extra_info["over"] = LIMIT
            pytest.xfail(str(late[0]))
        return found


@pytest.fixture
def watch(benchmark):
    """Return a stopwatch that knows how long is too long."""
    return Watch(benchmark)


@pytest.fixture
def processes(benchmark, watch):
    """Return a function that times fresh processes, and keeps their memory and CPU time as well."""

    def measured(act, rounds=1):
        outputs = watch.time(lambda _: act(), range(rounds))
        benchmark.extra_info["peak"] = max(one.used.peak for one in outputs)
        benchmark.extra_info["cpu"] = statistics.median(one.used.cpu for one in outputs)
        return outputs[-1]

    return measured


@pytest.fixture
def scenarios(benchmark):
    """Return a fresh process that simulates scenarios; what it took is kept when the test ends."""
    one = Scenarios()
    yield one
    benchmark.extra_info["peak"] = one.end().peak

"""How long a step takes to lower, to execute and to sum up. Run by name: pytest tests/benchmarks/bench_engine.py.

The figures of interest are the medians. On two cores, warm, a program of 1.4 million rows is to be
lowered in 3 s and executed in 3 s; SimPy takes ten times as long. Each benchmark also checks its
answer.
"""

import numpy as np
import pytest

from simulator.engine import EXECUTORS, run
from simulator.program import lower
from simulator.report import summarise
from simulator.scenario import load

STEPS = {
    "deepseek-v3": ("h800-2048", "deepseek-v3"),
    "llama-3.1-405b": ("h100-16384", "llama-3.1-405b"),
    "megatron-145b": ("a100-selene-1536", "megatron-145b"),
    "megatron-1t": ("a100-selene-3072", "megatron-1t"),  # 1.4 million rows
}
ONCE = {"rounds": 3, "warmup_rounds": 1}
LARGE = "megatron-1t"


@pytest.fixture(scope="module", params=STEPS)
def scenario(request):
    return load(*STEPS[request.param])


@pytest.fixture(scope="module")
def program(scenario):
    return lower(scenario)


def test_lowering(benchmark, scenario, program):
    again = benchmark.pedantic(lower, (scenario,), **ONCE)
    assert np.array_equal(again.wait, program.wait)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_execution(benchmark, program, executor):
    large = program.scenario.workload.name == LARGE and executor == "simpy"
    timeline = benchmark.pedantic(run, (program, executor), **({"rounds": 1} if large else ONCE))
    assert timeline.events == len(program.rank)


def test_summary(benchmark, program):
    timeline = run(program, "compiled")
    report = benchmark.pedantic(summarise, (timeline,), **ONCE)
    assert sum(report.breakdown.values()) == pytest.approx(timeline.step_time)

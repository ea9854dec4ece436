"""How long one scenario takes: the next point of a sweep, the first in a process, and the phases of both.

By name: pytest tests/benchmarks/bench_scenarios.py. DeepSeek-V3 on 2,048 GPUs, 42,734 rows, in a
process of its own, which has imported all that it needs. Nothing is simulated twice, but where the
name says so: what counts is the next point of a sweep.
"""

from __future__ import annotations

import statistics

import pytest
from processes import Scenarios

SAME: dict[str, object] = {}
POINTS = {
    "same": [SAME] * 9,
    "links": [{"topology.node.nic": f"{rate} GB/s per direction"} for rate in range(41, 50)],
    "batch": [{"training.global_batch_size": 15360 - 1024 * n} for n in range(1, 10)],
    "seed": [{"experts.seed": seed} for seed in range(100, 109)],
    "schedule": [{"schedule.name": name} for name in ("1f1b", "zb-1p", "zb-2p", "gpipe")],
    "layout": [
        {"layout.tp": 2},
        {"layout.tp": 4, "layout.ep": 32},
        *[{"layout.ep": ep} for ep in (16, 32, 128)],
    ],
}
"""What changes from point to point -> the changes."""


def check(answer):
    """Hold an answer to what every step keeps: parts that sum to it, and bounds below it."""
    assert sum(answer["parts"]) == pytest.approx(answer["step_time"])
    assert all(bound <= answer["step_time"] * (1 + 1e-9) for bound in answer["bounds"].values())


def keep_phases(benchmark, answers):
    """Record the median of each phase [s]."""
    benchmark.extra_info["phases"] = {
        name: statistics.median(answer["phases"][name] for answer in answers)
        for name in answers[0]["phases"]
    }


@pytest.mark.parametrize("kind", POINTS)
def test_next_point(benchmark, watch, scenarios, kind):
    first = scenarios.ask(SAME)
    answers = watch.time(scenarios.ask, POINTS[kind])
    keep_phases(benchmark, answers)
    for answer in answers:
        check(answer)
    steps = {answer["step_time"] for answer in answers}
    if kind == "same":
        assert steps == {first["step_time"]}
    else:
        assert len(steps) == len(answers)


def test_first_in_a_process(benchmark, watch):
    peaks, kept = [], [Scenarios() for _ in range(5)]
    answers = watch.time(lambda one: one.ask(SAME), kept)
    peaks = [one.end().peak for one in kept]
    keep_phases(benchmark, answers)
    benchmark.extra_info["peak"] = max(peaks)
    check(answers[0])
    assert len({answer["step_time"] for answer in answers}) == 1


@pytest.mark.parametrize("executor", ["simpy", "compiled"])
def test_executor(benchmark, watch, scenarios, executor):
    # The same program to the last bit, by the reference and by compiled code.
    first = scenarios.ask(SAME)
    answers = watch.time(lambda sets: scenarios.ask(sets, executor=executor), [SAME] * 3)
    keep_phases(benchmark, answers)
    assert {answer["step_time"] for answer in answers} == {first["step_time"]}

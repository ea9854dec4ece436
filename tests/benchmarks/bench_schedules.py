"""How long schedules of 64 stages and 2,000 micro-batches take. By name: pytest tests/benchmarks/bench_schedules.py.

The aim is 1 s for building one, warm. ZB-1p and ZB-2p try 128 rules; their compiled code is kept on
disk after the first use. What every load does besides, checking a schedule and finding what waits
for what, is timed too.
"""

import pytest

from simulator.schedules import SCHEDULES, Schedule, build, check, dependencies, makespan

STAGES, MICRO_BATCHES = 64, 2000
TIMES = {"F": 1, "I": 0.98, "W": 0.6, "FB": 2.3, "comm": 0.03}
NAMES = [name for name in SCHEDULES if name != "custom"]


def built(name):
    # Interleaved wants a multiple of its ranks.
    virtual = 2 if name == "interleaved" else SCHEDULES[name].virtual
    ranks = STAGES // virtual
    micro_batches = -(-MICRO_BATCHES // ranks) * ranks if name == "interleaved" else MICRO_BATCHES
    return build(name, ranks, micro_batches, virtual=virtual, times=TIMES)


@pytest.mark.parametrize("name", NAMES)
def test_build(benchmark, name):
    schedule = benchmark.pedantic(built, (name,), rounds=3, warmup_rounds=1)
    assert schedule.stages == STAGES


@pytest.mark.parametrize("name", NAMES)
def test_check(benchmark, name):
    schedule = built(name)

    def anew():
        return (
            Schedule(schedule.name, schedule.stages, schedule.micro_batches, schedule.ranks),
        ), {}

    benchmark.pedantic(check, setup=anew, rounds=3)


@pytest.mark.parametrize("name", NAMES)
def test_dependencies(benchmark, name):
    assert len(benchmark.pedantic(dependencies, (built(name),), rounds=3)) <= STAGES


@pytest.mark.parametrize("name", NAMES)
def test_spans(benchmark, name):
    schedule = built(name)
    schedule.order  # noqa: B018 - found once, then kept
    end, idle = benchmark.pedantic(makespan, (schedule, TIMES), rounds=3)
    assert 0 <= min(idle) <= end

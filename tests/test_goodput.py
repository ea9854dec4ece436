"""Goodput: literal runs, the closed forms of periodic checkpoints, and sums that hold."""

from dataclasses import replace

import numpy as np
import pytest

from simulator.errors import InputError
from simulator.goodput import (
    Cause,
    Checkpoints,
    Maintenance,
    Risks,
    Slow,
    daly_interval,
    expected_wall,
    goodput,
    replica,
    young_interval,
)
from simulator.goodput.replica import _Run

DAY = 86400.0
FAILS = Risks(
    Checkpoints(every=1800.0, stall=60.0),
    (Cause("gpu", 1 / 15_000), Cause("network", 1 / 30_000)),
    detection=300.0,
    restart=600.0,
)


def run(work, risks, seed=0):
    return replica(work, risks, (seed,))


def test_a_run_to_which_nothing_happens_takes_its_steps_and_nothing_else():
    outcome = run(1e6, Risks(Checkpoints(every=1000.0)))
    assert outcome.wall == 1e6
    assert outcome.training == 1e6


def test_a_checkpoint_between_every_two_segments_and_none_behind_the_last():
    # 3,000 s in three segments: two checkpoints of 60 s.
    outcome = run(3000.0, Risks(Checkpoints(every=1000.0, stall=60.0)))
    assert outcome.checkpoints == 120.0
    assert outcome.wall == 3120.0


def scripted(work, risks, *strikes):
    """Run with failures at given times instead of random ones: (time, cause)."""
    import simpy

    env = simpy.Environment()
    one = _Run(env, work, risks)
    process = env.process(one.train())

    def strike():
        for at, cause in strikes:
            yield env.timeout(at - env.now)
            process.interrupt(cause)

    env.process(strike())
    env.run(until=process)
    assert one.outcome.wall == pytest.approx(env.now)
    return one.outcome


def test_a_failure_loses_what_no_checkpoint_holds():
    # Checkpoint at 1,000 to 1,060 s; it fails at 1,500 s, 440 s later: down 300 + 600 s, and 440 s again.
    # The rest of 2,000 s: a second segment of 1,000 s, and then it is over.
    risks = Risks(Checkpoints(1000.0, 60.0), detection=300.0, restart=600.0)
    outcome = scripted(2000.0, risks, (1500.0, "gpu"))
    assert (outcome.lost, outcome.detection, outcome.restart) == (440.0, 300.0, 600.0)
    assert outcome.wall == 2000.0 + 60.0 + 440.0 + 900.0


def test_a_failure_before_an_asynchronous_checkpoint_has_arrived_loses_two_segments():
    # Written from 1,000 s on, stalls 10 s, safe at 1,210 s. A failure at 1,110 s loses 1,000 + 100 s.
    risks = Risks(Checkpoints(1000.0, stall=10.0, lag=200.0))
    assert scripted(2000.0, risks, (1110.0, "gpu")).lost == pytest.approx(1100.0)
    # At 1,310 s it is there: 300 s since.
    assert scripted(2000.0, risks, (1310.0, "gpu")).lost == pytest.approx(300.0)


def test_a_failure_during_the_restart_begins_it_again():
    risks = Risks(Checkpoints(1000.0), detection=100.0, restart=600.0)
    # Fails at 500 s, and again 400 s into the restart, at 1,000 s: 100 + 400, then 100 + 600 s.
    outcome = scripted(1000.0, risks, (500.0, "gpu"), (1000.0, "gpu"))
    assert (outcome.detection, outcome.restart) == (200.0, 1000.0)
    assert outcome.failures == 2
    assert outcome.wall == 1000.0 + 500.0 + 1200.0


def test_without_spares_a_failed_node_is_waited_for():
    risks = Risks(Checkpoints(1000.0), restart=100.0, spares=0, repair=5000.0)
    outcome = scripted(1000.0, risks, (500.0, "gpu"))
    assert outcome.parts == 5000.0
    with_one = scripted(1000.0, replace(risks, spares=1), (500.0, "gpu"))
    assert with_one.parts == 0.0


def test_a_slow_node_slows_the_run_until_it_is_found():
    # At half the pace from 200 s on, found 400 s later: 200 s of work are done meanwhile. Then a restart.
    risks = Risks(Checkpoints(10_000.0), restart=50.0, slow=Slow(pace=0.5, found=400.0))
    outcome = scripted(1000.0, risks, (200.0, "slow"))
    assert outcome.slowed == pytest.approx(200.0)
    assert outcome.wall == pytest.approx(1000.0 + 200.0 + 50.0)


def test_maintenance_takes_its_time_and_loses_nothing():
    risks = Risks(Checkpoints(10_000.0), maintenance=Maintenance(every=1000.0, takes=100.0))
    outcome = run(2500.0, risks)
    # At 1,000, 2,000 s of the clock: 1,000 s of work, then 900 s, then the other 600.
    assert outcome.maintenance == 200.0
    assert outcome.wall == 2700.0


def test_a_failure_during_a_planned_stop_loses_nothing_since_the_run_was_saved_for_it():
    # Stopped at 400 s: 10 + 20 s until the checkpoint is safe. It fails 70 s into the 100 s of the stop.
    risks = Risks(Checkpoints(1000.0, stall=10.0, lag=20.0), maintenance=Maintenance(takes=100.0))
    outcome = scripted(1000.0, risks, (400.0, "maintenance"), (500.0, "gpu"))
    assert (outcome.lost, outcome.checkpoints, outcome.maintenance) == (0.0, 30.0, 70.0)
    assert outcome.wall == 1000.0 + 30.0 + 70.0


def test_parts_sum_up_to_the_wall_time_whatever_happens():
    risks = replace(
        FAILS,
        spares=1,
        repair=0.5 * DAY,
        maintenance=Maintenance(7 * DAY, 3600.0),
        slow=Slow(1 / (2 * DAY), 0.8, 7200.0),
    )
    found = goodput(10 * DAY, risks, replicas=20)
    assert sum(found.parts.values()) == pytest.approx(1.0)
    assert all(share > 0 for share in found.parts.values())


@pytest.mark.parametrize("every", [600.0, 1800.0, 7200.0])
@pytest.mark.slow
def test_the_mean_is_that_of_the_closed_form(every):
    risks = replace(FAILS, checkpoints=Checkpoints(every, 60.0))
    work = 5 * DAY
    found = goodput(work, risks, replicas=200)
    exact = expected_wall(work, risks) / work
    assert abs(found.mean - exact) < 3.5 * found.error


@pytest.mark.slow
def test_the_best_interval_is_youngs_and_dalys_within_the_error():
    # Simulated: no interval of a wide range beats Daly's by more than chance allows.
    rate = FAILS.rate
    daly = daly_interval(60.0, rate)
    assert daly == pytest.approx(young_interval(60.0, rate), rel=0.1)
    means = {}
    for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
        risks = replace(FAILS, checkpoints=Checkpoints(daly * factor, 60.0))
        means[factor] = goodput(5 * DAY, risks, replicas=100)
    best = means[1.0]
    for found in means.values():
        assert best.mean < found.mean + 3.0 * np.hypot(best.error, found.error)
    assert best.mean < means[0.25].mean
    assert best.mean < means[4.0].mean


def test_dalys_interval_is_the_minimum_of_the_closed_form():
    daly = daly_interval(60.0, FAILS.rate)

    # Whole segments only: the mean per second of training.
    def cost(every):
        risks = replace(FAILS, checkpoints=Checkpoints(every, 60.0))
        return expected_wall(2 * every, risks) - expected_wall(every, risks)

    rates = {factor: cost(daly * factor) / (daly * factor) for factor in (0.8, 0.9, 1.0, 1.1, 1.25)}
    assert min(rates, key=rates.get) == 1.0


def test_the_same_seed_gives_the_same_run():
    assert run(5 * DAY, FAILS, 7) == run(5 * DAY, FAILS, 7)
    assert run(5 * DAY, FAILS, 7) != run(5 * DAY, FAILS, 8)


def test_waits_until_as_many_nodes_are_back_as_spares_ran_out():
    # One spare, taken at 500 s. From 600 s on one node has to come back, until the failure at 700 s; then
    # three are away, of which two have to come back, the second at 5,600 s.
    risks = Risks(Checkpoints(1000.0), spares=1, repair=5000.0)
    outcome = scripted(1000.0, risks, (500.0, "gpu"), (600.0, "gpu"), (700.0, "gpu"))
    assert outcome.parts == 100.0 + 4900.0
    assert outcome.lost == 500.0 + 100.0
    assert outcome.failures == 3


@pytest.mark.parametrize(
    "risks",
    [
        Risks(Checkpoints(1800.0, 60.0), (Cause("gpu", 1.0),), detection=300.0),
        Risks(Checkpoints(1800.0, 60.0), (Cause("gpu", 1e9),)),
        Risks(Checkpoints(1e-9)),
        Risks(Checkpoints(1800.0), maintenance=Maintenance(1.0, 3600.0)),
        Risks(Checkpoints(1800.0), maintenance=Maintenance(1e-6, 1.0)),
    ],
    ids=[
        "fails-before-it-restarts",
        "fails-at-once",
        "saves-always",
        "stops-always",
        "stops-at-once",
    ],
)
@pytest.mark.slow
def test_a_run_that_never_ends_is_given_up(risks):
    with pytest.raises(InputError, match="of its training in 500,000 events"):
        run(5 * DAY, risks)

"""Every schedule as a step of the simulator: it is lowered, runs to its end, and folds exactly."""

import pytest
from builders import scenario, simulated

from simulator.costs import price
from simulator.program import chunk_times, lower, schedule_of
from simulator.schedules import SCHEDULES, check, peak_in_flight

NAMES = [name for name in SCHEDULES if name != "custom"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_every_schedule_runs_as_a_step_and_folds_exactly(name):
    one = scenario(schedule__name=name, layout__pp=2, layout__stages="balanced")
    folded, unfolded = (simulated(one, folded=how) for how in (True, False))
    assert folded.step_time == pytest.approx(unfolded.step_time, rel=1e-9)
    run = [(a[2], a[1]) for a in folded.program.actions if a[2] != "update"]
    assert len(run) == sum(
        len(folded.program.schedule.ranks[one.layout.pipeline_index(rank)])
        for rank in folded.program.first_rank.tolist()
    )


@pytest.mark.parametrize("name", [name for name in NAMES if SCHEDULES[name].timed])
@pytest.mark.slow
def test_a_searched_schedule_is_searched_with_the_times_of_the_step(name):
    one = scenario(schedule__name=name, layout__pp=4, layout__stages="balanced")
    costs = price(one)
    schedule, times = schedule_of(one, costs), chunk_times(one, costs)
    check(schedule)
    assert lower(one).schedule == schedule
    assert max(peak_in_flight(schedule)) <= (4 if name == "zb-1p" else 8)
    # A stage's seconds are those of its blocks' kernels; F also waits for dispatch and combine, W
    # for nothing.
    parts = (("F", ("attention_f", "mlp_f")), ("W", ("mlp_w", "side_w", "attention_w")))
    for kind, phases in parts:
        for stage in range(4):
            seconds = sum(
                block.phases[phase].total for block in costs.stage(stage) for phase in phases
            )
            waits = kind == "F" and any(block.exchanges_experts for block in costs.stage(stage))
            assert (
                times.seconds(kind, stage) > seconds
                if waits
                else (times.seconds(kind, stage) == pytest.approx(seconds))
            )
    assert times.comm == pytest.approx(costs.activation_bytes() / one.topology.node.nic)


def test_other_schedules_keep_their_order_whatever_the_times():
    one = scenario(schedule__name="dualpipe")
    assert schedule_of(one, price(one)) is one.pipeline.fixed

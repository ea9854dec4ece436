"""What is due at one instant happens as one: no step hangs on the last bit of a speed."""

from dataclasses import replace

import numpy as np
import pytest
from builders import faster, flow, kernel, program, scenario, transfer

from simulator import engine
from simulator.engine import EXECUTORS
from simulator.engine.instants import INSTANT
from simulator.program import lower
from simulator.program.timed import schedule_of

GB = 1e9
CASES = [
    {"schedule__name": "1f1b"},
    {"schedule__name": "zb-1p", "layout__pp": 4, "training__global_batch_size": 32},
    {"schedule__name": "zb-2p", "layout__pp": 4, "training__global_batch_size": 32},
    {"schedule__name": "dualpipe", "layout__ep": 4},
]


def noisy(one, seed, size=1e-13):
    """Return a scenario in which every link and every rank is faster or slower by about `size` of itself."""
    draw = np.random.default_rng(seed).standard_normal
    net = one.network
    links = net.capacity * (1 + size * draw(len(net.capacity)))
    speed = net.speed * (1 + size * draw(len(net.speed)))
    return replace(one, network=replace(net, capacity=links, speed=speed))


@pytest.fixture(params=EXECUTORS, scope="module")
def run(request):
    return lambda one: engine.run(one, request.param)


# The engine


def test_kernels_that_are_ready_together_take_the_sms_in_the_order_of_the_program(run):
    # 0.1 + 0.2 is 0.30000000000000004, so the compute row is ready a rounding later than the side
    # row, whose wait is 0.3 at once. Both are ready at one instant: the row that comes first in the
    # program goes first.
    rows = [
        kernel(1, 0.1),
        kernel(1, 0.2),
        kernel(2, 0.3),
        kernel(0, 1.0, 1),
        kernel(0, 2.0, 2, stream="side"),
    ]
    timeline = run(program(rows))
    assert timeline.start[3:].tolist() == pytest.approx([0.3, 1.3], abs=1e-12)


def test_an_instant_is_no_longer_than_it_says(run):
    # The side row is ready three instants before the compute row, and goes first.
    rows = [
        kernel(1, 0.3 + 3 * INSTANT),
        kernel(2, 0.3),
        kernel(0, 1.0, 0),
        kernel(0, 2.0, 1, stream="side"),
    ]
    timeline = run(program(rows))
    assert timeline.start[2:].tolist() == pytest.approx([2.3, 0.3], abs=1e-12)


def test_nothing_takes_less_than_its_time(run):
    # Both ends are the later of the two.
    rows = [kernel(0, 0.5), kernel(1, 0.5 + INSTANT / 2), kernel(2, 1.0, 0, 1)]
    timeline = run(program(rows))
    assert timeline.end[:2].tolist() == [0.5 + INSTANT / 2] * 2
    assert timeline.end[2] == 1.5 + INSTANT / 2


def test_a_transfer_that_begins_as_another_ends_has_the_link_to_itself(run):
    # 15 GB at 50 GB/s end at 0.3, when the other one begins, a rounding later: 25 GB take 0.5 s.
    rows = [kernel(1, 0.1), kernel(1, 0.2), transfer(0, 0), transfer(1, 1, 1)]
    timeline = run(program(rows, (flow(15 * GB, 0), flow(25 * GB, 1))))
    assert timeline.end[2:].tolist() == pytest.approx([0.3, 0.3 + 0.5], abs=1e-9)


# Steps


@pytest.mark.slow
@pytest.mark.parametrize("changes", CASES, ids=lambda changes: changes["schedule__name"])
@pytest.mark.parametrize("k", [9e-13, -7e-13])
def test_a_step_does_not_hang_on_the_last_bits_of_all_speeds(run, changes, k):
    one = scenario(**changes)
    step = run(lower(one)).step_time
    assert run(lower(faster(one, 1 + k))).step_time == pytest.approx(step, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("changes", CASES, ids=lambda changes: changes["schedule__name"])
@pytest.mark.parametrize("seed", range(3))
def test_a_step_does_not_hang_on_the_last_bits_of_single_links_and_ranks(run, changes, seed):
    one = scenario(**changes)
    step = run(lower(one)).step_time
    other = lower(noisy(one, seed), folded=False)
    assert run(other).step_time == pytest.approx(step, rel=1e-9)


# The search of zero-bubble schedules


@pytest.mark.slow
@pytest.mark.parametrize("batch", [32, 40])
def test_the_order_that_a_search_finds_does_not_hang_on_the_last_bits_of_times(batch):
    # Were times not counted in ticks, these steps would change by 0.5 and 0.4%.
    one = scenario(schedule__name="zb-2p", layout__pp=4, training__global_batch_size=batch)
    other = faster(one, 1 + 9e-13)
    first, second = (schedule_of(each, lower(each).costs) for each in (one, other))
    assert first.ranks == second.ranks

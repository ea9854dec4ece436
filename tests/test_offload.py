"""Activations that wait in the memory of the host, and optimizer states that live there."""

import pytest
from builders import dense, lone, scenario, simulated
from parallel_cases import SHORT

from simulator import inputs
from simulator.costs import price
from simulator.costs.offload import host_update, link
from simulator.engine import run
from simulator.hardware import KernelConfig
from simulator.memory import memory, memory_of
from simulator.ops import Pass, Phase
from simulator.program import lower
from simulator.report import summarise

LAYER = 2048 * 38_944  # bytes that a layer keeps, see test_memory.py


def peaks(one):
    (rank,) = memory_of(one, price(one), one.pipeline.fixed)
    return rank.by_category


def slow(**changes):
    """Return a scenario whose copies to the host take longer than its layers."""
    one = lone(**changes)
    return one.__class__(
        **{
            **{name: getattr(one, name) for name in one.__dataclass_fields__},
            "gpu": one.gpu.model_copy(update={"host_link": one.gpu.host_link / 1000}),
        }
    )


@pytest.mark.parametrize("gpu", ["hopper", "ampere"])
def test_copies_reach_the_measured_share_of_the_link(gpu):
    rows = inputs.data("measured", "host_offload").data["copies"]
    of_gpu = {"hopper": "h100", "ampere": "a100"}[gpu]
    (row,) = (row for row in rows if row["gpu"] == of_gpu)
    table = inputs.validate(inputs.data("kernels", gpu), KernelConfig)
    assert table.host_copy == pytest.approx(row["reached"] / row["link"], abs=1e-3)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_a_share_of_what_a_layer_keeps_is_not_on_the_gpu(share):
    layers = price(lone(training__offload={"activations": share})).stage(0)
    assert [block.saved for block in layers[1:-1]] == [(1 - share) * LAYER] * 4
    plain = price(lone()).stage(0)
    assert (layers[0].saved, layers[-1].saved) == (plain[0].saved, plain[-1].saved)


# Two residual streams and the gradients of gate and up, see test_memory.py.
WORKING = 2048 * 2 * (2 * 1024 + 2 * 4096)


def test_a_layer_on_its_way_out_or_back_is_on_the_gpu():
    # Forward: one layer is computed, the one before it is still being copied. Backward: one is
    # read, the next one is coming.
    one = lone(training__offload={"activations": 1}, training__global_batch_size=1)
    assert peaks(one)["activations"] == 2 * LAYER + WORKING
    plain = lone(training__global_batch_size=1)
    assert peaks(plain)["activations"] == 4 * LAYER + WORKING


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize("name", ["1f1b", "zb-h1"])
def test_offloading_never_takes_more_of_the_gpu(name, share):
    # A stage of one layer has no other that could be coming.
    def activations(**offload):
        one = dense(layout__pp=4, schedule__name=name, training__offload=offload)
        ranks = memory_of(one, price(one), one.pipeline.fixed)
        return [rank.by_category["activations"] for rank in ranks]

    pairs = zip(activations(activations=share), activations(), strict=True)
    assert all(some <= plain for some, plain in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moe", "full"])
def test_what_is_recomputed_is_not_copied_out_again(name):
    one = scenario(
        **SHORT, layout__ep=4, training__recompute=[name], training__offload={"activations": 1}
    )
    for block in price(one).stage(1):
        again = [cost for phase, cost in block.phases.items() if block.repeats(phase)]
        assert all("offload" not in cost.seconds for cost in again)
        copied = block.memory.away / link(one)
        ahead = sum(
            cost.total for phase, cost in block.phases.items() if phase.computes == Pass.FORWARD
        )
        behind = sum(
            cost.total for phase, cost in block.phases.items() if phase.computes != Pass.FORWARD
        )
        behind += sum(cost.total for cost in again)
        assert behind >= copied * (1 - 1e-9)
        assert name == "full" or ahead >= copied * (1 - 1e-9)


@pytest.mark.slow
def test_copies_that_are_shorter_than_layers_cost_nothing():
    # 80 MB at 0.869 x 64 GB/s take 1.4 ms, a layer's forward pass less: 5% of it is hidden.
    plain, some = (
        summarise(simulated(lone(training__offload={"activations": share}))) for share in (0, 0.05)
    )
    assert some.step_time == plain.step_time
    assert some.breakdown.get("offload", 0.0) == 0.0
    assert some.worst_memory.peak < plain.worst_memory.peak


@pytest.mark.slow
def test_a_layer_waits_for_what_its_copy_takes_longer():
    one = slow(training__offload={"activations": 1})
    seconds = LAYER / link(one)  # of a copy, one way
    block = price(one).stage(0)[1]
    of_pass = {
        kind: sum(block.phases[phase].total for phase in Phase if phase.computes in kind)
        for kind in ((Pass.FORWARD,), (Pass.INPUT, Pass.WEIGHT))
    }
    assert list(of_pass.values()) == pytest.approx([seconds, seconds])


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{}, {"layout__pp": 2}, {"layout__tp": 2}, {"layout__zero": 3}])
def test_offloading_more_is_never_faster_and_bounds_hold(layout):
    times = []
    for share in (0, 0.5, 1):
        one = dense(**SHORT, **layout, training__offload={"activations": share, "optimizer": share})
        report = summarise(run(lower(one)))
        assert all(bound.seconds <= report.step_time * (1 + 1e-9) for bound in report.bounds)
        assert sum(report.breakdown.values()) == pytest.approx(report.step_time)
        times.append(report.step_time)
    assert times == sorted(times)
    assert times[0] < times[2]


@pytest.mark.slow
def test_experts_are_offloaded_under_every_load():
    one = scenario(
        **SHORT,
        training__offload={"activations": 1},
        experts__distribution="power_law",
        experts__exponent=1.0,
    )
    assert summarise(run(lower(one))).breakdown["offload"] > 0


# The optimizer


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_offloaded_states_are_not_on_the_gpu(share):
    held = peaks(lone(training__offload={"optimizer": share}))
    assert held["optimizer"] == pytest.approx((1 - share) * 71_312_384 * 12)
    assert held["gradients"] == 71_312_384 * 4


def test_a_host_updates_by_the_bandwidth_of_its_memory():
    # Out: FP32 gradients of 4 B, in: BF16 weights of 2 B; 30 B per parameter over 614.4 GB/s that
    # the GPUs of the node share.
    one = lone(training__offload={"optimizer": 1})
    count = 71_312_384
    gpus = one.topology.node.gpus
    due = count * 6 / (0.869 * one.gpu.host_link) + count * 30 * gpus / 614.4e9
    assert host_update(one, count) == pytest.approx(due)
    # The optimizer of a GPU would move 2 x 12 + 4 B of HBM and more: it is done sooner.
    plain, away = (
        summarise(simulated(lone(training__offload={"optimizer": share}))) for share in (0, 1)
    )
    assert away.breakdown["optimizer"] > plain.breakdown["optimizer"] + 0.9 * due


@pytest.mark.slow
@pytest.mark.parametrize("stack", inputs.data_names("stacks"))
def test_every_stack_can_leave_its_whole_optimizer_to_the_host(stack):
    times = [
        summarise(simulated(lone(stack=stack, training__offload={"optimizer": share}))).step_time
        for share in (0, 0.5, 1)
    ]
    assert times[0] < times[1] < times[2]


def test_what_a_host_keeps_and_what_crosses_the_link():
    # One micro-batch after another: 4 layers wait; 2 micro-batches of them go out and come back.
    one = lone(
        training__offload={"activations": 0.5, "optimizer": 1}, training__global_batch_size=2
    )
    count = 71_312_384
    use = memory(lower(one))[0].host
    assert use.kept == pytest.approx(2 * LAYER + 12 * count)
    assert use.out == pytest.approx(2 * 2 * LAYER + 4 * count)
    assert use.back == pytest.approx(2 * 2 * LAYER + 2 * count)
    assert memory(lower(lone()))[0].host == (0, 0, 0)

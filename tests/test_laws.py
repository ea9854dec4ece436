"""Laws of the whole: how a step scales, what its parts sum to, how many bytes it sends."""

import pytest
from builders import configuration_name, configurations, dense, faster, lone, scenario, simulated

from simulator.bounds import traffic
from simulator.program import lower
from simulator.report import summarise
from simulator.scenario import load
from simulator.whatif import simulate

EVERY = configurations()


def step(**changes: object) -> float:
    return simulated(scenario(**changes)).step_time


@pytest.fixture(scope="module")
def v3():
    return simulate(load("h800-2048"))


# Scaling


@pytest.mark.slow
@pytest.mark.parametrize("changes", EVERY[::4] + EVERY[3::8], ids=configuration_name)
@pytest.mark.parametrize("k", [3.0, 0.5])
def test_hardware_k_times_as_fast_in_every_respect_divides_the_step_by_k(changes, k):
    one = scenario(**changes)
    first, second = summarise(simulated(one)), summarise(simulated(faster(one, k)))
    assert second.step_time == pytest.approx(first.step_time / k, rel=1e-9)
    scaled = {name: seconds / k for name, seconds in first.breakdown.items()}
    assert second.breakdown == pytest.approx(scaled, rel=1e-6, abs=1e-9 * second.step_time)


def test_a_faster_gpu_alone_does_not_divide_the_step_by_as_much():
    one = scenario(node__nic="5 GB/s per direction")
    assert simulated(one).step_time / 10 < simulated(faster(one, 10.0, links=False)).step_time


@pytest.mark.slow
def test_half_the_nic_makes_deepseek_v3_slower(v3):
    assert (
        simulate(load("h800-2048", sets={"node.nic": "25 GB/s per direction"})).step_time
        > v3.step_time
    )


@pytest.mark.slow
def test_the_full_nvlink_of_h100_makes_deepseek_v3_faster(v3):
    h100 = simulate(load("h100-2048"))
    assert h100.step_time < v3.step_time
    assert h100.breakdown["gemm"] == pytest.approx(
        v3.breakdown["gemm"], rel=1e-12
    )  # the same compute


@pytest.mark.parametrize(("name", "sizes"), [("1f1b", range(2, 12)), ("dualpipe", range(4, 16, 2))])
@pytest.mark.slow
def test_more_micro_batches_take_longer(name, sizes):
    steps = [step(schedule__name=name, training__global_batch_size=4 * count) for count in sizes]
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps)


@pytest.mark.parametrize(
    "changes",
    [
        {"model__num_hidden_layers": 6},
        {"training__seq_length": 4096},
        {"model__hidden_size": 2048},
        {"model__num_nextn_predict_layers": 1},
        {"model__moe_intermediate_size": 2048},
    ],
    ids=configuration_name,
)
@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.slow
def test_a_larger_model_or_longer_sequence_takes_longer(changes, name):
    assert step(schedule__name=name, **changes) > step(schedule__name=name)


@pytest.mark.slow
def test_more_replicas_at_the_same_batch_per_replica_take_as_long_without_experts_or_longer():
    # Only the gradients' way grows, from (n-1)/n of the parameters with n. ZeRO 1 would also shrink
    # the optimizer.
    few, many = (
        simulated(dense(nodes=nodes, training__global_batch_size=8 * nodes, layout__zero=0))
        for nodes in (2, 8)
    )
    assert few.step_time < many.step_time < 1.2 * few.step_time


# Sums


@pytest.mark.parametrize("changes", EVERY, ids=configuration_name)
@pytest.mark.slow
def test_parts_and_phases_sum_to_the_step_and_none_is_negative(changes):
    one = summarise(simulated(scenario(**changes)))
    for parts in (one.breakdown, one.phases):
        assert sum(parts.values()) == pytest.approx(one.step_time, rel=1e-9)
        assert min(parts.values()) >= -1e-12 * one.step_time
    assert max(one.utilisation.values()) <= 1 + 1e-9
    assert one.executed_flops >= 0.95 * one.model_flops


def test_one_gpu_never_idles():
    parts = summarise(simulated(lone())).breakdown
    idle = ("expert_waiting", "expert_exposed", "pipeline_exposed", "data_exposed", "bubble")
    assert [parts[name] for name in idle] == pytest.approx([0.0] * 5, abs=1e-12)


def test_what_a_whole_run_costs_follows_from_the_step():
    # 1e9 tokens in steps of 16 x 2,048: 30,517.58 steps; 8 GPUs; 2 USD per GPU-hour.
    one = summarise(simulated(scenario()))
    hours = 1e9 / (16 * 2048) * one.step_time / 3600 * 8
    assert one.gpu_hours == pytest.approx(hours, rel=1e-12)
    assert one.cost == pytest.approx(2 * hours, rel=1e-12)


# Bytes


def test_expert_traffic_is_four_exchanges_per_layer_and_micro_batch():
    # ep 4 over 2 nodes of 2 GPUs, no pipeline: 16 sequences / 4 replicas = 4 micro-batches of 2,048
    # tokens x 1,024; 3 MoE layers; dispatch and cached dispatch at FP8 with a 4 B scale per 128,
    # two combines in BF16.
    one = lower(
        scenario(
            node__gpus=2, node__nics=2, layout__pp=1, layout__ep=4, precision__recipe="fp8_block"
        )
    )
    routing = one.costs.loads.even
    per_copy = 2048 * 1024 * (2 * (1 + 4 / 128) + 2 * 2.0) * 3 * 4
    assert routing.ep_nodes == 2
    assert traffic(one)["expert"] == pytest.approx(
        (routing.over_nic * per_copy, routing.over_nvlink * per_copy)
    )


def test_an_expert_group_within_a_node_uses_nvlink_alone():
    # ep 4 on one node of 4; pp 2 halves the layers that a GPU holds: 3 MoE layers / 2, on average.
    one = lower(scenario(layout__ep=4))
    per_copy = 2048 * 1024 * 4 * 2.0 * 3 * 4 / 2
    assert traffic(one)["expert"] == (
        0.0,
        pytest.approx(one.costs.loads.even.over_nvlink * per_copy),
    )


def test_pipeline_traffic_is_an_activation_and_a_gradient_per_boundary_and_micro_batch():
    # pp 2 over 2 nodes: rank r sends 4 micro-batches of 2,048 x 1,024 x 2 B to rank r + 4 on its
    # rail, and back: each GPU sends one of the two.
    assert traffic(lower(scenario()))["pipeline"] == (4 * 2048 * 1024 * 2.0, 0.0)


def test_pipeline_traffic_within_a_node_uses_nvlink():
    # pp 4 on a node of 4 GPUs: 3 boundaries x 2 directions x 8 micro-batches x 4 MiB over 4 GPUs; 2
    # nodes alike.
    one = lower(
        dense(nodes=1, fabric__kind="single_node", layout__pp=4, training__global_batch_size=8)
    )
    assert traffic(one)["pipeline"] == (0.0, pytest.approx(3 * 2 * 8 * 2048 * 1024 * 2.0 / 4))


def gradients_and_parameters(nodes: int, gpus: int, **changes: object):
    """Return (NIC, NVLink) bytes of data parallelism alone, and what is reduced and gathered: 4 + 2 B of each parameter."""
    one = lower(
        dense(
            nodes=nodes,
            node__gpus=gpus,
            node__nics=gpus,
            layout__pp=1,
            training__global_batch_size=nodes * gpus,
            **changes,
        )
    )
    return traffic(one)["data"], 6 * one.scenario.model.parameters


SHAPES = [(2, 4), (4, 2), (8, 1), (3, 2)]


@pytest.mark.parametrize(("nodes", "gpus"), SHAPES)
@pytest.mark.slow
def test_data_traffic_is_a_reduce_scatter_in_fp32_and_an_all_gather_in_bf16(nodes, gpus):
    # NCCL's rings through all n GPUs: (n-1)/n of the size leaves each of them. A node's last member
    # sends to the next node's first one, on another rail: it crosses NVLink to that rail's NIC first.
    sent, size = gradients_and_parameters(nodes, gpus)
    passed = (nodes * gpus - 1) / (nodes * gpus) * size
    assert sent == pytest.approx((passed / gpus, passed if gpus > 1 else 0.0))


@pytest.mark.parametrize(("nodes", "gpus"), SHAPES)
@pytest.mark.slow
def test_hierarchical_rings_send_only_a_part_of_the_data_across_nodes(nodes, gpus):
    # (g-1)/g over NVLink, then (n-1)/n of a g-th over the NIC.
    sent, size = gradients_and_parameters(
        nodes, gpus, communication__data__algorithm="hierarchical_ring"
    )
    assert sent == pytest.approx(((nodes - 1) / nodes / gpus * size, (gpus - 1) / gpus * size))


@pytest.mark.slow
def test_routed_experts_are_reduced_among_the_gpus_that_hold_the_same_ones():
    # 8 GPUs of one node, ep 4: dense parameters among 8 GPUs, routed ones (a quarter per GPU) among
    # 2.
    one = lower(scenario(nodes=1, node__gpus=8, node__nics=8, layout__pp=1, layout__ep=4))
    model = one.scenario.model
    routed = model.moe_layers * model.n_routed_experts * model.expert_parameters
    sent = 6 * ((model.parameters - routed) * 7 / 8 + routed / 4 / 2)
    assert traffic(one)["data"] == (0.0, pytest.approx(sent))


@pytest.mark.slow
def test_schedules_send_the_same_bytes_for_the_same_work():
    # DualPipe holds every stage twice, so parameters travel between more ranks; tokens and
    # activations do not.
    first, second = (
        traffic(lower(scenario(schedule__name=name, layout__ep=4))) for name in ("1f1b", "dualpipe")
    )
    assert first["expert"] == pytest.approx(second["expert"])
    assert first["pipeline"] == pytest.approx(second["pipeline"])
    assert sum(first["data"]) < sum(second["data"])

"""What does not change when a model is cut, and how many bytes the cuts cost, each by hand."""

import pytest
from builders import configuration_name, dense, scenario, simulated
from parallel_cases import DENSE, GPT, MLA, MODELS, SHORT, changes, every_case

from simulator.bounds import traffic
from simulator.costs import buckets, price, work
from simulator.engine import run
from simulator.errors import InputError, LayoutError
from simulator.ops import Op
from simulator.ops.attention_core import core
from simulator.program import Program, lower
from simulator.program.coflows import stage_hosts

ONE_NODE = {"nodes": 1, "fabric__kind": "single_node", "layout__pp": 1}
every = pytest.mark.parametrize(
    ("model", "layout"),
    every_case(),
    ids=lambda one: one if isinstance(one, str) else configuration_name(one),
)


def executed(one: Program) -> float:
    """Return the FLOPs that all GPUs execute in a step, without recomputation."""
    each = (
        sum(flops.values()) - repeated
        for flops, repeated in zip(one.flops, one.recomputed, strict=True)
    )
    return sum(count * flops for count, flops in zip(one.multiplicity.tolist(), each, strict=True))


@pytest.fixture(scope="module")
def uncut():
    return {
        model: executed(lower(scenario(**changes(model, {"layout__pp": 1})))) for model in MODELS
    }


# What stays


@pytest.mark.slow
@every
def test_all_gpus_together_execute_the_same_flops_however_the_model_is_cut(uncut, model, layout):
    assert executed(lower(scenario(**changes(model, layout)))) == pytest.approx(
        uncut[model], rel=1e-9
    )


@pytest.mark.parametrize("tp", [2, 4])
@pytest.mark.slow
def test_key_value_heads_that_are_fewer_than_gpus_are_computed_on_several(tp):
    # 2 key-value heads of 128: with tp 4 each is computed twice. Forward, input and weight gradient
    # of 2 x 128 more columns, 1,024 wide, in 4 layers.
    extra = max(tp, 2) - 2
    one, cut = (
        executed(lower(dense(**SHORT, layout__pp=1, layout__tp=n, model__num_key_value_heads=2)))
        for n in (1, tp)
    )
    assert cut - one == pytest.approx(6 * 16 * 512 * 4 * 2 * extra * 128 * 1024, rel=1e-6, abs=1.0)


@pytest.mark.slow
def test_without_sequence_parallelism_every_gpu_compresses_all_tokens():
    # MLA's compressions, 384 and 256 + 32 columns from 1,024: 6 FLOPs per weight and token on one
    # GPU more, 4 layers.
    one, cut = (
        executed(
            lower(
                scenario(
                    **SHORT,
                    **DENSE,
                    **MLA,
                    layout__pp=1,
                    layout__tp=n,
                    layout__sequence_parallel=False,
                )
            )
        )
        for n in (1, 2)
    )
    assert cut - one == pytest.approx(6 * 16 * 512 * 4 * (384 + 256 + 32) * 1024, rel=1e-6)


@pytest.mark.slow
@every
def test_every_parameter_is_held_once_by_the_gpus_that_part_it(model, layout):
    one = scenario(**changes(model, layout))
    costs, degrees = price(one), one.layout
    held = [costs.parameters(stage) for stage in range(one.pipeline.stages)]
    total = sum(dense_ * degrees.tp + routed * degrees.ep * degrees.etp for dense_, routed in held)
    assert total == pytest.approx(
        sum(sum(one.model.block_parameters(kind)) for kind in one.model.blocks), rel=1e-12
    )


@pytest.mark.slow
@every
def test_zero_keeps_every_optimizer_state_once_or_once_per_hybrid_group(model, layout):
    one = scenario(**changes(model, layout))
    costs, degrees, hosts = price(one), one.layout, stage_hosts(one.pipeline.fixed)
    states = 0.0
    for index in range(degrees.pp):
        stages = tuple(stage for stage, indices in hosts.items() if index in indices)
        states += degrees.per_stage * sum(buckets.updated(costs, degrees, hosts, stages))
    copies = [1, 1]
    for number, group in enumerate(("data", "expert_data")):
        members = degrees.groups(group).shape[1] * len(hosts[0])
        if degrees.zero == 0:
            copies[number] = members
        elif degrees.shard:
            copies[number] = max(1, members // degrees.shard)
    blocks = [one.model.block_parameters(kind) for kind in one.model.blocks]
    assert states == pytest.approx(
        sum(block[number] * copies[number] for block in blocks for number in (0, 1))
    )


# Bytes over NVLink, per GPU and step

LOSS = 3 * 2 * 4
"""Bytes of a token in the sums of Megatron's loss: three of 4 B, two passes each."""


def nvlink(kind: str, **given: object) -> float:
    nic, sent = traffic(lower(scenario(**{**ONE_NODE, **given}))).get(kind, (0.0, 0.0))
    assert nic == 0.0
    return sent


@pytest.mark.parametrize("tp", [2, 4])
@pytest.mark.parametrize("model", [DENSE, GPT], ids=["gqa", "gpt"])
@pytest.mark.slow
def test_tensor_parallelism_with_sequence_parallelism_by_hand(tp, model):
    # Per layer: forward, the inputs of attention and of the FFN are gathered, their outputs
    # scattered; backward, the outputs' gradients are gathered, the inputs gathered again, the
    # inputs' gradients scattered: 4 + 6 passes. Embedding: its output scattered, its gradient
    # gathered. Head: input gathered, again, its gradient scattered. A pass moves (tp - 1) / tp of
    # 512 x 1,024 x 2 B; 16 / (4 / tp) micro-batches, 4 layers. The loss sums three numbers of a token.
    passes = 4 * (4 + 6) + 2 + 3
    token = passes * 1024 * 2 + LOSS
    due = token * (tp - 1) / tp * 512 * 16 / (4 / tp)
    assert nvlink("tensor", **SHORT, **model, layout__tp=tp) == pytest.approx(due, rel=1e-12)


@pytest.mark.parametrize("tp", [2, 4])
@pytest.mark.slow
def test_tensor_parallelism_with_all_reduces_by_hand(tp):
    # Megatron's first form (arXiv 1909.08053): two all-reduces forward and two backward per layer,
    # each two passes; one behind the embedding, one behind the head's input gradient.
    token = 2 * (4 * 4 + 2) * 1024 * 2 + LOSS
    due = token * (tp - 1) / tp * 512 * 16 / (4 / tp)
    sent = nvlink("tensor", **SHORT, **DENSE, layout__tp=tp, layout__sequence_parallel=False)
    assert sent == pytest.approx(due, rel=1e-12)


def test_mla_gathers_its_compressed_vectors_instead_of_the_residual_stream():
    # Attention's input, forward, again and gradient: 384 and 256 + 32 wide instead of 1,024. Its
    # output as ever: 2.
    narrow, wide = 384 + 256 + 32, 1024
    columns = 4 * (3 * narrow + (2 + 5) * wide) + 5 * wide
    due = (columns * 2 + LOSS) * 1 / 2 * 512 * 16 / 2
    assert nvlink("tensor", **SHORT, **DENSE, **MLA, layout__tp=2) == pytest.approx(due, rel=1e-12)


@pytest.mark.parametrize("way", ["p2p", "all_gather"])
@pytest.mark.parametrize(
    ("model", "width"),
    [(DENSE, 4 * 128 + 4 * 128), ({**DENSE, **MLA}, 8 * 96 + 8 * 64)],
    ids=["gqa", "mla"],
)
@pytest.mark.slow
def test_context_parallelism_by_hand(way, model, width):
    # Keys and values of the whole sequence pass forward once. Backward: in the ring once more,
    # their gradients with them; gathered once more, their gradients scattered. 3/4 of 512 x width x
    # 2 B, 3 times, in 4 layers; cp 4 on 4 GPUs: 16 micro-batches.
    due = 3 * 3 / 4 * 512 * width * 2 * 4 * 16
    assert nvlink("context", **SHORT, **model, layout__cp=4, layout__cp_comm=way) == pytest.approx(
        due, rel=1e-12
    )


@pytest.mark.parametrize(
    ("model", "forward", "backward"),
    [
        # Queries and output have 8 heads of 128, keys and values 4; MLA 8 heads of 96 and 64.
        (DENSE, 8 * 128 + 4 * 128 + 4 * 128 + 8 * 128, 3 * 8 * 128 + 2 * 4 * 128),
        ({**DENSE, **MLA}, 8 * 96 + 8 * 96 + 8 * 64 + 8 * 64, 3 * 8 * 64 + 2 * 8 * 96),
    ],
    ids=["gqa", "mla"],
)
@pytest.mark.slow
def test_spread_heads_by_hand(model, forward, backward):
    # Each GPU has 512 / 4 tokens and sends 3/4 of each tensor, BF16. Forward: queries, keys, values,
    # output; backward: output, its gradient, those of queries, keys, values. 4 layers, 16
    # micro-batches.
    due = 3 / 4 * 512 / 4 * (forward + backward) * 2 * 4 * 16
    assert nvlink("context", **SHORT, **model, layout__cp=4, layout__cp_comm="a2a") == (
        pytest.approx(due, rel=1e-12)
    )


def test_spread_heads_see_the_whole_sequence_in_one_kernel():
    # cp 2: 4 of 8 heads, all 512 tokens. A ring has two kernels of 256 tokens; the FLOPs are equal.
    given = work(dense(**SHORT, layout__pp=1, layout__cp=2, layout__cp_comm="a2a"), None)
    ring = work(dense(**SHORT, layout__pp=1, layout__cp=2), None)
    (spread,) = (op for op in core(given) if isinstance(op, Op) and op.kind == "attention")
    (passed,) = (op for op in core(ring) if isinstance(op, Op) and op.kind == "attention")
    assert (spread.seq_length, spread.shape.groups, spread.launches) == (512, 4, 1)
    assert (passed.seq_length, passed.shape.groups, passed.launches) == (256, 8, 2)
    assert spread.flops == passed.flops
    assert spread.saved == passed.saved
    # Copies in front of each exchange and behind it: 3 tensors on the way in, 1 on the way out.
    copies = [op for op in core(given) if isinstance(op, Op) and op.kind == "copy"]
    assert [op.launches for op in copies] == [3, 3, 1, 1]
    assert [op.bytes for op in copies] == [4 * 256 * 2048] * 2 + [4 * 256 * 1024] * 2


def test_heads_that_cannot_be_spread_are_refused():
    # 4 key-value heads over tp 2: two for each rank, which cp 4 cannot share.
    with pytest.raises(LayoutError, match="has 2 of keys and values"):
        dense(**SHORT, layout__pp=1, layout__tp=2, layout__cp=4, layout__cp_comm="a2a")


def test_an_algorithm_of_gathers_is_refused_where_heads_are_spread():
    one = dense(
        **SHORT,
        layout__pp=1,
        layout__cp=2,
        layout__cp_comm="a2a",
        communication__context__algorithm="ring",
    )
    with pytest.raises(InputError, match="which runs pairwise all-to-alls"):
        lower(one)


def test_tensor_parallelism_cuts_what_context_parallelism_moves():
    # 4 key-value heads over tp 2: half of each; every GPU of cp 2 moves 1/2 of 512 tokens.
    due = 3 * 1 / 2 * 512 * (4 * 128 + 4 * 128) / 2 * 2 * 4 * 16
    assert nvlink("context", **SHORT, **DENSE, layout__cp=2, layout__tp=2) == pytest.approx(
        due, rel=1e-12
    )


@pytest.mark.slow
def test_expert_tensor_parallelism_by_hand():
    # etp 2 x ep 2: a GPU gathers what its peer received, and scatters the results; gradients
    # likewise: 4 passes of 1/2 of 2 x received x 1,024 x 2 B. 3 MoE layers, 16 / 4 micro-batches.
    one = scenario(**{**ONE_NODE, **SHORT, "layout__ep": 2, "layout__etp": 2})
    received = price(one).work.received
    assert 512 < received < 2 * 512  # tokens reach both GPUs more often than not
    due = 4 * 1 / 2 * 2 * received * 1024 * 2 * 3 * 4
    assert nvlink("tensor", **SHORT, layout__ep=2, layout__etp=2) == pytest.approx(due, rel=1e-12)


@pytest.mark.slow
def test_dispatch_carries_each_gpus_own_tokens_alone():
    # With tp 2 and sequence parallelism a GPU dispatches half of the tokens; twice the
    # micro-batches of tp 1.
    whole = nvlink("expert", **SHORT, layout__ep=4)
    cut = nvlink("expert", **SHORT, layout__ep=4, layout__tp=2, layout__etp=1)
    assert cut == pytest.approx(whole, rel=1e-12)


OVERLAPPED = {**ONE_NODE, **DENSE, "layout__tp": 4, "training__global_batch_size": 2}
WIDE = {"model__hidden_size": 8192, "model__intermediate_size": 28672, "training__seq_length": 4096}


def with_and_without_overlap(**given: object) -> tuple[Program, Program]:
    one, other = (
        lower(scenario(**OVERLAPPED, **given, layout__tp_comm_overlap=overlap))
        for overlap in (True, False)
    )
    return one, other


@pytest.mark.parametrize("wide", [WIDE, {}], ids=["wide", "narrow"])
@pytest.mark.slow
def test_overlap_moves_the_same_bytes_in_less_time_and_longer_kernels(wide):
    # Pieces read all weights each, fill the last wave worse, and some leave SMs to the transfer.
    overlapping, plain = with_and_without_overlap(**wide)
    assert traffic(overlapping) == traffic(plain)
    assert run(overlapping).step_time < run(plain).step_time
    busy, whole = (one.class_seconds[0]["gemm"] for one in (overlapping, plain))
    assert busy > 1.02 * whole


def test_overlap_without_sequence_parallelism_is_refused():
    # An all-reduce behind each pair of layers has no parts to pass on.
    with pytest.raises(InputError, match="without layout"):
        with_and_without_overlap(**WIDE, layout__sequence_parallel=False)


@pytest.mark.slow
def test_gpus_with_loads_of_their_own_gather_their_own_bytes_in_expert_tensor_groups():
    keys = {"layout__ep": 2, "layout__etp": 2, "layout__tp": 2, "layout__pp": 1}
    unlike = {"distribution": "log_normal", "sigma": 0.5, "seed": 3}
    worst, each = (
        simulated(scenario(**keys, experts={**unlike, "resolve": how})) for how in ("worst", "each")
    )
    assert each.step_time == pytest.approx(worst.step_time, rel=0.05)

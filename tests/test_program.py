"""What an action becomes: the order of its ops on streams, what waits for what, who sends."""

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from builders import configuration_name, dense, lone, pair_program, scenario, simulated
from fabrics import ring

from simulator.bounds import traffic
from simulator.costs import price
from simulator.costs.buckets import Bucket, holders, of_block
from simulator.engine import run
from simulator.hardware import OptimizerKernels
from simulator.ops import Pass, Phase
from simulator.ops.optimizer import update
from simulator.precision import RECIPES
from simulator.program import STREAMS, Program, chunk_times, lower
from simulator.program.coflows import stage_hosts

# The order that DeepSeek's profile shows (arXiv 2412.19437, figure 4; the streams 7, 23 and 27 of
# profile-data).
PAIR_COMPUTE = ["attn(F)", "mlp(B)", "mlp(W)", "mlp(F)", "attn(B)", "attn(W)"]
PAIR_COMMUNICATION = ["combine(B)", "dispatch(F)", "dispatch(B)", "combine(F)"]

SMALL = [
    {},
    {"layout__ep": 4},
    {"layout__pp": 4},
    {"schedule__name": "dualpipe"},
    {"schedule__name": "dualpipe", "layout__pp": 4},
    {"schedule__name": "dualpipe", "layout__ep": 4, "layout__zero": 0},
    {"layout__ep": 1, "model__n_routed_experts": 0, "model__num_experts_per_tok": 0},
]
small = pytest.mark.parametrize("changes", SMALL, ids=configuration_name)


def stream(one: Program, name: str, action: int) -> list[str]:
    chosen = (one.stream == STREAMS.index(name)) & (one.action == action)
    return [one.labels[label] for label in one.label[chosen]]


def action_of(one: Program, kind: str) -> int:
    return next(number for number, action in enumerate(one.actions) if action[2] == kind)


def named(one: Program, *labels: str) -> np.ndarray:
    return np.flatnonzero(
        np.isin(one.label, [one.labels.index(label) for label in labels if label in one.labels])
    )


def waits(one: Program, row: int) -> list[int]:
    return one.wait[one.wait_ptr[row] : one.wait_ptr[row + 1]].tolist()


# An overlapped pair


def test_a_pair_of_moe_layers_runs_in_the_published_order():
    one = pair_program(1)
    pair = action_of(one, "FB")
    assert stream(one, "compute", pair) == PAIR_COMPUTE
    assert stream(one, "communication", pair) == PAIR_COMMUNICATION
    assert stream(one, "side", pair) == ["side(W)"]


def test_two_pairs_run_one_after_the_other_on_each_stream():
    one = pair_program(2)
    pair = action_of(one, "FB")
    assert stream(one, "compute", pair) == 2 * PAIR_COMPUTE
    assert stream(one, "communication", pair) == 2 * PAIR_COMMUNICATION
    assert stream(one, "side", pair) == 2 * ["side(W)"]


@pytest.mark.slow
def test_in_a_pair_each_half_waits_for_its_own_tokens_only():
    one = pair_program(1)
    pair = action_of(one, "FB")
    rows = {one.labels[one.label[row]]: row for row in np.flatnonzero(one.action == pair).tolist()}

    def inputs(label: str) -> set[str]:
        due = (row for row in waits(one, rows[label]) if one.action[row] == pair)
        return {one.labels[one.label[row]] for row in due}

    assert inputs("attn(F)") == set()
    assert inputs("combine(B)") == set()
    assert inputs("mlp(B)") == {"combine(B)", "attn(F)"}  # attn(F) by the order of the stream
    assert inputs("dispatch(F)") == {"attn(F)", "combine(B)"}
    assert inputs("dispatch(B)") == {"mlp(B)", "dispatch(F)"}
    assert inputs("mlp(W)") == {"mlp(B)"}
    assert inputs("side(W)") == {"mlp(W)"}
    assert inputs("mlp(F)") == {"dispatch(F)", "mlp(W)"}
    assert inputs("combine(F)") == {"mlp(F)", "dispatch(B)"}
    assert inputs("attn(B)") == {"dispatch(B)", "mlp(F)"}
    assert inputs("attn(W)") == {"attn(B)"}


def test_a_dense_layer_in_a_pair_runs_alone_before_the_next_moe_layer():
    # Forward: dense, moe. Backward: moe, dense. The forward's lone dense layer first, then the
    # pair, then the backward's lone dense layer.
    one = pair_program(kinds=("dense", "moe"))
    dense_f, dense_b = ["attn(F)", "mlp(F)"], ["mlp(B)", "mlp(W)", "attn(B)", "attn(W)"]
    pair = action_of(one, "FB")
    assert stream(one, "compute", pair) == dense_f + PAIR_COMPUTE + dense_b
    assert stream(one, "communication", pair) == PAIR_COMMUNICATION


def test_a_pair_is_quicker_than_its_halves_and_hides_communication():
    timeline = run(pair_program(4))
    ends = [timeline.end[timeline.program.action == action].max() for action in range(3)]
    forward, pair, backward = np.diff([0.0, *ends]).tolist()
    assert pair < forward + backward


# Single chunks


def test_solo_chunks_alternate_compute_and_communication():
    one = lower(scenario(layout__pp=1, layout__ep=4, model__num_hidden_layers=2))
    forward, backward = action_of(one, "F"), action_of(one, "B")
    # embedding, dense layer, MoE layer, head (which has no mlp)
    assert stream(one, "compute", forward) == [
        "attn(F)",
        "attn(F)",
        "mlp(F)",
        "attn(F)",
        "mlp(F)",
        "attn(F)",
    ]
    assert stream(one, "communication", forward) == ["dispatch(F)", "combine(F)"]
    layer = ["mlp(B)", "mlp(W)", "attn(B)", "attn(W)"]
    assert stream(one, "compute", backward) == ["attn(B)", "attn(W)", *layer, *layer, "attn(W)"]
    assert stream(one, "communication", backward) == ["combine(B)", "dispatch(B)"]


def test_input_and_weight_gradients_of_a_split_backward_pass_share_its_ops():
    one = lower(
        scenario(
            schedule__name="dualpipe", layout__pp=2, layout__stages=["embedding 0-1", "2-3 head"]
        )
    )
    split = [action for action, (_, _, kind) in enumerate(one.actions) if kind in ("I", "W")]
    kinds = [one.actions[action][2] for action in split]
    assert set(kinds) == {"I", "W"}
    for action, kind in zip(split, kinds, strict=True):
        assert {label[-3:] for label in stream(one, "compute", action)} == (
            {"(B)"} if kind == "I" else {"(W)"}
        )
        exchanges = [
            label for label in stream(one, "communication", action) if not label.startswith("send")
        ]
        assert (exchanges == []) == (kind == "W")
        assert stream(one, "side", action) == (
            [] if kind == "I" else ["side(W)"] * len(stream(one, "side", action))
        )


@pytest.mark.parametrize("kind", ["F", "B"])
@pytest.mark.slow
def test_solo_chunks_expose_dispatch_and_combine(kind):
    # Between an exchange's start and end no kernel of the chunk runs, weight gradients of the side
    # stream excepted.
    timeline = simulated(scenario(layout__pp=1, layout__ep=4))
    one = timeline.program
    for action in [number for number, row in enumerate(one.actions) if row[2] == kind]:
        talks = np.flatnonzero(
            (one.action == action) & (one.stream == STREAMS.index("communication"))
        )
        kernels = np.flatnonzero((one.action == action) & (one.stream == STREAMS.index("compute")))
        assert len(talks) == 2 * 3  # three MoE layers
        for row in talks:
            disjoint = (timeline.end[kernels] <= timeline.start[row]) | (
                timeline.start[kernels] >= timeline.end[row]
            )
            assert disjoint.all()


def test_blocks_without_experts_exchange_nothing():
    one = lower(dense())
    assert not {"dispatch(F)", "combine(F)", "combine(B)", "dispatch(B)"} & set(one.labels)
    assert "side(W)" not in one.labels
    assert {flow.traffic for flow in one.coflows} == {"pipeline", "data"}


def test_experts_that_all_lie_on_one_gpu_take_no_coflow():
    assert not [flow for flow in lower(scenario(layout__ep=1)).coflows if flow.traffic == "expert"]


def test_one_gpu_talks_to_nobody():
    one = lower(lone())
    assert one.coflows == ()
    assert set(one.coflow) == {-1}


# Dependencies


@small
@pytest.mark.slow
def test_every_row_waits_for_rows_that_exist_and_none_for_itself_through_others(changes):
    one = lower(scenario(**changes))
    rows = len(one.rank)
    assert one.wait_ptr[0] == 0
    assert one.wait_ptr[-1] == len(one.wait)
    assert ((one.wait >= 0) & (one.wait < rows)).all()
    left = np.diff(one.wait_ptr).tolist()
    followers: list[list[int]] = [[] for _ in range(rows)]
    for row in range(rows):
        for due in waits(one, row):
            followers[due].append(row)
    todo, done = deque(row for row in range(rows) if not left[row]), 0
    while todo:
        done += 1
        for row in followers[todo.popleft()]:
            left[row] -= 1
            if not left[row]:
                todo.append(row)
    assert done == rows


@small
@pytest.mark.slow
def test_all_members_of_a_coflow_call_it_equally_often(changes):
    one = lower(scenario(**changes))
    for instance in np.unique(one.instance[one.instance >= 0]):
        rows = np.flatnonzero(one.instance == instance)
        kind = set(one.coflow[rows].tolist())
        assert len(kind) == 1
        assert sorted(one.rank[rows].tolist()) == list(one.coflows[kind.pop()].members)


def shared_buckets(one: Program, rank: int) -> list[Bucket]:
    """Return the buckets that a class of ranks shares, one for each block that has it."""
    order, hosts = one.schedule.ranks[one.pipeline_index(rank)], stage_hosts(one.schedule)
    stages = dict.fromkeys(stage for action in order for _, _, stage in action.halves())
    blocks = [(stage, number) for stage in stages for number in range(len(one.costs.stages[stage]))]
    found = [bucket for block in blocks for bucket in of_block(one.costs, *block)]
    return [
        bucket
        for bucket in found
        if holders(one.scenario.layout, bucket.group, hosts[bucket.stage]).shape[1] > 1
    ]


@small
@pytest.mark.slow
def test_each_blocks_gradients_are_reduced_once_its_last_weight_gradient_is_there(changes):
    timeline = simulated(scenario(**changes))
    one = timeline.program
    kernels = named(one, "attn(W)", "mlp(W)", "side(W)")
    for rank in range(one.ranks):
        order = one.schedule.ranks[one.pipeline_index(rank)]
        reduces = [row for row in named(one, "reduce-scatter").tolist() if one.rank[row] == rank]
        assert len(reduces) == len(shared_buckets(one, rank))
        for row in reduces:
            due = [made for made in waits(one, row) if made in kernels]
            assert due, "a reduce-scatter waits for no weight gradient"
            assert timeline.arrive[row] >= timeline.end[due].max()
            last = [one.actions[one.action[made]] for made in due]
            stages = {
                stage
                for _, position, _ in last
                for kind, _, stage in order[position].halves()
                if kind != "F"
            }
            rest = (
                half
                for _, position, _ in last
                for action in order[position + 1 :]
                for half in action.halves()
            )
            assert not {stage for kind, _, stage in rest if kind in ("B", "W")} & stages


@small
@pytest.mark.slow
def test_the_optimizer_waits_for_every_reduce_scatter_and_first_passes_for_the_parameters(changes):
    one = lower(scenario(**changes))
    first = named(one, "attn(F)")
    for rank in range(one.ranks):
        update = next(row for row in named(one, "optimizer") if one.rank[row] == rank)
        reduces = [row for row in named(one, "reduce-scatter") if one.rank[row] == rank]
        gathers = [row for row in named(one, "all-gather") if one.rank[row] == rank]
        assert len(reduces) == len(gathers) > 0
        assert set(reduces) <= set(waits(one, update))
        # Without ZeRO a ring all-reduce gathers the sums before the update.
        if changes.get("layout__zero") == 0:
            assert set(gathers) <= set(waits(one, update))
            continue
        # What the step before updated travels next to the first passes, which wait for it.
        for row in gathers:
            assert not any(one.coflow[due] < 0 for due in waits(one, row))
            assert any(row in waits(one, use) for use in first if one.rank[use] == rank)


@small
@pytest.mark.slow
def test_without_overlap_parameters_are_gathered_behind_the_optimizer(changes):
    one = lower(scenario(**changes, layout__overlap_param_gather=False))
    for rank in range(one.ranks if changes.get("layout__zero") != 0 else 0):
        update = next(row for row in named(one, "optimizer") if one.rank[row] == rank)
        gathers = [row for row in named(one, "all-gather") if one.rank[row] == rank]
        assert gathers
        assert all(update in waits(one, row) for row in gathers)


@small
@pytest.mark.slow
def test_without_overlap_gradients_are_reduced_behind_all_backward_passes(changes):
    timeline = simulated(scenario(**changes, layout__overlap_grad_reduce=False))
    one = timeline.program
    for rank in range(one.ranks):
        kernels = (one.rank == rank) & (one.coflow < 0)
        kernels[named(one, "optimizer")] = False
        reduces = [row for row in named(one, "reduce-scatter") if one.rank[row] == rank]
        assert timeline.start[reduces].min() >= timeline.end[kernels].max()


# Sends


def test_1f1b_sends_activations_down_and_gradients_up_once_per_micro_batch():
    # 8 GPUs in pp 4 x dp 2, 16 sequences: 8 micro-batches. Stages 0 to 2 send F, stages 3 to 1 send
    # B.
    one = lower(scenario(layout__pp=4))
    sends = [sent(one, row) for row in named(one, "send F", "send B")]
    due = {("F", 0), ("F", 1), ("F", 2), ("B", 3), ("B", 2), ("B", 1)}
    assert set(sends) == due
    assert {sends.count(edge) for edge in due} == {8}


def test_a_stage_of_one_kernel_sends_what_it_makes():
    # The embedding alone: the send waits for the first row of its action, which is the only one.
    one = lower(dense(layout__stages=["embedding", "0-3 head"]))
    sends = named(one, "send F")
    assert len(sends) == one.scenario.micro_batches
    for row in sends.tolist():
        (made,) = waits(one, row)
        assert one.action[made] == one.action[row]
        assert STREAMS[one.stream[made]] == "compute"


def test_dualpipe_sends_along_both_directions_but_not_between_the_two_stages_of_a_rank():
    # pp 4, stages 0..3 down the ranks and, in the other direction, up: rank r holds stages r and 3
    # - r. Unfolded, each stage boundary is crossed from both of its hosts: stage s goes from rank s
    # to s + 1 and from 3 - s to 2 - s.
    one = lower(scenario(schedule__name="dualpipe", layout__pp=4), folded=False)
    rows = named(one, "send F", "send B").tolist()
    forward = {("F", rank) for stage in range(3) for rank in (stage, 3 - stage)}
    backward = {("B", rank) for stage in range(1, 4) for rank in (stage, 3 - stage)}
    assert {sent(one, row) for row in rows} == forward | backward
    # Each micro-batch crosses the three boundaries down and up again once, in each of the 2
    # replicas.
    assert len(rows) == 2 * 3 * one.scenario.micro_batches * 2


def sent(one: Program, row: int) -> tuple[str, int]:
    """Return (F or B, pipeline index of the sender)."""
    return one.coflows[one.coflow[row]].label[0], one.pipeline_index(int(one.rank[row]))


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.slow
def test_every_replica_hands_on_to_itself(name):
    # Stage s+1 of replica d takes its inputs from stage s of replica d. Its batch is its own.
    one = lower(scenario(schedule__name=name, layout__ep=1), folded=False)
    replica = one.first_rank[one.rank] % one.scenario.layout.dp
    rows = np.repeat(np.arange(len(one.rank)), np.diff(one.wait_ptr))
    assert (replica[rows] == replica[one.wait]).all()


def test_a_replica_whose_stages_lie_further_apart_starts_its_second_stage_later():
    # 4 nodes of 1 GPU, 3 to a leaf; pp 2 x dp 2: replica 0 sends from node 0 to 2, replica 1 from
    # node 1 to 3, which is behind the spines: 3 ms more on the way.
    timeline = simulated(
        dense(
            nodes=4,
            node__gpus=1,
            node__nics=1,
            fabric__switch_ports=6,
            fabric__latency="3.003 ms",
            fabric__leaf_latency="3 us",
            training__global_batch_size=8,
            layout__zero=0,
        ),
        folded=False,
    )
    one = timeline.program
    first = {
        int(one.first_rank[rank]): timeline.start[(one.rank == rank) & (one.seconds > 0)].min()
        for rank in range(one.ranks)
    }
    assert first[3] - first[2] == pytest.approx(3e-3, rel=1e-6)


@pytest.mark.slow
def test_sends_share_the_stream_of_dispatch_where_communication_has_its_own_sms():
    # SMs are kept for exchanges where passes overlap: DualPipe's.
    own = scenario(layout__ep=2, schedule__name="dualpipe", stack="deepseek")
    experts, none = lower(own), lower(dense())
    assert set(experts.stream[named(experts, "send F")].tolist()) == {
        STREAMS.index("communication")
    }
    assert set(none.stream[named(none, "send F")].tolist()) == {STREAMS.index("send")}


# Columns


@small
@pytest.mark.slow
def test_classes_of_a_rank_sum_to_the_seconds_of_its_rows(changes):
    one = lower(scenario(**changes))
    for rank in range(one.ranks):
        assert sum(one.class_seconds[rank].values()) == pytest.approx(
            one.seconds[one.rank == rank].sum(), rel=1e-12
        )
    assert (one.seconds[one.coflow >= 0] == 0).all()
    # At a wait the compute stream waits for messages, which takes nothing by itself.
    takes = [label != "wait" for label in one.labels]
    computes = (one.coflow < 0) & np.array(takes)[one.label]
    assert (one.seconds[computes] > 0).all()


def test_a_program_does_not_change():
    one = lower(scenario())
    with pytest.raises(AttributeError):
        one.rank = one.stream
    assert replace(one).rank is one.rank


# Costs of single rows, by hand


def duration(timeline, label: str) -> float:
    """Return how long the rows of a label take, those of one length [s]."""
    chosen = named(timeline.program, label)
    (seconds,) = set(np.round(timeline.end[chosen] - timeline.start[chosen], 12).tolist())
    return seconds


def test_a_backward_pass_dispatches_over_the_layout_that_the_forward_pass_found():
    # The gradient of combine carries what dispatch carries, without a new layout, which takes 74 us
    # (hopper.yaml); BF16 needs no cast. The last of four micro-batches, with nothing else in flight.
    timeline = simulated(scenario(layout__pp=1, layout__zero=0))
    one = timeline.program
    length = timeline.end - timeline.start
    forward, backward = (length[named(one, label)].min() for label in ("dispatch(F)", "combine(B)"))
    assert forward - backward == pytest.approx(74e-6)


def test_gradients_that_travel_in_fp8_are_cast_first():
    # 2,048 tokens of 1,024 elements on each GPU, read in BF16 and written in FP8 with a scale of 4 B
    # for 128 elements, at 1,711 GB/s (hopper.yaml); 74 us less, as above.
    timeline = simulated(scenario(layout__pp=1, layout__zero=0, precision__recipe="fp8_block"))
    one = timeline.program
    length = timeline.end - timeline.start
    forward, backward = (length[named(one, label)].min() for label in ("dispatch(F)", "combine(B)"))
    cast = 2048 * 1024 * (2 + 1 + 4 / 128) / 1711e9
    assert forward - backward == pytest.approx(74e-6 - cast)


def test_each_exchange_of_a_pair_slows_down_as_its_kernel_was_measured():
    # On the links of the trace: dispatch 1.792, without a new layout 1.336, combine 1.272 times as
    # long while the GPU computes (hopper.yaml).
    one = pair_program()
    slowdowns = {
        label: {
            round(one.coflows[coflow].overlap_slowdown, 9)
            for coflow in one.coflow[named(one, label)]
        }
        for label in PAIR_COMMUNICATION
    }
    assert slowdowns == {
        "dispatch(F)": {1.792},
        "combine(B)": {1.336},
        "combine(F)": {1.272},
        "dispatch(B)": {1.272},
    }


@pytest.mark.parametrize(
    ("nic", "dispatch", "cached", "combine"),
    [
        (20, 1.0, 1.0, 1.0),
        (30, 1.0752, 1.0, 1.0),
        (40, 1.4336, 1.0688, 1.0176),
        (50, 1.792, 1.336, 1.272),
    ],
)
@pytest.mark.slow
def test_slow_links_hide_the_slowdown_and_never_speed_an_exchange_up(
    nic, dispatch, cached, combine
):
    # Overlapped with compute a kernel moves what it moved on the 50 GB/s where it was measured, over
    # its slowdown; alone it moves the link's rate. 1.792 x 30 / 50 = 1.0752; 1.336 x 30 / 50 < 1: the
    # link is what binds.
    one = lower(
        scenario(
            nodes=4,
            node__gpus=1,
            node__nics=1,
            node__nic=f"{nic} GB/s per direction",
            layout__pp=1,
            layout__ep=4,
        )
    )
    found = {flow.label[0]: flow.overlap_slowdown for flow in one.coflows}
    assert [found[kind] for kind in ("dispatch", "cached_dispatch", "combine")] == pytest.approx(
        [dispatch, cached, combine]
    )


def test_the_optimizer_moves_gradient_and_parameter_once_and_its_states_twice():
    # DeepSeek's stack: AdamW alone. Read: an FP32 gradient, master weight and two moments; written:
    # master, moments, a BF16 parameter: 4 + 2 x 4 + 2 x 8 + 2 = 30 B each for 71,312,384, at 0.814 of
    # 3.35 TB/s; 1.089 times that without communication in flight; 2 us between kernels.
    rate = 0.814 * 3.35e12 * 1.089
    seconds = 71_312_384 * 30 / rate + 2e-6
    one = simulated(lone(stack="deepseek"))
    assert duration(one, "optimizer") == pytest.approx(seconds, abs=1e-12)


def test_megatron_scales_zeroes_and_clips_gradients_and_copies_parameters():
    # Around AdamW's 28 B: gradients are scaled before they are summed (read, write) and zeroed
    # (write), read for their norm and clipped (read, write): 6 x 4 B. The BF16 parameter is copied
    # from the master weight: 4 + 2 B. Four kernels.
    rate = 0.814 * 3.35e12 * 1.089
    seconds = 71_312_384 * (28 + 24 + 6) / rate + 4 * 2e-6
    assert duration(simulated(lone()), "optimizer") == pytest.approx(seconds, abs=1e-12)


def test_a_shard_of_gradients_is_clipped_and_all_of_them_are_scaled():
    # ZeRO 1 over two replicas: half of the parameters are updated, all gradients held.
    kernels = OptimizerKernels(held_passes=3, shard_passes=3, copies=True)
    found = [op.bytes for op in update(RECIPES["bf16"], kernels, updated=50.0, held=100.0)]
    assert found == [100 * 12, 50 * 12, 50 * 28, 50 * 6]


@pytest.mark.parametrize(("tp", "sequence_parallel"), [(1, True), (2, True), (2, False), (4, True)])
@pytest.mark.slow
def test_a_stage_sends_its_share_of_the_residual_stream(tp, sequence_parallel):
    # 16 sequences of 2,048 x 1,024 x 2 B over 4 / tp replicas: 4 tp micro-batches each, of which
    # every GPU sends 1/tp over its NIC: always 16,777,216 B, forward or backward.
    one = dense(layout__tp=tp, layout__sequence_parallel=sequence_parallel)
    assert traffic(lower(one))["pipeline"] == (16_777_216.0, 0.0)


def test_a_send_takes_one_of_several_ways(tmp_path):
    # A ring of 4 switches, a node on each, stages on nodes 0, 1 and 2, 3: between nodes 0 and 2 lie
    # two ways of two cables. A send crosses those that a route names, and waits for their latency.
    one = scenario(
        nodes=4,
        node__gpus=2,
        node__nics=2,
        fabric={
            "kind": "custom",
            "switch_ports": 4,
            "latency": "3.7 us",
            "file": str(ring(tmp_path)),
        },
    )
    assert 0.5 in one.network.spread(0, 4)[0].values()
    program, found = lower(one, folded=False), {}
    for flow in program.coflows:
        if flow.label.kind == "F":
            names = {program.link_names[link] for link, _ in flow.links}
            found[flow.members[0]] = (names, flow.latency)
    kernel = one.kernels.communication["send_recv"]
    before = kernel.setup + kernel.nic_overhead
    for source in range(4):
        links, latency = one.network.route(source, source + 4)
        names = {one.network.name[link] for link in links}
        assert found[source] == (names, pytest.approx(latency + before))


# Times that schedules are searched with


def exchanges_alone(one, costs, kind) -> float:
    """Return what chunk times add to the kernels of the last stage [s]."""
    last = len(costs.stages) - 1
    keys = [phase for phase in Phase if phase.computes == kind]
    kernels = sum(block.phases[key].total for block in costs.stage(last) for key in keys)
    return chunk_times(one, costs).seconds(kind, last) - kernels


def test_chunk_times_count_the_exchanges_of_a_pass_where_nothing_hides_them():
    # Two MoE layers on the last stage. Forward and input gradient each dispatch and combine once a
    # layer, the latter without a new layout: 2 x 74 us less. Weight gradients send nothing.
    one = scenario()
    costs = price(one)
    forward, backward, weights = (
        exchanges_alone(one, costs, kind) for kind in (Pass.FORWARD, Pass.INPUT, Pass.WEIGHT)
    )
    assert forward - backward == pytest.approx(148e-6)
    # A dispatch and a combine of some 2 MB at 200 GB/s take tens of microseconds each.
    assert backward > 2 * (2 * 10e-6)
    assert weights == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("pp", "forward", "backward"), [(1, 18, 8), (2, 9, 4)])
@pytest.mark.slow
def test_chunk_times_count_the_transfers_that_kernels_wait_for(pp, forward, backward):
    # Two GPUs gather and scatter 2,048 x 1,024 x 2 B around attention and MLP of each layer, and
    # gather what the head reads, or scatter what the embedding makes: half of it over NVLink each
    # time, the other half copied by the GPU that keeps it, the start of the call and a round. A backward pass waits for what it gathers of the two gradients
    # of each layer; its other transfers run next to kernels.
    one = dense(layout__tp=2, layout__pp=pp)
    kernel = one.kernels.communication["nccl_simple"]
    round_ = kernel.nvlink_latency * one.topology.node.nvlink_latency
    half = 2_097_152 / (kernel.nvlink * 200e9) + 2_097_152 / kernel.own_part
    each = kernel.setup + round_ + half
    # A sum of three numbers of each token for the loss, two passes over 2,048 x 12 B, by LL.
    small = one.kernels.communication["nccl_ll"]
    part = 24_576 / (small.nvlink * 200e9) + 24_576 / small.own_part
    loss = small.setup + small.nvlink_latency * one.topology.node.nvlink_latency + part
    costs = price(one)
    for kind, count, sums in ((Pass.FORWARD, forward, loss), (Pass.INPUT, backward, 0.0)):
        expected = count * each + sums
        assert exchanges_alone(one, costs, kind) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("nodes", "rate"), [(2, 50e9), (1, 200e9)])
@pytest.mark.slow
def test_a_send_between_stages_takes_the_residual_stream_over_a_nic_or_inside_a_node(nodes, rate):
    # 2,048 x 1,024 x 2 B.
    one = dense(nodes=nodes, fabric__kind="rail_optimised" if nodes > 1 else "single_node")
    assert chunk_times(one, price(one)).comm == pytest.approx(4_194_304 / rate)


@pytest.mark.parametrize(("nic", "rate"), [(20, 20e9), (50, 50e9), (2000, 200e9)])
@pytest.mark.slow
def test_an_exchange_is_paced_by_the_link_that_takes_longest(nic, rate):
    # Two nodes of 4 GPUs, ep 8: the NIC binds at 20 and at 50 GB/s, NVLink's 200 GB/s where the NIC
    # has ten times that.
    one = lower(scenario(layout__pp=1, layout__ep=8, node__nic=f"{nic} GB/s per direction"))
    found = {flow.rate for flow in one.coflows if flow.traffic == "expert"}
    assert found == {rate}


def test_kernels_of_a_pair_and_of_other_chunks_take_their_time_alone():
    one = pair_program()
    (block,) = one.costs.stage(0)
    phases = {
        label: [Phase(f"{label[:-3].replace('attn', 'attention')}_{label[-2].lower()}")]
        for label in PAIR_COMPUTE
    }
    phases["attn(B)"].append(Phase.ATTENTION_T)
    for kind, labels in (
        ("FB", PAIR_COMPUTE),
        ("F", ["attn(F)", "mlp(F)"]),
        ("B", ["mlp(B)", "mlp(W)", "attn(B)", "attn(W)"]),
    ):
        of_action = (one.action == action_of(one, kind)) & (one.rank == 0)
        for label in labels:
            rows = of_action & (one.label == one.labels.index(label))
            due = [block.phases[phase].total for phase in phases[label]]
            assert one.seconds[rows].sum() == pytest.approx(sum(due), rel=1e-12)
    # What exchanges next to them take, the engine finds out.
    slowed = run(one).slowed
    assert slowed[(one.action == action_of(one, "FB")) & (one.coflow < 0)].sum() > 0

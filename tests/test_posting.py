"""Sends and receives between stages: where ranks post them, what waits for them, and that no ranks wait in a circle."""

import itertools

import numpy as np
import pytest
from builders import dense, scenario, simulated

from simulator.engine import compiled, reference
from simulator.errors import InputError, ScheduleError
from simulator.program import lower
from simulator.report import summarise
from simulator.schedules import (
    Action,
    PipelineOverlap,
    Schedule,
    build,
    check_posts,
    posts,
)

OVERLAPS = ["none", "serial", "steady", "all"]


def printed(schedule: Schedule, overlap: str, rank: int) -> str:
    """Return a rank's order with what it posts in brackets, operations apart by semicolons."""
    own = posts(schedule, PipelineOverlap(overlap))[rank]
    words = []
    for slot, operations in enumerate(own.posted):
        if operations:
            words.append(f"[{'; '.join(' '.join(map(str, one)) for one in operations)}]")
        if slot < len(own.awaited):
            words.append(str(schedule.ranks[rank][slot]))
    return " ".join(words)


# As Megatron-LM posts them (core/pipeline_parallel/schedules.py)


def test_1f1b_sends_and_receives_as_one_operation_where_the_peer_is_the_same():
    # send_forward, recv_forward; send_forward_recv_backward; send_backward_recv_forward; ...;
    # send_backward, recv_backward.
    assert printed(build("1f1b", 3, 3), "none", 1) == (
        "[RF0@1<0] F0@1 [SF0@1>2; RF1@1<0] F1@1 [SF1@1>2 RB0@1<2] B0@1 [SB0@1>0 RF2@1<0] F2@1 "
        "[SF2@1>2 RB1@1<2] B1@1 [SB1@1>0; RB2@1<2] B2@1 [SB2@1>0]"
    )


def test_one_by_one_the_gradient_travels_before_the_output():
    # DeepSpeed's TrainSchedule: RecvGrad, SendActivation; SendGrad, RecvActivation.
    assert printed(build("1f1b", 3, 3), "serial", 1) == (
        "[RF0@1<0] F0@1 [SF0@1>2; RF1@1<0] F1@1 [RB0@1<2; SF1@1>2] B0@1 [SB0@1>0; RF2@1<0] F2@1 "
        "[RB1@1<2; SF2@1>2] B1@1 [SB1@1>0; RB2@1<2] B2@1 [SB2@1>0]"
    )


def test_one_by_one_an_output_goes_first_where_its_receiver_comes_to_it_first():
    # GPipe: rank 1 receives before F1, and sends the first gradient, of micro-batch 1, behind it.
    assert printed(build("gpipe", 2, 2), "serial", 0) == (
        "F0@0 [SF0@0>1] F1@0 [SF1@0>1; RB1@0<1] B1@0 [RB0@0<1] B0@0"
    )


def test_interleaved_ranks_post_all_messages_of_a_forward_and_a_backward_together():
    # The last rank: its first forwards alone, then a forward and a backward between operations.
    assert printed(build("interleaved", 2, 4, virtual=2), "none", 1).startswith(
        "[RF0@1<0] F0@1 [SF0@1>0 RF1@1<0] F1@1 [SF1@1>0 RF0@3<0] F0@3 B0@3 [SB0@3>0 RF1@3<0] F1@3 B1@3 "
        "[SB1@3>0 RF2@1<0 RB0@1<0] F2@1 B0@1 [SF2@1>0 SB0@1>0 RF3@1<0 RB1@1<0]"
    )


def test_overlapped_messages_are_posted_behind_each_pass_for_the_next_of_its_direction():
    assert printed(build("interleaved", 2, 4, virtual=2), "steady", 1).startswith(
        "[RF0@1<0] F0@1 [SF0@1>0 RF1@1<0] F1@1 [SF1@1>0 RF0@3<0] F0@3 [RF1@3<0] B0@3 [SB0@3>0] "
        "F1@3 [RF2@1<0] B1@3 [SB1@3>0 RB0@1<0] F2@1 [SF2@1>0 RF3@1<0] B0@1"
    )


def test_the_first_rank_receives_when_the_last_one_sends_however_large_groups_are():
    # Groups of 4 micro-batches on 2 ranks: F0@1 leaves rank 1 after its first pass, and rank 0, one
    # pass ahead, receives it after its second one, three passes before it runs F0@2.
    line = printed(build("interleaved", 2, 4, virtual=2, group=4), "steady", 0)
    assert line.startswith("F0@0 [SF0@0>1] F1@0 [SF1@0>1 RF0@2<1] F2@0")


def test_without_overlap_of_its_own_a_schedule_posts_nothing():
    assert printed(build("1f1b", 2, 2), "all", 0) == "F0@0 F1@0 B0@0 B1@0"


# Deadlocks


@pytest.mark.parametrize("ranks", [2, 3, 4, 6])
@pytest.mark.parametrize("overlap", ["none", "serial", "steady"])
def test_no_schedule_of_any_size_deadlocks(ranks, overlap):
    sizes = itertools.product((1, 2, 3), (1, 2, 5), (0, ranks + 1, 2 * ranks))
    for virtual, rounds, group in sizes:
        for name in ("gpipe", "1f1b", "interleaved"):
            count = rounds * ranks
            others = name != "interleaved" and (virtual > 1 or group)
            others = others or (overlap == "serial" and name == "interleaved")
            if others or (group and count % group and count % group < ranks):
                continue
            schedule = build(name, ranks, count, virtual=virtual, group=group)
            check_posts(schedule, posts(schedule, PipelineOverlap(overlap)))


def test_ranks_that_would_wait_for_each_other_are_refused():
    # Rank 0 sends F2 before it takes the gradient of F0, which rank 1 sends before it receives F2.
    # Where a forward does not wait for what the backward before it sends, the same order runs.
    first = [Action(kind, number, 0) for kind in ("F", "B") for number in range(4)]
    second = [Action(kind, number, 1) for number in range(4) for kind in ("F", "B")]
    schedule = Schedule("custom", 2, 4, (tuple(first), tuple(second)))
    check_posts(schedule, posts(schedule, PipelineOverlap.STEADY))
    with pytest.raises(ScheduleError, match="ranks wait for each other's sends and receives"):
        check_posts(schedule, posts(schedule, PipelineOverlap.NONE))


def test_messages_that_cross_are_refused():
    first = (Action("F", 0, 0), Action("F", 1, 0), Action("B", 0, 0), Action("B", 1, 0))
    second = (Action("F", 1, 1), Action("F", 0, 1), Action("B", 0, 1), Action("B", 1, 1))
    schedule = Schedule("custom", 2, 2, (first, second))
    with pytest.raises(ScheduleError, match="not received in the order"):
        check_posts(schedule, posts(schedule, PipelineOverlap.STEADY))


# Timelines


def timed(overlap: str):
    """Return (start, end) of each action of two ranks of 1F1B with two micro-batches, and the time of a send [s]."""
    timeline = simulated(
        dense(
            layout__pp=2,
            training__global_batch_size=8,
            communication__pipeline__overlap=overlap,
            layout__zero=0,
            layout__overlap_grad_reduce=False,  # it would slow kernels down
        )
    )
    one = timeline.program
    spans = {}
    for number, action in enumerate(one.actions):
        rows = (one.action == number) & (one.seconds > 0)
        if action.kind != "update" and rows.any():
            spans[one.pipeline_index(action.rank), action.position] = (
                float(timeline.start[rows].min()),
                float(timeline.end[rows].max()),
            )
    flow = next(flow for flow in one.coflows if flow.traffic == "pipeline")
    return spans, flow.latency + flow.size / flow.rate


def lasts(spans, rank, *positions):
    return [spans[rank, position][1] - spans[rank, position][0] for position in positions]


def test_where_nothing_overlaps_compute_waits_for_both_ends_of_each_message():
    # Ranks 0 and 1 both run F0 F1 B0 B1 and F0 B0 F1 B1. s: a send.
    #   rank 0: F0, send, F1, then it meets rank 1, which has run B0 by then: both take s, at once
    #   rank 1: receive, F0, B0, the same, F1, B1, send
    spans, s = timed("none")
    f0, g0, b0 = lasts(spans, 0, 0, 1, 2)
    f1, b1 = lasts(spans, 1, 0, 1)
    met = max(f0 + s + g0, f0 + s + f1 + b1)
    starts = {
        (0, 0): 0.0,
        (0, 1): f0 + s,
        (1, 0): f0 + s,
        (1, 1): f0 + s + f1,
        (0, 2): met + s,
        (1, 2): met + s,
        (1, 3): met + s + f1,
        (0, 3): max(met + s + f1 + b1, met + s + b0) + s,
    }
    assert {key: spans[key][0] for key in starts} == pytest.approx(starts, rel=1e-9)


def test_one_by_one_two_messages_that_cross_take_twice_as_long():
    # Ranks 0 and 1 meet as above, but B0's gradient travels before F1's output.
    spans, s = timed("serial")
    f0, g0 = lasts(spans, 0, 0, 1)
    f1, b1 = lasts(spans, 1, 0, 1)
    met = max(f0 + s + g0, f0 + s + f1 + b1)
    starts = {(0, 1): f0 + s, (1, 1): f0 + s + f1, (0, 2): met + 2 * s, (1, 2): met + 2 * s}
    assert {key: spans[key][0] for key in starts} == pytest.approx(starts, rel=1e-9)


def test_where_the_steady_state_overlaps_a_message_travels_next_to_the_other_direction():
    # Rank 1 posts the receive of F1 behind F0, so that F1 travels while B0 runs and follows it at
    # once; rank 0's F1 still waits for the send of F0, one pass of its direction before.
    spans, s = timed("steady")
    f0, g0 = lasts(spans, 0, 0, 1)
    f1, b1 = lasts(spans, 1, 0, 1)
    back = f0 + s + f1 + b1  # B0 leaves rank 1
    assert max(f0 + s + g0, f0 + s + f1) + s < back  # F1 has come
    starts = {(0, 1): f0 + s, (1, 0): f0 + s, (1, 2): back, (0, 2): max(back, f0 + s + g0) + s}
    assert {key: spans[key][0] for key in starts} == pytest.approx(starts, rel=1e-9)


def test_where_all_overlaps_nobody_waits_for_what_it_sends():
    spans, s = timed("all")
    f0, f1 = *lasts(spans, 0, 0), *lasts(spans, 1, 0)
    starts = {(0, 1): f0, (1, 0): f0 + s, (1, 1): f0 + s + f1}
    assert {key: spans[key][0] for key in starts} == pytest.approx(starts, rel=1e-9)


def test_where_nothing_overlaps_an_exchange_of_tokens_begins_behind_the_compute_before_it():
    # The gradient's dispatch opens a backward pass: launched on a stream that first waits for the
    # kernels in front of it, it overlaps none of them.
    timeline = simulated(scenario(layout__ep=4, communication__pipeline__overlap="none"))
    one = timeline.program
    first = one.labels.index("combine(B)")
    for action in {int(one.action[row]) for row in np.flatnonzero(one.label == first)}:
        rank, position, _ = one.actions[action]
        before = [
            number
            for number, other in enumerate(one.actions)
            if other.rank == rank and 0 <= other.position < position
        ]
        kernels = np.isin(one.action, before) & (one.coflow < 0)
        begins = timeline.start[(one.action == action) & (one.label == first)].min()
        assert begins >= timeline.end[kernels].max() - 1e-12


# Laws

CASES = [
    {"layout__pp": 4, "layout__ep": 2},
    {"schedule__name": "gpipe"},
    {"schedule__name": "interleaved", "layout__vpp": 2},
    {"layout__zero": 3, "layout__ep": 1},
    {"node__nic": "1 GB/s per direction"},
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "overlap"),
    [
        (changes, overlap)
        for changes in CASES
        for overlap in OVERLAPS
        if not (overlap == "serial" and changes.get("layout__vpp"))
    ],
    ids=str,
)
def test_executors_folding_and_bounds_agree_under_every_overlap(changes, overlap):
    one = scenario(**changes, communication__pipeline__overlap=overlap)
    program = lower(one)
    timeline, other = compiled.run(program), reference.run(program)
    for column in ("arrive", "start", "end"):
        assert getattr(timeline, column).tobytes() == getattr(other, column).tobytes()
    assert (timeline.end >= 0).all()
    report = summarise(timeline)
    assert all(bound.seconds <= report.step_time * (1 + 1e-12) for bound in report.bounds)
    whole = simulated(one, folded=False)
    assert whole.step_time == pytest.approx(timeline.step_time, rel=1e-9)
    for kind, sent in summarise(whole).traffic.items():
        assert report.traffic[kind] == pytest.approx(sent)


# Keys


def test_a_stack_says_what_overlaps_for_its_schedules():
    def own(**changes):
        return scenario(**changes).pipeline.sends

    assert own() is PipelineOverlap.NONE
    assert own(schedule__name="interleaved", layout__vpp=2) is PipelineOverlap.STEADY
    assert own(schedule__name="dualpipe") is PipelineOverlap.ALL
    assert own(schedule__name="zb-1p") is PipelineOverlap.ALL
    assert own(stack="deepseek") is PipelineOverlap.ALL
    assert own(stack="deepspeed") is PipelineOverlap.SERIAL
    assert own(stack="fsdp2", schedule__name="interleaved", layout__vpp=2) is PipelineOverlap.NONE


def test_schedules_whose_code_overlaps_refuse_to_block():
    with pytest.raises(InputError, match="is not what schedule dualpipe does"):
        scenario(schedule__name="dualpipe", communication__pipeline__overlap="none")


def test_one_by_one_is_refused_with_virtual_stages():
    with pytest.raises(InputError, match="is for one stage per rank"):
        scenario(
            schedule__name="interleaved",
            layout__vpp=2,
            communication__pipeline__overlap="serial",
        )

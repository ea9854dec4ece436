"""Transfers inside a phase as literal timelines: exposed, overlapped with a GEMM, late."""

from types import SimpleNamespace
from typing import Any

import pytest
from builders import flow, kernel, program, scenario, transfer

from simulator.compute import Sensitivity
from simulator.costs import BlockCost, BlockMemory, Hop, Join, Part, PhaseCost, Segment, price
from simulator.costs.phases import phase_cost
from simulator.engine import run
from simulator.ops import LATE, Op, Phase, Transfer, Work
from simulator.ops import Transfer as Moves
from simulator.program import STREAMS
from simulator.program.chunks import chunk, halves
from simulator.schedules import Action

RATE = 50e9


def seconds(time: float) -> Segment:
    return Segment({"gemm": time}, {}, 0.0)


def moves(time: float, concurrent: int = 0) -> Hop:
    """Return a transfer that takes `time` on a link of its own."""
    return Hop(Transfer("gather", "tp", time * RATE), concurrent)


def block(*, recompute: bool = False, **phases: tuple[Segment | Hop | Join, ...]) -> BlockCost:
    """Return a block without experts whose phases hold what is given."""
    empty = {phase: PhaseCost(phases.get(phase, ())) for phase in Phase}
    return BlockCost(-1, empty, BlockMemory(0.0, "full" if recompute else ""))


def timeline(action: str, *blocks: BlockCost) -> list[tuple[str, float, float]]:
    """Return (stream, start, end) of an action's rows; every transfer has a link of its own."""
    parts = [Part(number, "dense", cost) for number, cost in enumerate(blocks)]
    chunk_rows = chunk(Action.parse(action).kind, halves(parts))
    rows, flows = [], []
    busy = [one.total for cost in blocks for phase in Phase for one in cost.phases[phase].segments]
    columns = zip(
        chunk_rows.stream, chunk_rows.segment, chunk_rows.call, chunk_rows.after, strict=True
    )
    for stream, segment, (kind, size, _), after in columns:
        due = [row for row in after if row >= 0]
        if kind:
            rows.append(transfer(0, len(flows), *due, stream=STREAMS[stream]))
            flows.append(flow(float(size), 0, links=((len(flows), 1.0),)))
        else:
            rows.append(kernel(0, busy[segment], *due, stream=STREAMS[stream]))
    done = run(program(rows, tuple(flows), (RATE,) * max(1, len(flows))))
    spans = zip(chunk_rows.stream, done.start.tolist(), done.end.tolist(), strict=True)
    return [(STREAMS[stream], round(start, 12), round(end, 12)) for stream, start, end in spans]


# Inside a phase


def test_a_transfer_that_stands_before_kernels_is_exposed():
    one = block(attention_f=(seconds(1), moves(0.5), seconds(2)))
    assert timeline("F0@0", one) == [("compute", 0, 1), ("tensor", 1, 1.5), ("compute", 1.5, 3.5)]


def test_a_transfer_next_to_a_kernel_is_hidden_up_to_its_length():
    # 0.5 s next to 1 s is free; 1.5 s next to 1 s makes the kernel after it wait 0.5 s.
    short = block(attention_f=(seconds(1), moves(0.5, 1), seconds(1), seconds(1)))
    assert timeline("F0@0", short) == [
        ("compute", 0, 1),
        ("tensor", 1, 1.5),
        ("compute", 1, 2),
        ("compute", 2, 3),
    ]
    long = block(attention_f=(seconds(1), moves(1.5, 1), seconds(1), seconds(1)))
    assert timeline("F0@0", long) == [
        ("compute", 0, 1),
        ("tensor", 1, 2.5),
        ("compute", 1, 2),
        ("compute", 2.5, 3.5),
    ]


def test_transfers_of_a_rank_take_turns():
    # Two gathers next to the same second: the second one starts when the first is done.
    one = block(attention_f=(moves(0.5, 1), moves(0.5, 1), seconds(1), seconds(1)))
    assert timeline("F0@0", one) == [
        ("tensor", 0, 0.5),
        ("tensor", 0.5, 1),
        ("compute", 0, 1),
        ("compute", 1, 2),
    ]


def test_the_next_block_waits_for_what_the_last_one_moves():
    one, other = block(attention_f=(seconds(1), moves(0.5))), block(attention_f=(seconds(1),))
    assert timeline("F0@0", one, other) == [
        ("compute", 0, 1),
        ("tensor", 1, 1.5),
        ("compute", 1.5, 2.5),
    ]


# Input gradients overlapped with weight gradients


@pytest.mark.parametrize(("late", "attention"), [(0.5, 2.0), (1.5, 2.5)])
def test_the_sum_of_an_input_gradient_travels_while_the_weight_gradient_runs(late, attention):
    # dgrad 0 to 1; its sum from 1 on, next to the weight gradient 1 to 2; attention's input
    # gradient waits for both.
    one = block(
        mlp_b=(seconds(1), moves(late, LATE)), mlp_w=(seconds(1),), attention_b=(seconds(1),)
    )
    assert timeline("B0@0", one) == [
        ("compute", 0, 1),
        ("tensor", 1, 1 + late),
        ("compute", 1, 2),
        ("compute", attention, attention + 1),
    ]


def test_what_is_gathered_again_is_there_before_the_weight_gradient():
    # The input is gathered again beside dgrad; the weight gradient multiplies with it: 1.5 s make
    # it wait 0.5 s.
    one = block(
        mlp_b=(moves(1.5, 1), seconds(1), moves(0.25, LATE)),
        mlp_w=(seconds(1),),
        attention_b=(seconds(1),),
    )
    assert timeline("B0@0", one) == [
        ("tensor", 0, 1.5),
        ("compute", 0, 1),
        ("tensor", 1.5, 1.75),
        ("compute", 1.5, 2.5),
        ("compute", 2.5, 3.5),
    ]


def test_the_norm_waits_for_the_sum_and_the_weight_gradient_runs_before_it():
    one = block(
        attention_b=(seconds(1), moves(0.5, LATE)),
        attention_w=(seconds(1),),
        attention_t=(seconds(0.25),),
    )
    assert timeline("B0@0", one) == [
        ("compute", 0, 1),
        ("tensor", 1, 1.5),
        ("compute", 1, 2),
        ("compute", 2, 2.25),
    ]


@pytest.mark.parametrize(("late", "other"), [(0.5, 2.0), (1.5, 2.5)])
def test_a_sum_travels_next_to_one_weight_gradient_and_the_other_waits_for_it(late, other):
    # The other layer's has run before, in truth, and hides nothing of this sum.
    one = block(
        attention_b=(seconds(1), moves(late, LATE)),
        attention_w=(seconds(1), Join(), seconds(1)),
        attention_t=(seconds(0.25),),
    )
    assert timeline("B0@0", one) == [
        ("compute", 0, 1),
        ("tensor", 1, 1 + late),
        ("compute", 1, 2),
        ("compute", other, other + 1),
        ("compute", other + 1, other + 1.25),
    ]
    # A split backward pass has nothing left to wait for.
    assert timeline("W0@0", one) == [("compute", 0, 1), ("compute", 1, 2)]


def test_without_its_weight_gradient_an_input_gradients_sum_is_exposed():
    # I of a split backward pass; W of another micro-batch may fill the gap, here is none.
    one = block(
        attention_b=(seconds(1), moves(0.5, LATE)),
        attention_w=(seconds(1),),
        attention_t=(seconds(0.25),),
    )
    assert timeline("I0@0", one) == [("compute", 0, 1), ("tensor", 1, 1.5), ("compute", 1.5, 1.75)]
    assert timeline("W0@0", one) == [("compute", 0, 1)]


def test_full_recompute_runs_the_forward_pass_first_with_its_transfers():
    one = block(
        recompute=True, attention_f=(seconds(1), moves(0.5), seconds(1)), attention_b=(seconds(3),)
    )
    assert timeline("B0@0", one) == [
        ("compute", 0, 1),
        ("tensor", 1, 1.5),
        ("compute", 1.5, 2.5),
        ("compute", 2.5, 5.5),
    ]


# Ops to segments


class _Second:
    """Every kernel takes a second."""

    def gaps(self, op: Op) -> float:
        return 0.0

    def kernel(self, op: Op, *, overlapped: bool) -> float:
        return 1.0

    def sensitivity(self, op: Op, alone: float) -> Sensitivity:
        return Sensitivity()


def cut(*ops: Op | Moves) -> list[float | int]:
    """Return a phase's items: seconds of a segment, minus one less `concurrent` of a transfer."""
    items = phase_cost(ops, _Second()).items
    return [item.total if isinstance(item, Segment) else -1 - item.concurrent for item in items]


OP = Op("op", "norm", bytes=1.0)


def test_kernels_between_transfers_are_one_segment():
    assert cut(OP, OP, Moves("gather", "tp", 1.0), OP, OP, OP) == [2.0, -1, 3.0]


def test_what_runs_next_to_a_transfer_is_a_segment_of_its_own():
    assert cut(OP, Moves("gather", "tp", 1.0, concurrent=2), OP, OP, OP) == [1.0, -2, 2.0, 1.0]


def test_a_late_transfer_ends_a_segment_and_nothing_else():
    assert cut(OP, Moves("sum", "tp", 1.0, concurrent=LATE), OP) == [1.0, 0, 1.0]


def test_an_op_that_joins_begins_a_segment():
    items = phase_cost((OP, OP._replace(joins=True), OP), _Second()).items
    assert [type(item) for item in items] == [Segment, Join, Segment]


def test_a_work_keeps_its_own_tokens_alone_under_sequence_parallelism():
    model: Any = SimpleNamespace(num_attention_heads=8, kv_heads=2)
    one, other = (
        Work(model, model, 1024, 1024, tp=4, sequence_parallel=flag) for flag in (True, False)
    )
    assert (one.own, other.own, one.heads, one.kv_heads) == (256.0, 1024.0, 2, 1)


@pytest.mark.slow
def test_gemms_leave_sms_to_exchanges_only_where_passes_overlap():
    # DeepSeek-V3's 20 of 132; without pairs nothing overlaps dispatch and combine, and the GEMMs of
    # other stacks take all SMs.
    def kept(name, stack):
        return price(scenario(schedule__name=name, stack=stack)).processor.reserved_sms

    assert [kept(name, "deepseek") for name in ("1f1b", "zb-v", "dualpipe")] == [0, 0, 20]
    assert kept("dualpipe", "megatron") == 0

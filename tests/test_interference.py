"""Kernels next to transfers: literal timelines, laws, and where the tables' sensitivities come from."""

from dataclasses import replace

import numpy as np
import pytest
from builders import configurations, faster, flow, kernel, program, scenario, transfer
from calibration import CHUNK, ROUTING, TOKENS
from test_calibration import OBSERVED, slope

from simulator import engine
from simulator.collectives.kinds import EXCHANGES, SENDS
from simulator.compute import Sensitivity, speed
from simulator.compute.contention import most, sensitivity
from simulator.engine import EXECUTORS
from simulator.ops.op import Taken, gemm
from simulator.program import lower
from simulator.report import summarise
from simulator.residuals.interference import measured, neighbours
from simulator.residuals.rows import processor

GB = 1e9
WHOLE = "900 GB/s bidirectional"


@pytest.fixture(params=EXECUTORS, scope="module")
def run(request):
    return lambda one: engine.run(one, request.param)


def timeline(run, rows, *flows, capacity=(50e9,)):
    done = run(program(rows, flows, capacity))
    columns = zip(done.start.tolist(), done.end.tolist(), done.slowed.tolist(), strict=True)
    return [tuple(round(value, 12) for value in row) for row in columns]


# The rule


def test_what_is_left_of_a_resource_is_what_bound_work_runs_on():
    # A quarter of the SMs: bound work takes 4/3 of its time. A fifth of HBM: 5/4. Both: 5/3.
    assert speed(sensitivity(1, 0), 0.25, 0.2) == pytest.approx(3 / 4)
    assert speed(sensitivity(0, 1), 0.25, 0.2) == pytest.approx(4 / 5)
    assert speed(sensitivity(1, 1), 0.25, 0.2) == pytest.approx(3 / 5)
    assert speed(sensitivity(1, 1), 0, 0) == 1.0


def test_two_kernels_in_a_row_take_the_sum_of_their_times():
    # 1 s at 3/4 and 3 s at 4/5 of their speeds: 4/3 + 15/4 s.
    total = Sensitivity().plus(sensitivity(1, 0), 1.0).plus(sensitivity(0, 1), 3.0)
    assert 4.0 / speed(total.mean(4.0), 0.25, 0.2) == pytest.approx(4 / 3 + 15 / 4)


def test_transfers_leave_kernels_some_of_everything():
    assert speed(sensitivity(1, 1), 3.0, 3.0) == pytest.approx((1 - most()) ** 2)


# The engine


def test_a_kernel_runs_slower_while_a_transfer_holds_sms(run):
    # The transfer lasts 0.5 s and holds a third of the SMs: 2/3 of the speed, 1/3 s done by then, and
    # 2/3 s behind it. Lost: 1/6 s.
    rows = [kernel(0, 1.0, sensitive=(1, 0)), transfer(0, 0)]
    assert timeline(run, rows, flow(25 * GB, 0, takes=(1 / 3, 0))) == [
        (0, pytest.approx(7 / 6), pytest.approx(1 / 6)),
        (0, 0.5, 0),
    ]


def test_a_kernel_is_slowed_by_what_begins_next_to_it(run):
    # From 1 s on for 1 s, half of the HBM bandwidth: half the speed. 2 s of work end at 2.5 s.
    rows = [kernel(0, 2.0, sensitive=(0, 1)), kernel(1, 1.0), transfer(0, 0), transfer(1, 0)]
    rows[2]["after"] = rows[3]["after"] = (1,)
    spans = timeline(run, rows, flow(50 * GB, 0, 1, takes=(0, 0.5)))
    assert spans[0] == (0, 2.5, 0.5)
    assert spans[2] == (1, 2, 0)


def test_a_transfer_takes_hbm_as_fast_as_it_moves(run):
    # Two transfers on one link move at half their rate, so each takes a quarter of HBM, not a half;
    # the kernel of rank 0 runs next to one of them alone: at 3/4 for 1 s.
    rows = [kernel(0, 3.0, sensitive=(0, 1)), transfer(0, 0), transfer(1, 1)]
    both = [flow(25 * GB, rank, takes=(0, 0.5)) for rank in (0, 1)]
    assert timeline(run, rows, *both)[0] == (0, 3.25, 0.25)


def test_what_the_host_holds_up_hides_what_transfers_take(run):
    # The last kernel cannot end before 2 s, as late as its host launches it: 1 s of work that is
    # spread over them has 1 s to spare, of which a transfer takes 0.5 s.
    rows = [kernel(0, 1.0, sensitive=(1, 0)), transfer(0, 0)]
    rows[0]["lag"] = 2.0
    assert timeline(run, rows, flow(50 * GB, 0, takes=(0.5, 0)))[0] == (0, 2, 0.5)


def test_a_step_is_not_slowed_by_transfers_that_nothing_runs_next_to(run):
    # One behind the other: not a bit differs from a run in which transfers take nothing.
    rows = [
        kernel(0, 0.1, sensitive=(1, 1)),
        transfer(0, 0, 0),
        kernel(0, 0.2, 1, sensitive=(1, 1)),
    ]
    taking = run(program(rows, (flow(25 * GB, 0, takes=(0.2, 0.2)),)))
    free = run(program(rows, (flow(25 * GB, 0),)))
    assert taking.end.tolist() == free.end.tolist()
    assert not taking.slowed.any()


# Steps


CASES = configurations()[::3]


@pytest.fixture(scope="module", params=CASES, ids=str)
def lowered(request):
    return lower(scenario(**request.param))


@pytest.mark.slow
def test_the_executors_agree_bit_for_bit(lowered):
    simpy, compiled = (engine.run(lowered, name) for name in EXECUTORS)
    for column in ("start", "end", "slowed"):
        assert getattr(simpy, column).tolist() == getattr(compiled, column).tolist()


@pytest.mark.slow
def test_no_step_is_shorter_for_what_transfers_take(lowered):
    free = replace(
        lowered, coflows=tuple(replace(flow, sms=0.0, hbm=0.0) for flow in lowered.coflows)
    )
    step = engine.run(lowered)
    assert step.step_time >= engine.run(free).step_time
    assert sum(summarise(step).breakdown.values()) == pytest.approx(step.step_time, rel=1e-12)


@pytest.mark.slow
def test_twice_as_fast_a_cluster_takes_half_as_long():
    # What a transfer takes of HBM is its rate over HBM's, which both double.
    one = scenario(layout__overlap_grad_reduce=True)
    twice = engine.run(lower(faster(one, 2.0)))
    assert engine.run(lower(one)).step_time == pytest.approx(2 * twice.step_time, rel=1e-9)


# What transfers take


def held(**changes):
    """Return kind of coflow -> SMs that it holds."""
    one = lower(scenario(schedule__name="1f1b", **changes))
    return {flow.label[0].value: round(flow.sms * one.scenario.gpu.sms) for flow in one.coflows}


def test_transfers_hold_a_cta_per_channel():
    # Rings in a node have 24 channels. Sends have 2 to a peer beyond the node, where the other one of
    # two stages is, and 32 to one in it: of four stages of two GPUs two are on a node.
    found = held(layout__tp=2, layout__pp=2)
    assert found["tp"] == 24
    assert found["F"] == found["B"] == 2
    four = lower(scenario(layout__tp=2, layout__pp=4, layout__ep=1))
    sends = {round(flow.sms * 132) for flow in four.coflows if flow.label[0] in SENDS}
    assert sends == {2, 32}


@pytest.mark.parametrize(("tp", "ctas"), [(4, 4), (2, 8), (1, 16)])
def test_rings_across_nodes_hold_ctas_for_each_nic_that_they_use(tp, ctas):
    # Two nodes of four GPUs: data parallel groups have 4 / tp GPUs in each. NCCL's search finds a ring
    # for each of their NICs, and multiplies it by four, to 16 at most.
    assert held(layout__tp=tp, layout__pp=1, layout__ep=1)["reduce_scatter"] == ctas


def test_a_transfer_takes_of_hbm_what_it_sends_and_some_more():
    one = lower(scenario(layout__pp=2, layout__ep=2))
    hbm = one.scenario.gpu.memory.bandwidth
    # Both ends of a send take what its source does.
    for kind in (kind for kind in one.coflows if kind.label[0] not in SENDS):
        sent = sum(kind.sent) / one.multiplicity[list(kind.members)].sum()
        moves = 2.5 if kind.label[0] in EXCHANGES else 2  # DeepEP's kernels, NCCL's
        assert kind.hbm * hbm == pytest.approx(moves * sent / (kind.size / kind.rate), rel=1e-9)


@pytest.mark.parametrize("gpu", ["a100", "h100", "b200"])
def test_userbuffers_slows_its_gemm_once_and_other_transfers_do_so_on_top(gpu):
    # What Userbuffers takes is in the time of the GEMM next to it, so that its coflow takes nothing.
    # That GEMM is as sensitive to an overlapped gradient as one next to which nothing else runs.
    part = processor(gpu)
    row = part.kernels.communication["userbuffers"]
    assert (row.ctas, row.rail_ctas, row.hbm) == (0, 0, 0)
    alone = gemm("", 8192, 8192, 8192, "bf16")
    next_to_copies = alone._replace(taken=Taken(1e-3, 16))
    slower = part.kernel(next_to_copies, overlapped=False)
    free = part.kernel(alone, overlapped=False)
    assert slower > free
    expected = part.sensitivity(alone, free)
    assert part.sensitivity(next_to_copies, slower) == expected
    assert expected.hbm > 0


# Where the sensitivities come from


BEST = {"compute_hbm": 0.615, "memory_sms": 0.56, "nccl_slower": 1.28, "nccl_hbm": 2.0}


def _squares(**other):
    """Return the sum of squares with other constants than the tables'."""
    logs = []
    for row in neighbours(BEST | other):
        if row.fitted:
            # Of a span the middle.
            measured_ratio = row.measured or np.sqrt(row.span[0] * row.span[1])
            logs.append(np.log(row.computed / measured_ratio))
    assert len(logs) == 5
    return np.square(logs).sum()


def test_the_constants_are_least_squares_over_the_fitted_rows():
    # Jointly: copies alone, NCCL's SMs on top, NCCL itself slowed, DeepSeek's GEMMs, its memory-bound
    # kernels. Of the bytes through HBM the span of NCCL's maintainer, two to three, ends first.
    assert [row.computed for row in neighbours(BEST)] == [row.computed for row in neighbours()]
    best = _squares()
    for name, step in (("compute_hbm", 0.01), ("memory_sms", 0.01), ("nccl_slower", 0.03)):
        assert _squares(**{name: BEST[name] - step}) > best
        assert _squares(**{name: BEST[name] + step}) > best
    assert _squares(nccl_hbm=2.1) > best


def test_nccl_is_slowed_inside_a_node_and_not_where_it_waits_for_nics():
    for gpu in ("a100", "h100", "b200"):
        rows = processor(gpu).kernels.communication
        slowed = {name for name, row in rows.items() if row.overlap_slowdown == 1.28}
        assert slowed >= {"nccl_simple", "nccl_simple_all_reduce", "all_to_all", "send_recv"}
        for name in slowed:
            links = rows[name].measured_on
            assert links.nic == links.nvlink
    # Rings of 8 GPUs on two nodes, and on one whose NVLink is not cut.
    inside = {"nodes": 1, "node__gpus": 8, "node__nics": 8, "node__nvlink": WHOLE}
    for changes, slowdown in (({}, 1.0), (inside, 1.28)):
        plain = {"layout__tp": 1, "layout__pp": 1, "layout__ep": 1, **changes}
        one = lower(scenario(schedule__name="1f1b", **plain))
        # Small buckets run LL, which nobody measured next to compute.
        large = [flow.overlap_slowdown for flow in one.coflows if flow.size > 25e6]
        assert len(large) >= 5
        assert large == pytest.approx([slowdown] * len(large))


def test_sms_too_few_for_a_link_are_not_too_few_for_the_slower_one_where_a_kernel_was_measured():
    # NVLink of 450 GB/s: 16 of DeepEP's SMs copy less than it carries, 20 more of it. Next to compute
    # each moves what was measured on 200 GB/s, which either number fills.
    found = []
    for sms in (16, 20):
        inside = {"nodes": 1, "node__gpus": 8, "node__nics": 8, "node__nvlink": WHOLE}
        one = lower(scenario(layout__pp=1, layout__ep=8, experts__sms=sms, **inside))
        flows = {flow.label[0].value: flow for flow in one.coflows}
        found.append(flows["dispatch"])
    few, more = found
    # Bytes that keep the link busy: more where SMs fill less of it.
    assert few.size > more.size
    assert few.overlap_slowdown * few.size / few.rate == pytest.approx(
        more.overlap_slowdown * more.size / more.rate
    )


def test_pairs_whose_geometry_is_known_are_within_15_percent():
    rows = [row for row in neighbours() if row.measured]
    errors = {row.what: row.error for row in rows}
    assert len(rows) == 6
    assert max(map(abs, errors.values())) < 0.15, errors
    # One span is missed, by 8%: a kernel that the transfer may not have covered.
    outside = [row.what for row in neighbours() if not row.measured and not row.inside]
    assert outside == ["GEMM next to an all-reduce of 25 MB, 8 GPUs"]


def test_deepseeks_rows_are_its_regression_and_its_payloads():
    gemms, memory, *_ = (row for row in measured() if row["gpu"] == "h800")
    assert slope(OBSERVED["gemm"] + OBSERVED["gemm_grouped"]) == pytest.approx(
        gemms["beside"], abs=0.001
    )
    assert slope(OBSERVED["memory"]) == pytest.approx(memory["beside"], abs=0.001)
    tokens = TOKENS * 7 / 8 * (ROUTING.nodes + ROUTING.gpus)
    token = 2 * 7168 * (1 + 4 / 128) + 2 * 7168 * 2  # two dispatches, two combines [B]
    payload = sum(np.mean(kind["payload"]) for kind in CHUNK["communication_us"].values())
    assert tokens * token / payload * 1e-3 == pytest.approx(gemms["sends"], rel=0.005)

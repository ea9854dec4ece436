"""Traces out: what Perfetto and PyTorch's tools find in a step, and that nothing is lost on the way."""

import gzip
import importlib.util
import json
import math
import os
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from builders import CLUSTER, TRAINING, scenario

from simulator.cli.commands import _main
from simulator.engine import run
from simulator.errors import InputError
from simulator.inputs import read_trace
from simulator.memory import memory
from simulator.program import STREAMS, lower
from simulator.report import as_dict, mean_share, summarise
from simulator.report.overlap import Overlap, overlap
from simulator.report.series import link_use, memory_over_time
from simulator.scenario import load
from simulator.timeline import Intervals, Timeline, covered
from simulator.trace import check_target, of_tree, summaries, write
from simulator.trace.events import duration, micro, nanoseconds
from simulator.trace.groups import Call
from simulator.trace.write import encode, tree
from simulator.validate.chunk import pair_program


@pytest.fixture(scope="module")
def small():
    return run(
        lower(scenario(schedule__name="dualpipe", layout__pp=2, training__global_batch_size=32))
    )


@pytest.fixture(scope="module")
def events(small):
    return tree(small, range(small.program.ranks), links=True)["traceEvents"]


def kernels(events):
    return [event for event in events if event["ph"] == "X"]


# Kernels


def test_every_row_of_every_class_is_one_kernel_with_its_time(small, events):
    found = kernels(events)
    assert len(found) == len(small.program.rank)
    assert {event["args"]["correlation"] for event in found} == set(range(len(found)))
    for event in found:
        row = event["args"]["correlation"]
        assert event["cat"] == "kernel"
        assert event["args"]["stream"] == small.program.stream[row]
        assert event["ts"] == pytest.approx(1e6 * small.start[row], abs=1e-3)
        assert event["dur"] == pytest.approx(1e6 * (small.end[row] - small.start[row]), abs=1e-3)
        assert event["name"].endswith(small.program.labels[small.program.label[row]])


def test_kernels_of_one_thread_never_overlap(events):
    lines = defaultdict(list)
    for event in kernels(events):
        lines[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in lines.values():
        for (_, end), (start, _) in zip(sorted(spans), sorted(spans)[1:], strict=False):
            assert nanoseconds(start * 1e-6) >= nanoseconds(end * 1e-6)


def lost(events):
    """Return the slices that Perfetto drops.

    It reads times as whole nanoseconds (json_parser, CoerceToTs) and takes the slices of a thread in
    the order of their starts, those that start together in the order of the file. A slice closes
    all that ended before it starts; one that begins inside of another and ends after it is dropped
    (SliceTracker::StartSlice, misplaced_end_event).
    """
    threads = defaultdict(list)
    for event in kernels(events):
        start, length = round(1000 * event["ts"]), round(1000 * event["dur"])
        threads[event["pid"], event["tid"]].append((start, start + length, event))
    dropped = []
    for slices in threads.values():
        open_ends = []
        for start, end, event in sorted(slices, key=lambda slice_: slice_[0]):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            if open_ends and end > open_ends[-1]:
                dropped.append(event)
            else:
                open_ends.append(end)
    return dropped


def test_perfetto_takes_every_slice(events):
    assert not lost(events)


def test_perfettos_rule_drops_a_slice_that_neither_nests_nor_follows():
    def slice_(start, end):
        return {"ph": "X", "pid": 0, "tid": 0, "ts": start, "dur": end - start}

    follows, nests, crosses = slice_(1.0, 2.0), slice_(1.2, 1.8), slice_(1.9, 2.001)
    assert lost([slice_(0.0, 1.0), follows, nests]) == []
    assert lost([follows, crosses]) == [crosses]


@pytest.mark.slow
def test_perfetto_takes_every_slice_of_a_step_of_deepseek_v3():
    timeline = run(lower(load("h800-2048", "deepseek-v3")))
    drawn = tree(timeline, range(timeline.program.ranks))["traceEvents"]
    on_gpus = [event for event in kernels(drawn) if event["cat"] == "kernel"]
    assert len(on_gpus) == len(timeline.program.rank) > 40_000
    assert not lost(drawn)


def test_durations_are_differences_of_rounded_ends():
    # 1.4 ns to 2.6 ns: 1 and 3, so 2 ns and not 1.2, rounded to 1.
    assert duration(1.4e-9, 2.6e-9) == 0.002
    assert micro(1.4e-9) + duration(1.4e-9, 2.6e-9) == pytest.approx(micro(2.6e-9))


def test_a_process_says_which_rank_it_is_and_how_many_it_stands_for(small, events):
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    for rank, first in enumerate(small.program.first_rank.tolist()):
        assert f"rank {first}," in names[first]
        assert f"pipeline index {small.program.pipeline_index(rank)}" in names[first]
        assert f"stands for {small.program.multiplicity[rank]} ranks" in names[first]
    threads = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert {"stream 0 compute", "stream 2 communication"} <= threads


def test_a_kernel_names_its_action_stage_and_micro_batch(small, events):
    simulated = {small.program.pipeline_index(rank) for rank in range(small.program.ranks)}
    actions = {str(action) for index in simulated for action in small.program.schedule.ranks[index]}
    assert {e["args"]["action"] for e in kernels(events)} == actions | {"update"}
    for event in kernels(events):
        if "&" in event["args"]["action"]:
            first, second = event["args"]["action"].split("&")
            micro, stage = event["args"]["micro-batch"], event["args"]["stage"]
            assert [first[1:], second[1:]] == [
                f"{m}@{s}" for m, s in zip(micro, stage, strict=True)
            ]
        elif event["args"]["action"] != "update":
            assert (
                event["args"]["action"][1:]
                == f"{event['args']['micro-batch']}@{event['args']['stage']}"
            )


# Collectives


def test_collectives_have_the_arguments_that_pytorch_writes(events):
    keys = {
        "Collective name",
        "In msg nelems",
        "Out msg nelems",
        "Group size",
        "dtype",
        "Process Group Name",
        "Process Group Ranks",
    }
    moving = [event for event in kernels(events) if event["name"].startswith("nccl")]
    assert {e["name"].split("_")[1].split()[0] for e in moving} == {
        "Dispatch",
        "Combine",
        "SendRecv",
        "AllGather",
        "ReduceScatter",
    }
    for event in moving:
        assert keys <= set(event["args"])
        ranks = json.loads(event["args"]["Process Group Ranks"])
        assert len(ranks) == event["args"]["Group size"] == len(set(ranks))
        assert event["pid"] in ranks
    assert not any(keys & set(event["args"]) for event in kernels(events) if event not in moving)


def test_sizes_of_the_small_run_are_those_worked_out_by_hand(events):
    # 2,048 tokens x 1,024: a send carries 2,097,152 BF16 elements, dispatch sends as many in the
    # recipe's BF16, and what combine sends is what dispatch received.
    by_name = defaultdict(list)
    for event in kernels(events):
        by_name[event["name"].partition(" ")[0]].append(event["args"])
    assert {(a["In msg nelems"], a["dtype"]) for a in by_name["ncclDevKernel_SendRecv"]} == {
        (2048 * 1024, "BFloat16")
    }
    assert {a["In msg nelems"] for a in by_name["ncclDevKernel_Dispatch"]} == {2048 * 1024}
    assert {a["Out msg nelems"] for a in by_name["ncclDevKernel_Dispatch"]} == {
        a["In msg nelems"] for a in by_name["ncclDevKernel_Combine"]
    }
    for args in by_name[
        "ncclDevKernel_ReduceScatter"
    ]:  # gradients in FP32, under ZeRO 1 one part for each member
        assert args["dtype"] == "Float"
        assert args["In msg nelems"] == pytest.approx(
            args["Out msg nelems"] * args["Group size"], rel=1e-6
        )


def test_a_dispatcher_that_sends_straight_is_given_every_copy_of_a_token():
    # 2,048 tokens x 1,024, each to 2 experts: the plain all-to-all is given 2 copies of each, and
    # with equally popular experts every GPU gets as many. DeepEP reads each token once.
    timeline = run(lower(scenario(experts__dispatcher="all_to_all")))
    sizes = {
        (event["args"]["In msg nelems"], event["args"]["Out msg nelems"])
        for event in kernels(tree(timeline, [0])["traceEvents"])
        if event["name"].startswith(("ncclDevKernel_Dispatch", "ncclDevKernel_Combine"))
    }
    assert sizes == {(2 * 2048 * 1024, 2 * 2048 * 1024)}


@pytest.mark.parametrize("parallel", [True, False])
@pytest.mark.slow
def test_tensor_parallel_transfers_are_gathers_and_scatters_or_sums(parallel):
    changes = {
        "model__n_routed_experts": 0,
        "model__num_experts_per_tok": 0,
        "layout__ep": 1,
        "layout__tp": 2,
        "layout__sequence_parallel": parallel,
    }
    timeline = run(lower(scenario(**changes)))
    calls = {
        (e["name"].split()[0], e["args"]["In msg nelems"], e["args"]["Out msg nelems"])
        for e in kernels(tree(timeline, [0])["traceEvents"])
        if e["args"]["stream"] == STREAMS.index("tensor")
    }
    whole = 2048 * 1024
    if parallel:
        assert calls == {
            ("ncclDevKernel_AllGather", whole // 2, whole),
            ("ncclDevKernel_ReduceScatter", whole, whole // 2),
        }
    else:
        assert calls == {("ncclDevKernel_AllReduce", whole, whole)}


@pytest.mark.parametrize(
    "changes",
    [
        {"layout__zero": 0},
        {"layout__zero": 3},
        {"layout__zero": 3, "layout__shard": 2},
        {"layout__tp": 2, "layout__etp": 2},
        {"precision__recipe": "fp8_block"},
        {"faults": [{"gpu": 3, "speed": 0.7}]},
        {"layout__cp": 2, "layout__cp_comm": "p2p"},
        {"layout__cp": 2, "layout__cp_comm": "all_gather"},
        {"layout__cp": 2, "layout__cp_comm": "a2a"},
        {"schedule__name": "zb-v", "layout__vpp": 2},
        {"training__recompute": ["full"]},
    ],
    ids=str,
)
@pytest.mark.slow
def test_a_group_holds_the_rank_that_calls_and_every_call_moves_elements(changes):
    timeline = run(lower(scenario(**changes)))
    calls = [
        event
        for event in kernels(tree(timeline, range(timeline.program.ranks))["traceEvents"])
        if event["name"].startswith("nccl")
    ]
    assert calls
    for event in calls:
        ranks = json.loads(event["args"]["Process Group Ranks"])
        assert event["pid"] in ranks
        assert len(set(ranks)) == event["args"]["Group size"] > 1
        assert event["args"]["In msg nelems"] > 0
        assert event["args"]["Out msg nelems"] > 0


def test_long_groups_are_cut_as_pytorch_cuts_them():
    # record_param_comms writes 29 ranks, dots and the last one.
    text = Call("AllGather", 1, 64, "Float", "data", tuple(range(64))).arguments[
        "Process Group Ranks"
    ]
    assert text.startswith("[0, 1, 2,")
    assert text.endswith("28, ..., 63]")


# Arrows and counters


def test_every_send_has_an_arrow_to_what_waits_for_it(small, events):
    starts = {e["id"]: e for e in events if e["ph"] == "s"}
    ends = {e["id"]: e for e in events if e["ph"] == "f"}
    assert set(starts) == set(ends)
    sends = [e for e in kernels(events) if "SendRecv" in e["name"]]
    drawn = {(e["pid"], e["tid"], e["ts"]) for e in starts.values()}
    assert drawn == {(e["pid"], e["tid"], e["ts"]) for e in sends}
    for number, start in starts.items():
        end = ends[number]
        assert end["bp"] == "e"
        assert end["ts"] >= start["ts"]
    by_place = {(e["pid"], e["tid"], e["ts"]): e for e in kernels(events) if e["dur"]}
    assert sum(e["name"].startswith("busy %") for e in events) > 0
    for number, start in starts.items():
        send = by_place[start["pid"], start["tid"], start["ts"]]
        taker = by_place[ends[number]["pid"], ends[number]["tid"], ends[number]["ts"]]
        assert taker["ts"] >= send["ts"] + send["dur"] - 2e-3  # nothing reads what has not come


def test_memory_never_exceeds_the_reported_peak_and_ends_where_it_began(small):
    for rank in range(small.program.ranks):
        times, held = memory_over_time(small, rank)
        assert (np.diff(times) >= 0).all()
        most = memory(small.program)[small.program.pipeline_index(rank)].by_category
        assert held["activations"].max() <= most["activations"] * (1 + 1e-9)
        assert held["activations"].max() > 0
        assert held["activations"][-1] == pytest.approx(0.0, abs=1.0)
        assert (held["parameters"] == most["parameters"]).all()


def test_link_counters_add_up_to_the_bytes_that_crossed(small):
    # The area under a link's counter is its busy time, which the report knows from calls x bytes.
    from simulator.bounds import link_seconds

    busy = dict(zip(small.program.link_names, link_seconds(small.program).tolist(), strict=True))
    found = {
        name: float(np.sum(shares[:-1] * np.diff(times)))
        for name, _, times, shares in link_use(small)
    }
    assert found == pytest.approx(
        {name: seconds for name, seconds in busy.items() if name in found}, rel=1e-6
    )
    assert set(found) == {name for name, seconds in busy.items() if seconds}


# Files


def test_a_trace_is_written_plain_and_compressed_and_the_same_twice(small, tmp_path):
    (plain,) = write(small, tmp_path / "t.json")
    (packed,) = write(small, tmp_path / "t.json.gz")
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert encode(tree(small, [0]), packed) == encode(tree(small, [0]), packed)
    whole = json.loads(plain.read_text(encoding="utf-8"))
    assert whole["distributedInfo"] == {"backend": "nccl", "rank": 0, "world_size": 8}
    assert {"schemaVersion", "deviceProperties", "traceEvents"} <= set(whole)


def test_a_folder_gets_a_file_for_each_class_of_ranks(small, tmp_path):
    files = write(small, check_target(f"{tmp_path}/"))
    assert [file.name for file in files] == [
        f"rank-{rank:05d}.json.gz" for rank in small.program.first_rank.tolist()
    ]
    for file, rank in zip(files, small.program.first_rank.tolist(), strict=True):
        assert read_trace(file)["distributedInfo"]["rank"] == rank
        assert {e["pid"] for e in read_trace(file)["traceEvents"]} == {rank}


@pytest.mark.parametrize(
    ("name", "rule"),
    [("t.txt", "is not a trace"), ("no/t.json", "does not exist"), ("no/", "does not exist")],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_run(name, rule, tmp_path):
    with pytest.raises(InputError, match=rule):
        check_target(f"{tmp_path}/{name}")


@pytest.mark.slow
def test_the_command_writes_a_trace_that_it_can_read_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, document in (("mine.yaml", CLUSTER), ("tiny.yaml", TRAINING)):
        (tmp_path / name).write_text(json.dumps(document), encoding="utf-8")
    assert (
        _main(["run", "mine.yaml", "-w", "tiny.yaml", "--trace", "t.json.gz", "--json", "-"]) == 0
    )
    report = json.loads(capsys.readouterr().out)
    assert _main(["trace", "t.json.gz", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)["processes"]
    for process, known in zip(found, report["overlap"]["by_rank"], strict=True):
        assert process["communication_s"] == pytest.approx(known["communication_s"], rel=1e-3)
        assert process["overlap"] == pytest.approx(known["share"], abs=1e-3)


# Overlap


def timeline_of(rows):
    """Return a timeline of one class of ranks. rows: (start, end, whether it is a transfer)."""
    base = run(lower(scenario(schedule__name="1f1b")))
    program = replace(
        base.program,
        rank=np.zeros(len(rows), np.int64),
        coflow=np.array([0 if row[2] else -1 for row in rows]),
        first_rank=np.zeros(1, np.int64),
        multiplicity=np.array([8]),
    )
    start, end = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    return Timeline(program, start, start, start, start, end, 0 * end, "hand", 0)


@pytest.mark.slow
def test_overlap_is_the_part_of_communication_that_compute_covers():
    # Communication 0-2 and 1-4 (merged 0-4), and 6-7; compute 1-3, 2-3.5 (merged 1-3.5) and 6.5-9:
    # 5 s of communication, of which 2.5 + 0.5 s are covered.
    rows = [
        (0.0, 2.0, True),
        (1.0, 4.0, True),
        (6.0, 7.0, True),
        (1.0, 3.0, False),
        (2.0, 3.5, False),
        (6.5, 9.0, False),
    ]
    (found,) = overlap(timeline_of(rows))
    assert (found.communication, found.hidden, found.share) == (5.0, 3.0, 0.6)
    assert mean_share([found, Overlap(1, 0, 24, 1.0, 1.0)]) == pytest.approx(
        (8 * 3 + 24 * 1) / (8 * 5 + 24 * 1)
    )
    (alone,) = overlap(timeline_of([(0.0, 1.0, False)]))
    assert alone.share is None
    assert mean_share([alone]) is None
    nothing = Intervals(np.array([]), np.array([]))
    assert covered(Intervals(np.array([0.0]), np.array([1.0])), nothing) == 0.0


def test_the_report_has_the_overlap_of_every_class(small):
    report = summarise(small)
    assert [one.rank for one in report.overlap] == small.program.first_rank.tolist()
    assert sum(one.ranks for one in report.overlap) == 8
    assert as_dict(report)["overlap"]["communication_beside_compute"] == mean_share(report.overlap)


@pytest.mark.skipif(
    importlib.util.find_spec("hta") is None, reason="needs HolisticTraceAnalysis, extra trace-tests"
)
@pytest.mark.filterwarnings("ignore")  # its own, about pandas to come
@pytest.mark.parametrize("case", ["small", "deepseek pair"])
def test_holistic_trace_analysis_finds_the_overlap_that_we_report(
    case, small, tmp_path, monkeypatch
):
    from hta.trace_analysis import TraceAnalysis

    # The small run's kernels last microseconds, to which it would round.
    monkeypatch.setenv("HTA_DISABLE_NS_ROUNDING", "1" if case == "small" else "0")
    timeline = small if case == "small" else run(pair_program())
    write(timeline, check_target(f"{tmp_path}/"))
    found = TraceAnalysis(trace_dir=os.fspath(tmp_path)).get_comm_comp_overlap(visualize=False)
    theirs = dict(
        zip(found["rank"].tolist(), found["comp_comm_overlap_pctg"].tolist(), strict=True)
    )
    ours = {one.rank: 100.0 * (one.share or math.nan) for one in overlap(timeline)}
    assert theirs == pytest.approx(ours, abs=0.5)
    assert summaries(of_tree(tree(timeline, [0]), "own"))[0].overlap == pytest.approx(
        ours[0] / 100.0, abs=1e-3
    )

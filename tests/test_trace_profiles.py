"""Traces in: what a profile of torch.profiler says, by hand-written events, our own traces and DeepSeek's."""

import gzip
import json
from pathlib import Path

import pytest
from builders import scenario

from simulator import inputs
from simulator.cli.commands import _main
from simulator.engine import run
from simulator.errors import InputError
from simulator.inputs import read_trace
from simulator.program import lower
from simulator.report.overlap import overlap
from simulator.trace import of_timeline, of_tree, summaries
from simulator.trace.classes import RULES, classify
from simulator.trace.write import tree
from simulator.validate.chunk import pair_program

DEEPSEEK = (
    Path(__file__).resolve().parents[2] / "shared" / "reference" / "deepseek_v3_chunk_trace.json"
)


def kernel(name, stream, start, length, **changes):
    return {
        "ph": "X",
        "cat": "kernel",
        "name": name,
        "pid": 0,
        "tid": stream,
        "ts": start,
        "dur": length,
        "args": {"stream": stream},
        **changes,
    }


PROFILE = {
    "traceEvents": [
        {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": "python"}},
        {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 7, "tid": 7, "ts": 90, "dur": 900},
        kernel("sm90_xmma_gemm_bf16", 7, 100, 50),
        kernel("void flash::flash_fwd_kernel<Params>", 7, 160, 20),
        kernel("Memcpy DtoD (Device -> Device)", 7, 180, 10, cat="gpu_memcpy"),
        kernel(
            "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
            20,
            140,
            30,
        ),
        kernel("void deep_ep::internode::dispatch<false, 8>(int4*)", 27, 185, 25),
    ]
}


def test_a_profile_is_summed_up_by_stream_class_and_overlap():
    # Compute 100-150, 160-190: 80 us. Communication 140-170, 185-210: 55 us, of which 140-150,
    # 160-170 and 185-190 overlap with compute: 25 us.
    (found,) = summaries(of_tree(PROFILE, "hand.json"))
    micro = pytest.approx
    assert found.process == "python (0)"
    assert found.span == micro(110e-6)
    assert found.streams == {
        "7": (3, micro(80e-6)),
        "20": (1, micro(30e-6)),
        "27": (1, micro(25e-6)),
    }
    assert found.classes == {
        name: micro(us * 1e-6)
        for name, us in {
            "gemm": 50,
            "nccl AllReduce": 30,
            "dispatch": 25,
            "attention": 20,
            "copy": 10,
        }.items()
    }
    assert list(found.classes) == ["gemm", "nccl AllReduce", "dispatch", "attention", "copy"]
    assert (found.compute, found.communication, found.hidden) == (
        micro(80e-6),
        micro(55e-6),
        micro(25e-6),
    )
    assert found.overlap == micro(25 / 55)
    assert found.groups["collectives"] == micro(30e-6)


def test_times_since_an_epoch_keep_their_nanoseconds():
    late = [
        {**event, "ts": 1740461679479712.125 + event["ts"]}
        for event in PROFILE["traceEvents"]
        if "ts" in event
    ]
    (found,) = summaries(of_tree(late, "late.json"))  # a bare list of events is a trace too
    assert found.hidden == pytest.approx(25e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("void dpsk::ep::internode::cached_notify<false>(int)", "notify"),
        ("void dpsk::ep::internode::combine<false, 8, __nv_bfloat16>(int4*)", "combine"),
        ("void dpsk::ep::cuda::get_dispatch_layout<256, 32, 8>(long const*)", "dispatch layout"),
        (
            "void dpsk::grouped_gemm::cuda::utils::transpose<512, 128, 4, 4>(unsigned char const*)",
            "quantise",
        ),
        (
            "void cutlass::device_kernel<dpsk::grouped_gemm::cuda::fp8_ptp128c::GemmKernel>(Params)",
            "gemm",
        ),
        (
            "void cutlass::device_kernel<flash::FlashAttnBwd<flash::CollectiveMainloopBwd<2>>>",
            "attention",
        ),
        (
            "void cuda::swiglu_and_per_channel_cast_and_transpose<256, 128, false>(void const*)",
            "activation",
        ),
        (
            "_ZN2at6native54_GLOBAL__N__21_DistributionNormal_cu_distribution_elementwise_grid",
            "elementwise",
        ),
        ("void layer_norm::ln_fwd_kernel<layer_norm::Kernel_traits<__nv_bfloat16>>", "norm"),
        ("rotary_kernel", "rope"),
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", "nccl SendRecv"),
        ("ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclDevComm*)", "nccl AllGather"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT", "gemm"),
        (
            "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<AdamFunctor>",
            "optimizer",
        ),
        ("Memset (Device)", "copy"),
        ("attn(F)", "simulated phase"),
        ("frobnicate", "other"),
    ],
)
def test_a_kernel_is_classed_by_its_name(name, expected):
    assert classify(name)[0] == expected


def test_every_rule_has_a_name_of_its_own_and_the_last_fits_all():
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert RULES[-1].pattern == ""


@pytest.mark.parametrize(
    "changes", [{}, {"layout__tp": 2, "layout__etp": 1}, {"schedule__name": "gpipe"}]
)
@pytest.mark.slow
def test_our_own_traces_say_what_the_timeline_says(changes):
    timeline = run(lower(scenario(**changes)))
    processes = summaries(of_tree(tree(timeline, range(timeline.program.ranks)), "own.json"))
    for found, known in zip(processes, overlap(timeline), strict=True):
        assert 0.5 * timeline.step_time < found.span <= timeline.step_time * (1 + 1e-6)
        assert found.communication == pytest.approx(known.communication, rel=2e-3)
        assert found.hidden == pytest.approx(known.hidden, rel=2e-3)
    direct = summaries([of_timeline(timeline, "direct")])[0]
    assert direct.communication == pytest.approx(overlap(timeline)[0].communication)
    assert direct.classes["gemm"] == timeline.program.class_seconds[0]["gemm"]


# Wrong input


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "cannot be read as JSON"),
        ('{"a": 1}', "has no list 'traceEvents'"),
        ('{"traceEvents": []}', "holds no kernels"),
        ('{"traceEvents": [3]}', "not a group of keys"),
        ('[{"ph": "X", "cat": "kernel", "name": "k", "pid": 0}]', "without a valid 'ts'"),
        (
            '[{"ph": "X", "cat": "kernel", "name": "k", "pid": 0, "ts": "x", "dur": 1}]',
            "without a valid",
        ),
    ],
)
def test_what_is_no_profile_is_refused_in_one_line(text, rule, tmp_path, capsys):
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf-8")
    assert _main(["trace", str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert rule in err
    assert "bad.json" in err


def test_a_file_that_is_not_there_or_not_compressed_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_trace(tmp_path / "none.json")
    (tmp_path / "t.json.gz").write_bytes(b"plain")
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path / "t.json.gz")


# The command


def test_the_command_shows_streams_classes_and_overlap(tmp_path, capsys):
    path = tmp_path / "p.json.gz"
    path.write_bytes(gzip.compress(json.dumps(PROFILE).encode()))
    assert _main(["trace", str(path)]) == 0
    text = capsys.readouterr().out
    for part in (
        "python (0)",
        "nccl AllReduce",
        "attention",
        "any compute",
        "45.5% of it overlapped with compute",
    ):
        assert part in text


@pytest.mark.slow
def test_a_simulated_chunk_is_compared_with_a_profile_by_name(tmp_path, capsys):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(PROFILE), encoding="utf-8")
    assert _main(["trace", str(path), "--compare-with", "deepseek-v3-chunk"]) == 0
    assert "7 (compute)" in capsys.readouterr().out
    assert _main(["trace", str(path), "--beside", "deepseek-v3-chunk", "--json", "-"]) == 0
    simulated = json.loads(capsys.readouterr().out)["simulated"]
    assert simulated["span_s"] == pytest.approx(0.129, rel=0.05)
    assert _main(["trace", str(path), "--beside", "nothing"]) == 2
    capsys.readouterr()
    assert _main(["trace", "--help"]) == 0
    listed = capsys.readouterr().out
    assert "--compare-with" in listed
    assert "--beside" not in listed


@pytest.mark.skipif(
    not DEEPSEEK.exists(), reason="needs DeepSeek's profile beside the project: shared/reference"
)
@pytest.mark.slow
def test_deepseeks_profile_is_summed_up_as_our_table_of_it_says():
    published = inputs.data("measured", "deepseek_v3_chunk").data
    (found,) = summaries(of_tree(read_trace(DEEPSEEK), "train.json"))
    milli = {stream: 1e3 * busy for stream, (_, busy) in found.streams.items()}
    known = published["busy_ms"]
    assert milli == pytest.approx(
        {"7": known["compute"], "23": known["side"], "27": known["communication"]}, rel=0.005
    )
    assert 1e3 * found.span == pytest.approx(published["span_ms"], rel=0.001)
    assert 1e3 * found.compute == pytest.approx(known["compute_or_side"], rel=0.001)
    attention = sum(
        part.get("attention", 0) + part.get("attention_backward", 0)
        for part in published["class_us"].values()
    )
    assert 1e6 * found.classes["attention"] == pytest.approx(4 * attention, rel=0.001)
    assert found.classes.get("other", 0.0) == 0.0
    simulated = summaries([of_timeline(run(pair_program()), "simulated", "FB")])[0]
    assert simulated.overlap == pytest.approx(found.overlap, abs=0.03)

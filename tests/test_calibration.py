"""Calibration: constants of the kernel tables, recomputed from the measurements in `simulator/data/measured`.

Ratios are formed again; shares of HBM take their bytes from `simulator.ops`. GEMMs, attention and
collectives have files of their own beside this one.
"""

import re
from collections import defaultdict

import numpy as np
import pytest
from calibration import (
    AMPERE,
    CHUNK,
    HOPPER,
    LAYER,
    PHASES,
    ROUTING,
    TOKENS,
    TRACED,
    measured,
    measured_csv,
    processor,
)

from simulator.inputs import ROOT

MEMORY_BOUND = [
    "norm",
    "norm_backward",
    "quantise",
    "transpose",
    "rope",
    "copy",
    "elementwise",
    "activation",
    "permute",
]

# --- Memory-bound ops
# ---------------------------------------------------------------------------------------------


def traced_us(kind):
    return sum(classes.get(kind, 0.0) for classes in CHUNK["class_us"].values())


def moved_bytes(*kinds):
    ops = (op for phase in PHASES.values() for op in getattr(LAYER, phase))
    return sum(op.bytes for op in ops if op.kind in kinds)


@pytest.mark.parametrize("kind", MEMORY_BOUND)
def test_memory_shares_are_counted_bytes_over_traced_time(kind):
    share = moved_bytes(kind) / (traced_us(kind) * 1e-6) / TRACED.gpu.memory.bandwidth
    assert TRACED.kernels.memory[kind] == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "phase", "traced"),
    [
        ("mapping", "mlp(F)", "mapping"),
        ("router", "attn(F)", "small"),
        ("router_backward", "attn(B)", "small"),
    ],
)
def test_shares_of_small_kernels_stand_for_their_latency(kind, phase, traced):
    share = (
        moved_bytes(kind) / (CHUNK["class_us"][phase][traced] * 1e-6) / TRACED.gpu.memory.bandwidth
    )
    assert TRACED.kernels.memory[kind] == pytest.approx(share, rel=0.03)  # two digits in the table


def test_ops_that_the_trace_lacks_take_a_neighbours_share():
    memory = HOPPER.kernels.memory
    assert memory["embedding"] == memory["copy"]
    # Kernels of this size stream no faster than BabelStream's add and triad.
    stream = measured("stream")["babelstream"]["h100"]
    for kind in ("loss", "optimizer"):
        share = memory[kind] * HOPPER.kernels.overlap_slowdown.memory
        assert share == pytest.approx(stream["triad"] / stream["peak"], abs=0.001)


EACH = {"norm": 4, "add": 6, "activation": 6}  # bytes per element
COUNTED = {"norm": 4, "add": 4, "activation": 6}  # as simulator.ops counts them: an add in place


def vidur_gb_s(gpu, op):
    """Return GB/s of every measured row of an op at 4,096 tokens."""
    table = measured_csv("vidur_memory_bound")
    rows = zip(*(table[key] for key in ("gpu", "op", "width", "us")), strict=True)
    return [
        EACH[op] * TOKENS * int(width) / float(us) / 1e3
        for g, o, width, us in rows
        if (g, o) == (gpu, op)
    ]


LLAMA_7B = [("norm", "norm", 639), ("elementwise", "add", 1830), ("activation", "activation", 1017)]


@pytest.mark.parametrize(("kind", "op", "llama_7b"), LLAMA_7B)
def test_ampere_memory_shares_are_the_mean_of_the_measured_models(kind, op, llama_7b):
    rows = vidur_gb_s("a100", op)
    assert any(row == pytest.approx(llama_7b, rel=1e-3) for row in rows)
    share = np.mean(rows) * COUNTED[op] / EACH[op] * 1e9 / AMPERE.gpu.memory.bandwidth
    # Measured in a loop, alone; the table holds shares beside communication.
    alone = AMPERE.kernels.memory[kind] * AMPERE.kernels.overlap_slowdown.memory
    assert alone == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize(
    "kind",
    [
        "quantise",
        "transpose",
        "rope",
        "copy",
        "permute",
        "mapping",
        "router",
        "router_backward",
    ],
)
def test_other_ampere_shares_are_those_of_hopper(kind):
    assert AMPERE.kernels.memory[kind] == pytest.approx(HOPPER.kernels.memory[kind], rel=0.05)


def test_ampere_takes_what_was_not_measured_from_hopper():
    ampere, hopper = AMPERE.kernels, HOPPER.kernels
    assert (ampere.gap, ampere.overlap_slowdown) == (hopper.gap, hopper.overlap_slowdown)


def test_norms_on_h100_agree_between_two_sources():
    # The trace's share was measured beside communication, vidur's in a benchmark loop: 1.089 lies
    # between.
    alone = np.mean(vidur_gb_s("h100", "norm")) * 1e9 / HOPPER.gpu.memory.bandwidth
    assert alone == pytest.approx(
        HOPPER.kernels.memory["norm"] * HOPPER.kernels.overlap_slowdown.memory, rel=0.06
    )


STACK = measured("training_kernels")


def test_what_streams_on_blackwell_reaches_as_much_of_its_hbm_as_on_hopper():
    casts = measured("stream")["casts"]
    for gpu in ("b200", "gb200"):
        part = processor(gpu)
        assert casts[gpu]["peak"] * 1e12 == part.gpu.memory.bandwidth
        share = np.mean([casts[gpu][name] for name in ("trtllm", "vllm")]) / casts[gpu]["peak"]
        assert alone(part, "optimizer") == pytest.approx(share, rel=0.02)


def alone(part, kind):
    """Return the share of HBM of a kind of op where no communication runs."""
    return part.kernels.memory[kind] * part.kernels.overlap_slowdown.memory


def test_fused_norms_reach_what_apex_measured_on_a100_and_liger_on_h100():
    rows = [("fused_norm", row) for row in STACK["fast_layer_norm"]]
    rows += [("apex_norm", row) for row in STACK["apex_layer_norm"]]
    for norm, row in rows:
        kind = norm + {"forward": "", "backward": "_backward"}[row["pass"]]
        assert alone(AMPERE, kind) == pytest.approx(row["gb_s"] / row["peak_gb_s"], rel=0.002)
    (row,) = STACK["fused_rms_norm"]
    elements = row["rows"] * row["width"]
    for kind, each, us in (
        ("fused_norm", 4, row["forward_us"]),
        ("fused_norm_backward", 6, row["both_us"] - row["forward_us"]),
    ):
        assert alone(HOPPER, kind) == pytest.approx(
            elements * each / us / 1e3 / row["peak_gb_s"], rel=0.002
        )


def test_fused_norms_of_two_stacks_agree_within_a_tenth():
    for kind in ("fused_norm", "fused_norm_backward"):
        assert alone(HOPPER, kind) == pytest.approx(alone(AMPERE, kind), rel=0.10)


@pytest.mark.parametrize("part", [HOPPER, AMPERE], ids=["hopper", "ampere"])
def test_what_was_not_measured_takes_the_share_that_its_source_names(part):
    memory = part.kernels.memory
    assert memory["softmax"] == memory["fused_norm"]
    assert memory["softmax_backward"] == memory["fused_norm_backward"]
    if part is HOPPER:
        assert memory["bias_gelu"] == memory["activation"]
        assert memory["bias_dropout_add"] == memory["dropout"] == memory["elementwise"]


@pytest.mark.parametrize(("gpu", "part"), [("h100", HOPPER), ("a100", AMPERE)])
def test_adds_of_two_tensors_reach_what_vidur_measured(gpu, part):
    share = np.mean(vidur_gb_s(gpu, "add")) * 1e9 / part.gpu.memory.bandwidth
    assert alone(part, "residual_add") == pytest.approx(share, rel=0.002)


def test_casts_with_a_transpose_reach_what_transformer_engine_says():
    first, tuned = STACK["cast_transpose"]
    assert alone(HOPPER, "cast_transpose") == pytest.approx(tuned["share"], rel=0.002)
    assert AMPERE.kernels.memory["cast_transpose"] == HOPPER.kernels.memory["cast_transpose"]
    # The kernel of its first year took twice as long.
    share = 4 * first["rows"] * first["width"] / first["us"] / 1e3 / first["peak_gb_s"]
    assert share == pytest.approx(0.389, abs=0.001)


@pytest.mark.parametrize(
    "row", STACK["megatron_layer"]["memory_bound"], ids=lambda row: row["kind"]
)
def test_megatrons_fused_kernels_on_a100_take_their_printed_time(row):
    share = row["elements"] * row["each"] / (row["ms"] * 1e-3) / AMPERE.gpu.memory.bandwidth
    assert alone(AMPERE, row["kind"]) == pytest.approx(share, rel=0.002)


# --- Beside communication
# -----------------------------------------------------------------------------------------


def chunk_rows(phase):
    return np.array(
        CHUNK["expert_rows"]["forward" if phase == "mlp(F)" else "backward"]["rows"], dtype=float
    )


def slope(rows):
    """Return the slowdown of kernels that communication covers; see `method` in the file."""
    return _regressed(rows, per_row=True)[0]


def slowdown(rows, *, per_row):
    """Return the mean slowdown over the chunk; see `method` in the file. per_row: divide by the layer's expert rows."""
    return _regressed(rows, per_row=per_row)[1]


def _regressed(rows, *, per_row):
    x, y, weight, time, share = [], [], [], [], []
    for row in rows:
        us, overlapped = np.array(row["us"], dtype=float), np.array(row["overlapped"])
        if per_row and row["size"] == "experts":
            us *= chunk_rows(row["phase"]).mean() / chunk_rows(row["phase"])
        x.append(overlapped - overlapped.mean())
        y.append(np.log(us) - np.log(us).mean())
        weight.append(np.full(4, us.mean()))
        time.append(us)
        share.append(overlapped)
    x, y, weight, time, share = map(np.concatenate, (x, y, weight, time, share))
    full = np.exp((weight * x * y).sum() / (weight * x * x).sum())
    return full, time.sum() / (time / (1 + (full - 1) * share)).sum()


OBSERVED = defaultdict(list)
for _row in measured("deepseek_v3_overlapped")["observations"]:
    OBSERVED[_row["kind"] if _row["kind"].startswith("gemm") else "memory"].append(_row)


def test_gemms_and_memory_bound_ops_slow_down_as_regressed():
    slower = HOPPER.kernels.overlap_slowdown
    assert {kind: len(rows) for kind, rows in OBSERVED.items()} == {
        "gemm": 16,
        "gemm_grouped": 4,
        "memory": 53,
    }
    # The layers' expert rows differ by a fifth, so times are taken per row. Dense GEMMs alone slow
    # down by 1.012, grouped ones by 1.048; one factor stands for both.
    assert slowdown(OBSERVED["memory"], per_row=True) == pytest.approx(slower.memory, abs=0.002)
    assert slowdown(OBSERVED["gemm"], per_row=True) == pytest.approx(1.012, abs=0.002)
    assert slowdown(OBSERVED["gemm_grouped"], per_row=True) == pytest.approx(1.048, abs=0.002)
    assert slowdown(OBSERVED["gemm"] + OBSERVED["gemm_grouped"], per_row=True) == pytest.approx(
        slower.gemm, abs=0.002
    )


def test_the_gap_is_the_median_between_two_kernels():
    assert HOPPER.kernels.gap == pytest.approx(CHUNK["gap_us"]["median"] * 1e-6)


# --- Communication kernels
# ----------------------------------------------------------------------------------------


def deepep(domain):
    (row,) = (row for row in measured("deepep")["normal_kernels"] if row["domain"] == domain)
    return row


def alone_us(kind):
    """Return V3's payload at DeepEP's own rate: each token once per node that it reaches."""
    token = {"dispatch": 7168 * (1 + 4 / 128), "combine": 7168 * 2}[kind]
    return TOKENS * ROUTING.nodes * token / (deepep("rdma")[f"{kind}_gb_s"] * 1e3)


EXPERT = ["dispatch", "cached_dispatch", "combine"]


def filling_us(kind):
    """Return what of a payload's time fills and drains its kernel: the links idle meanwhile."""
    token = {"dispatch": 7168 * (1 + 4 / 128), "combine": 7168 * 2}[kind]
    ways = 3.33 + 3.7  # over NVLink and across leaves
    return ways + HOPPER.kernels.communication[kind].copies.across.filling(token) * 1e6


def test_expert_kernels_beside_compute_take_the_fastest_layer_over_alone():
    def slower(us, kind):
        return (us - filling_us(kind)) / (alone_us(kind) - filling_us(kind))

    traced, model = CHUNK["communication_us"], HOPPER.kernels.communication
    fastest = {name: min(times["payload"]) for name, times in traced.items()}
    combines = (fastest["combine(F)"] + fastest["dispatch(B)"]) / 2
    beside = {name: kernel.overlap_slowdown for name, kernel in model.items() if name in EXPERT}
    assert beside == pytest.approx(
        {
            "dispatch": slower(fastest["dispatch(F)"], "dispatch"),
            "cached_dispatch": slower(fastest["combine(B)"], "dispatch"),
            "combine": slower(combines, "combine"),
        },
        rel=0.005,
    )
    assert model["dispatch"].setup == pytest.approx(min(traced["dispatch(F)"]["layout"]) * 1e-6)
    # A cast of 4,096 tokens reads BF16 and writes FP8 with scales.
    cast = min(traced["combine(B)"]["cast"]) * 1e-6
    moved = TOKENS * 7168 * (2 + 1 + 4 / 128)
    assert model["cached_dispatch"].cast == pytest.approx(moved / cast, rel=0.001)
    assert model["cached_dispatch"].setup == 0


def test_nccl_reaches_its_published_share_of_a_nic():
    rows = [row for row in measured("nccl")["rows"] if row["link"] == "nic"]
    share = np.mean([row["busbw_gb_s"] / row["line_gb_s"] for row in rows])
    for part in (HOPPER, AMPERE):
        model = part.kernels.communication
        assert model["nccl_simple"].nic == model["send_recv"].nic == pytest.approx(share, abs=0.005)


# --- The whole layer
# ----------------------------------------------------------------------------------------------


def test_one_moe_layer_takes_its_measured_time_phase_by_phase():
    simulated = {
        name: 1e3
        * sum(
            TRACED.kernel(op, overlapped=True)
            for op in getattr(LAYER, phase)
            if op.flops or op.bytes
        )
        for name, phase in PHASES.items()
    }
    published = CHUNK["phase_ms"]
    rows = ((name, ms, published[name]) for name, ms in simulated.items())
    table = "\n".join(
        f"{name:8} {ours:6.3f} {theirs:6.3f} ms {ours / theirs - 1:+.1%}"
        for name, ours, theirs in rows
    )
    assert simulated == pytest.approx(published, rel=0.10), table
    assert sum(simulated.values()) == pytest.approx(sum(published.values()), rel=0.03), table


def test_the_phases_are_the_sum_of_their_classes_and_fit_the_compute_stream():
    for name, ms in CHUNK["phase_ms"].items():
        assert sum(CHUNK["class_us"][name].values()) == pytest.approx(ms * 1e3, rel=0.002)
    assert 4 * sum(CHUNK["phase_ms"].values()) == pytest.approx(
        CHUNK["busy_ms"]["compute"], rel=0.002
    )
    kernels = sum(
        sum(times) for row in CHUNK["communication_us"].values() for times in row.values()
    )
    assert kernels * 1e-3 == pytest.approx(CHUNK["busy_ms"]["communication"], rel=0.002)


def test_every_measured_file_names_source_and_setup():
    folder = ROOT / "data" / "measured"
    for path in folder.iterdir():
        head = path.read_text(encoding="utf-8")
        assert all(
            re.search(rf"^(# )?{key}: \S", head, re.MULTILINE) for key in ("source", "url", "setup")
        ), path.name

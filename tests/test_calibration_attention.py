"""Calibration of fused attention: rates by implementation, width and length, from the published figures."""

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import dense
from calibration import AMPERE, CHUNK, HOPPER, LAYER, PHASES, TOKENS, TRACED, measured, processor

from simulator.compute.attention import attention_seconds
from simulator.costs import work
from simulator.errors import InputError
from simulator.inputs import table
from simulator.ops import block_ops
from simulator.residuals.attention import STORED, core, served

FLASH = measured("flash_attention")
# In a benchmark's short loop, whose clock no power limit has taken down.
BENCHMARK = replace(HOPPER, sustained=False)
LENGTHS = FLASH["sequence"]
IMPLEMENTATIONS = list(FLASH["h100"])


@pytest.mark.parametrize(
    ("kind", "phase", "table"),
    [("attention", "attn(F)", "forward"), ("attention_backward", "attn(B)", "backward")],
)
def test_mla_attention_rates_are_the_traced_ones_scaled_to_all_sms(kind, phase, table):
    (op,) = (op for op in getattr(LAYER, PHASES[phase]) if op.kind == kind)
    rate = op.flops / (CHUNK["class_us"][phase][kind] * 1e-6) * 132 / 112
    rates = getattr(TRACED.kernels.attention["deepseek"], table)[192]
    assert rates[TOKENS] == pytest.approx(rate, rel=0.001)
    # Over other lengths it follows FlashAttention-3's causal forward at 128.
    curve = FLASH["h100"]["flash3"]["128"]["forward_causal"]
    other = {
        length: rates[TOKENS] * bar / curve[3] for length, bar in zip(LENGTHS, curve, strict=True)
    }
    assert rates == pytest.approx(other, rel=0.001)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_attention_rates_of_64_and_128_on_hopper_are_published_bars(name):
    model = HOPPER.kernels.attention[name]
    for width, bars in FLASH["h100"][name].items():
        for rates, key in ((model.forward, "forward_causal"), (model.backward, "backward")):
            assert rates[int(width)] == {
                at: bar * 1e12 for at, bar in zip(LENGTHS, bars[key], strict=True)
            }


def both_passes(model, width, at):
    """Return FLOP/s of forward and backward together: 1 and 2.5 parts of work."""
    return 3.5 / (1 / model.forward[width][at] + 2.5 / model.backward[width][at])


def test_ampere_attention_is_hoppers_flash2_at_the_ratio_of_a_figure():
    ampere, hopper = AMPERE.kernels.attention["flash2"], HOPPER.kernels.attention["flash2"]
    bars = FLASH["a100"]["flash2"]["64"]["forward_backward_causal"]
    for at, bar in zip(LENGTHS, bars, strict=True):
        assert both_passes(ampere, 64, at) == pytest.approx(bar * 1e12, rel=0.002)
        ratio = bar * 1e12 / both_passes(hopper, 64, at)
        for width in (64, 128):
            for ours, theirs in (
                (ampere.forward, hopper.forward),
                (ampere.backward, hopper.backward),
            ):
                assert ours[width][at] == pytest.approx(theirs[width][at] * ratio, rel=0.002)


def test_ampere_attention_stays_in_the_papers_range_and_near_another_a100():
    # arXiv 2307.08691: at most 230 TFLOP/s. The other A100 runs at 0.85 of its clock; causal, width
    # 128.
    model = AMPERE.kernels.attention["flash2"]
    assert max(rate for table in model.forward.values() for rate in table.values()) < 230e12
    for at, measured_rate in FLASH["a100"]["slower_a100"]["128"]["forward_causal"].items():
        assert model.forward[128][int(at)] / 1e12 == pytest.approx(measured_rate, rel=0.15)


@pytest.mark.parametrize("row", FLASH["transformer_engine"], ids=lambda row: str(row["sequence"]))
@pytest.mark.parametrize("name", ["cudnn", "flash2"])
def test_transformer_engines_own_benchmark_agrees_with_the_tables(row, name):
    # Not fitted. At 2,048 tokens TE ran a quarter of the work of the table's rows: tails weigh
    # more, and the rates alone would be 30% too fast.
    part = replace(BENCHMARK, attention=name)
    matrices = row["batch"] * row["heads"]
    passes = (("attention", 1.0), ("attention_backward", 2.5))
    ms = 1e3 * sum(
        part.kernel(core(kind, 128, row["sequence"], matrices, times), overlapped=False)
        for kind, times in passes
    )
    assert 0.92 < ms / row[f"{name}_ms"] < 0.96


def causal(heads, length, mask="causal"):
    """Return a row of cuDNN's benchmark on H200, heads of 128."""
    (row,) = (
        row
        for row in table("cudnn_attention_h200")
        if (int(row["heads"]), int(row["length"]), row["mask"]) == (heads, length, mask)
    )
    return row


@pytest.mark.parametrize(("way", "best"), [("forward", 0.89), ("backward", 1.2)])
def test_cudnns_tail_is_what_causal_costs_beyond_its_share_of_the_blocks(way, best):
    # Without a mask all tiles are alike. Causal work is (T + 1) / 2T of the blocks, T tiles of 128
    # queries in a sequence: what it takes beyond that share is the wait for the last tiles, relative
    # to the longest tile over the blocks of an SM, 2 x 132 / (64 heads x (T + 1)).
    tails = []
    for length in (2048, 4096, 8192):
        tiles = length / 128
        masked, full = (float(causal(64, length, mask)[f"{way}_ms"]) for mask in ("causal", "none"))
        beyond = masked / full * 2 * tiles / (tiles + 1) - 1
        tails.append(beyond / (2 * 132 / (64 * (tiles + 1))))
    assert getattr(HOPPER.kernels.attention["cudnn"].tail, way) == best
    assert np.mean(tails) == pytest.approx(best, rel=0.01)
    assert np.std(tails) < 0.07


@pytest.mark.parametrize(
    ("part", "name", "frameworks"),
    [(HOPPER, "flash3", ("sglang", "vllm")), (AMPERE, "flash2", ("sglang",))],
)
def test_flash_attentions_tails_are_least_squares_over_serving_frameworks(part, name, frameworks):
    rows = [
        row
        for row in table("attention_forward")
        if row["gpu"] == part.gpu.name and row["framework"] in frameworks
    ]
    model = part.kernels.attention[name]

    def error(tail, stored):
        tails = model.tail.model_copy(update={"forward": tail})
        changed = model.model_copy(update={"tail": tails})
        kernels = part.kernels.model_copy(update={"attention": {name: changed}})
        other = replace(part, kernels=kernels, attention=name)
        return sum(
            math.log(served(other, row, stored) / float(row["us"]) * 1e6) ** 2 for row in rows
        )

    best, stored = model.tail.forward, STORED[name]
    least = error(best, stored)
    assert least <= min(error(best - 0.03, stored), error(best + 0.03, stored))
    assert least <= min(error(best, stored - 0.04), error(best, stored + 0.04))
    assert math.sqrt(least / len(rows)) < 0.081


def test_wide_heads_are_those_of_cudnns_own_benchmark():
    # Heads of 192 with values of 128, on H200: the SMs and the clock of H100.
    plain, deterministic = (
        HOPPER.kernels.attention[name] for name in ("cudnn", "cudnn_deterministic")
    )
    bars = FLASH["h100"]["cudnn"]["128"]
    flops = {length: 2.0 * 128 * length**2 * 160 for length in (2048, 4096, 8192)}
    for length, forward in flops.items():
        row, narrow = causal(128, length), causal(64, length)
        rate = forward / (float(row["forward_ms"]) * 1e-3)
        assert plain.forward[192][length] == pytest.approx(rate, rel=0.003)
        # Five products, three of them 192 wide and two 128, for two in the forward pass.
        slow = forward * (3 * 192 + 2 * 128) / 320 / (float(row["backward_ms"]) * 1e-3)
        assert deterministic.backward[192][length] == pytest.approx(slow, rel=0.003)
        # The other backward is estimated: that at 128 in the same run, times the forwards' ratio.
        at_128 = 2.0 * 64 * length**2 * 128
        ratio = rate / (at_128 / (float(narrow["forward_ms"]) * 1e-3))
        estimate = 2.5 * at_128 / (float(narrow["backward_ms"]) * 1e-3) * ratio
        assert plain.backward[192][length] == pytest.approx(estimate, rel=0.01)
    for length, nearest in ((512, 2048), (1024, 2048), (16384, 8192)):
        for rates, key in ((plain.forward, "forward_causal"), (plain.backward, "backward")):
            bar, base = (bars[key][LENGTHS.index(at)] for at in (length, nearest))
            assert rates[192][length] == pytest.approx(rates[192][nearest] * bar / base, rel=0.003)


def test_deterministic_gradients_cost_at_other_widths_what_they_cost_at_192():
    plain, deterministic = (
        HOPPER.kernels.attention[name] for name in ("cudnn", "cudnn_deterministic")
    )
    assert deterministic.forward == plain.forward
    for width in (64, 128):
        for length in LENGTHS:
            nearest = min(max(length, 2048), 8192)
            ratio = deterministic.backward[192][nearest] / plain.backward[192][nearest]
            expected = plain.backward[width][length] * ratio
            assert deterministic.backward[width][length] == pytest.approx(expected, rel=0.003)


def test_few_heads_wait_for_the_longest_tile_and_many_share_the_sms_evenly():
    # 8 heads of 2,048 tokens: 8 x 16 tiles of 1 to 16 blocks on 132 SMs, 8 x 136 / 132 = 8.24
    # blocks an SM, and the longest has 16. The benchmark's 128 heads: 131.9 blocks an SM.
    flash3 = replace(HOPPER, attention="flash3")
    few, many = (
        matrices / flash3.kernel(core("attention", 128, 2048, matrices), overlapped=False)
        for matrices in (8, 128)
    )
    longest, share = 16 / (8 * 136 / 132), 16 / (128 * 136 / 132)
    assert many / few == pytest.approx((longest + 0.26) / (1 + 0.26 * share))
    # On half of the SMs they wait less: the longest tile is what it was.
    stretch = {
        sms: attention_seconds(
            core("attention", 128, 2048, 8), HOPPER.gpu, flash3.kernels.attention["flash3"], sms
        )
        for sms in (66, 132)
    }
    assert stretch[66] < 1.25 * stretch[132]


def whole(width, at=TOKENS):
    """Return as much work as FlashAttention's benchmark has: 1e12 FLOPs at its rate."""
    matrices = 16384 / at * 2048 / width
    return core("attention", width, at, matrices)._replace(flops=1e12)


def test_an_implementation_is_chosen_by_name_and_another_stands_in_where_it_was_not_measured():
    flash3 = replace(BENCHMARK, attention="flash3")
    assert BENCHMARK.kernel(whole(128), overlapped=False) == pytest.approx(1 / 518)
    assert flash3.kernel(whole(128), overlapped=False) == pytest.approx(1 / 579)
    # MLA's width was not measured of FlashAttention; 80 is nearer to 64 than to 128.
    wide = core("attention", 192, TOKENS, 128)._replace(flops=1e12)
    assert [part.kernel(wide, overlapped=False) for part in (BENCHMARK, flash3)] == pytest.approx(
        [1 / 599] * 2
    )
    narrow = core("attention", 80, TOKENS, 128)._replace(flops=1e12)
    assert BENCHMARK.kernel(narrow, overlapped=False) == pytest.approx(1 / 363)
    # Between two lengths the rate is linear in the logarithm: half way from 4,096 to 8,192 lies
    # 4,096 x 2^0.5.
    assert BENCHMARK.kernel(whole(128, round(TOKENS * 2**0.5)), overlapped=False) == pytest.approx(
        2 / (518 + 529), rel=0.005
    )
    with pytest.raises(InputError, match="was not measured on a100"):
        replace(AMPERE, attention="cudnn").kernel(whole(128), overlapped=False)


def test_each_architecture_defaults_to_what_transformer_engine_prefers():
    assert (HOPPER.kernels.default_attention, AMPERE.kernels.default_attention) == (
        "cudnn",
        "flash2",
    )


def test_a_ring_launches_attention_once_for_each_part_of_the_keys():
    one = dense(layout__cp=2, layout__pp=1)
    found = {}
    for way in ("ring", "all_gather"):
        given = replace(work(one, None), cp_gather=way == "all_gather")
        (ops,) = block_ops("dense", given)
        found[way] = [op.launches for op in ops.forward if getattr(op, "kind", "") == "attention"]
    assert found == {"ring": [2], "all_gather": [1]}


# The power limit


def by_length(gpu):
    """Return framework -> length of a sequence -> shortest kernel of a bin [ms] -> TFLOP/s."""
    found = {}
    for row in table("attention_by_length"):
        if row["gpu"] == gpu:
            lengths = found.setdefault(row["framework"], {})
            bins = lengths.setdefault(row["length"], {})
            bins[float(row["from_ms"])] = float(row["tflops"])
    return found


def sustained(gpu):
    """Return the time of a long kernel over a short one's rate, median of the frameworks."""
    of_frameworks = []
    for lengths in by_length(gpu).values():
        logs = {}
        for bins in (bins for bins in lengths.values() if 8.0 in bins):
            for shortest, rate in bins.items():
                logs.setdefault(shortest, []).append(math.log(rate / bins[8.0]))
        # The bin that meets the limit least: shorter kernels do not fill the SMs.
        of_frameworks.append(max(math.exp(np.mean(some)) for some in logs.values()))
    assert len(of_frameworks) == 3
    return np.median(of_frameworks)


@pytest.mark.parametrize("gpu", ["a100", "h100", "h200", "b200", "gb200", "b300", "gb300"])
def test_attention_gives_way_to_the_power_limit_as_kernels_of_8_ms_and_more(gpu):
    part = processor(gpu)
    name = part.kernels.default_attention
    model = part.kernels.attention[name]
    known = model.sustained_of.get(gpu, model.sustained)
    assert known == pytest.approx(sustained(gpu), abs=0.001)
    # In a training process, both passes; other implementations of the architecture alike.
    loop = replace(part, sustained=False)
    for kind in ("attention", "attention_backward"):
        op = core(kind, 128, 4096, 64)
        slower = part.kernel(op, overlapped=False) / loop.kernel(op, overlapped=False)
        assert slower == pytest.approx(known)


def test_which_of_hoppers_implementations_give_way():
    models = HOPPER.kernels.attention
    limits = {name: (model.sustained, model.sustained_of) for name, model in models.items()}
    fast = (1.080, {"h100": 1.080, "h200": 1.096})
    slow = (1, {})
    assert limits == {
        "cudnn": fast,
        "cudnn_deterministic": fast,
        "flash3": fast,
        "flash2": slow,
        "deepseek": slow,
    }


def test_backward_gives_way_as_much_as_forward_where_single_calls_meet_the_limit():
    # Causal FLOPs of 128 heads of 128; B200, calls of 25 ms to 1.3 s.
    long = measured("blackwell")["attention_long_b200"]
    lost = {}
    for way, passes in (("forward", 1.0), ("backward", 2.5)):
        rates = [
            passes * 2 * 128 * length**2 * 128 / ms / 1e9
            for length, ms in zip(long["sequence"], long[f"{way}_ms"], strict=True)
        ]
        lost[way] = max(rates) / rates[-1] - 1
    assert lost == pytest.approx({"forward": 0.047, "backward": 0.058}, abs=0.001)

"""Fine-tuning: samples of unequal length are packed, and attention stays inside each."""

import numpy as np
import pytest

from simulator.campaign import ledger, read, scenarios, simulated
from simulator.campaign.config import SftConfig
from simulator.campaign.packing import QUANTILES, lengths, packed
from simulator.errors import InputError
from simulator.scenario import load
from simulator.whatif import simulate


def sft(**changes):
    keys = {"workload": "x", "samples": 1000, "mean_length": 100.0, "epochs": 2, "spread": 0.0}
    return SftConfig(**(keys | changes))


def test_equal_samples_fill_as_many_as_go_into_a_sequence():
    # Sequences of 256 hold two samples of 100: 200 / 256 of their tokens, each attending over 100.
    fill, context = packed(sft(), 256)
    assert fill == pytest.approx(200 / 256)
    assert context == pytest.approx(100.0)


def test_padded_samples_have_a_sequence_each():
    fill, context = packed(sft(packing="padding"), 256)
    assert (fill, context) == (pytest.approx(100 / 256), 256.0)


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
def test_lengths_keep_their_mean_and_their_longest(spread):
    sizes = lengths(5355.0, spread, 32768)
    assert len(sizes) == QUANTILES
    assert sizes.mean() == pytest.approx(5355.0, rel=1e-4)
    assert sizes.max() <= 32768
    assert np.all(np.diff(sizes) <= 0)


def test_packing_many_short_samples_fills_nearly_everything():
    assert packed(sft(mean_length=5355.0, spread=1.0), 32768).fill > 0.99


def test_a_wider_spread_attends_over_longer_samples():
    contexts = [packed(sft(spread=spread), 4096).context for spread in (0.0, 0.5, 1.0)]
    # Of a log-normal, E[l^2] / E[l] = mean x exp(spread^2).
    # The last of 2,048 quantiles is less than the tail beyond it: 3% at the widest.
    assert contexts == pytest.approx([100.0, 100.0 * np.exp(0.25), 100.0 * np.exp(1.0)], rel=0.03)


def test_a_mean_beyond_the_longest_is_refused():
    with pytest.raises(InputError, match="is not below the longest sample, 64"):
        packed(sft(), 64)


def test_samples_too_short_for_the_layout_are_named_by_their_length(tmp_path):
    with pytest.raises(
        InputError, match=r"sft\.mean_length: .* cut into 8,192 samples of 1 tokens"
    ):
        booked(tmp_path, mean_length=1, spread=0)


HEAD = "name: t\ntopology: h100-node\nstages:\n"


def booked(tmp_path, **changes):
    keys = {"workload": "llama-3.1-8b", "samples": 100_000, "mean_length": 4095.99, "epochs": 2}
    listed = ", ".join(f"{key}: {value}" for key, value in (keys | changes).items())
    path = tmp_path / "t.yaml"
    path.write_text(f"{HEAD}  - {{name: sft, sft: {{{listed}}}}}\n", encoding="utf-8")
    campaign = read(str(path))
    return ledger(campaign, simulated(scenarios([campaign]))).entries[0].lines[0]


@pytest.mark.slow
def test_equal_halves_of_a_sequence_are_a_run_of_half_the_length(tmp_path):
    line = booked(tmp_path, spread=0)
    halves = {"training.seq_length": 4096, "training.global_batch_size": 256}
    half = simulate(load("h100-node", "llama-3.1-8b", halves | {"training.micro_batch_size": 2}))
    assert line.step_time == pytest.approx(half.step_time, rel=1e-5)
    # 100,000 samples of 4,096 twice, 128 x 8,192 tokens a step.
    assert line.total.steps == pytest.approx(2 * 100_000 * 4096 / (128 * 8192), rel=1e-4)


@pytest.mark.slow
def test_samples_that_are_padded_take_whole_sequences(tmp_path):
    line = booked(tmp_path, spread=0, packing="padding")
    whole = simulate(load("h100-node", "llama-3.1-8b"))
    assert line.step_time == pytest.approx(whole.step_time, rel=1e-12)
    assert line.total.steps == pytest.approx(2 * 100_000 / 128)


@pytest.mark.slow
def test_attention_over_shorter_samples_costs_less(tmp_path):
    long, short = booked(tmp_path, mean_length=6000), booked(tmp_path, mean_length=500)
    assert short.step_time < long.step_time

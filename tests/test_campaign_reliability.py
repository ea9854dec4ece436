"""Interruptions of campaigns: rates from a published run, and what they add to a stage."""

import pytest

from simulator.campaign import ledger, read, scenarios, simulated
from simulator.campaign.reliability import ReliabilityConfig, interruptions, risks
from simulator.errors import InputError
from simulator.goodput import daly_interval
from simulator.scenario import load

HEAD = "name: t\ntopology: h100-node\nstages:\n"


@pytest.fixture(scope="module")
def scenario():
    return load("h100-node", "llama-3.1-8b")


def test_the_causes_of_llama_3_add_up_to_its_unexpected_interruptions():
    seen = interruptions("llama-3.1-405b")
    assert sum(seen.causes.values()) == seen.unexpected == 419
    # On the same number of GPUs as many in the same time.
    rates = seen.rates(16384)
    assert sum(cause.rate for cause in rates) * 54 * 86400 == pytest.approx(419)


def test_half_the_gpus_fail_half_as_often():
    seen = interruptions("llama-3.1-405b")
    whole, half = (sum(cause.rate for cause in seen.rates(gpus)) for gpus in (16384, 8192))
    assert half == pytest.approx(whole / 2)


def test_a_checkpoint_stalls_for_its_bytes_over_the_storage(scenario):
    # 8.03 B parameters x 14 B over 1 GB/s: 112 s.
    found = risks(ReliabilityConfig(storage="1 GB/s"), scenario)
    assert found.checkpoints.stall == pytest.approx(scenario.model.parameters * 14 / 1e9)
    assert found.checkpoints.every == pytest.approx(
        daly_interval(found.checkpoints.stall, found.rate)
    )


def test_an_asynchronous_checkpoint_stalls_for_its_copy_and_is_safe_when_it_is_written(scenario):
    config = ReliabilityConfig(storage="1 GB/s", asynchronous=True, copy_time="3 s")
    checkpoints = risks(config, scenario).checkpoints
    assert checkpoints.stall == 3.0
    assert checkpoints.lag == pytest.approx(scenario.model.parameters * 14 / 1e9)


def booked(tmp_path, stage):
    path = tmp_path / "t.yaml"
    path.write_text(HEAD + stage, encoding="utf-8")
    campaign = read(str(path))
    return ledger(campaign, simulated(scenarios([campaign])))


TRAIN = "  - {name: a, train: {workload: llama-3.1-8b, tokens: 1e11}, reliability: %s}\n"


@pytest.mark.slow
def test_interruptions_are_part_of_the_hours(tmp_path):
    quick = "{factor: 5000, replicas: 20}"
    (entry,) = booked(tmp_path, TRAIN % quick).entries
    trained = sum(line.total.gpu_hours for line in entry.lines)
    assert entry.goodput.failures > 1
    assert entry.total.gpu_hours == pytest.approx(trained * entry.goodput.stretch[1])
    assert entry.interruptions.gpu_hours == pytest.approx(entry.total.gpu_hours - trained)
    assert entry.interruptions.tokens == 0.0


@pytest.mark.slow
def test_where_nothing_fails_the_hours_are_those_of_the_steps(tmp_path):
    calm = "{factor: 0, asynchronous: true, copy_time: 0 s, replicas: 10}"
    (entry,) = booked(tmp_path, TRAIN % calm).entries
    assert entry.total.gpu_hours == sum(line.total.gpu_hours for line in entry.lines)


def test_what_trains_nothing_cannot_be_interrupted(tmp_path):
    stages = (
        "  - {name: a, train: {workload: llama-3.1-8b}}\n"
        "  - {name: b, repeat: {share: 1, source: x}, reliability: {}}\n"
    )
    with pytest.raises(InputError, match="has no effect on a stage that trains nothing"):
        booked(tmp_path, stages)


def test_a_run_whose_interruptions_are_not_known_is_refused_where_it_stands(tmp_path):
    with pytest.raises(
        InputError, match=r"t\.yaml:4: stages\.0\.reliability\.like: 'gpt-5' is not among"
    ):
        booked(tmp_path, TRAIN % "{like: gpt-5}")


def test_an_asynchronous_checkpoint_begins_when_the_one_before_it_is_written(scenario):
    # 8.03 B x 14 B over 10 MB/s: 3 hours. A copy of no time would have Daly save without end.
    slow = {"storage": "10 MB/s", "asynchronous": True, "copy_time": "0 s"}
    checkpoints = risks(ReliabilityConfig(**slow), scenario).checkpoints
    assert checkpoints.every == checkpoints.lag > 3 * 3600
    with pytest.raises(InputError, match="that a checkpoint takes to be written"):
        risks(ReliabilityConfig(**slow, checkpoint_every="1 h"), scenario)


@pytest.mark.slow
def test_a_run_that_never_ends_is_refused_with_its_stage(tmp_path):
    with pytest.raises(InputError, match=r"^a\.reliability: lets the run get through 0\.0%"):
        booked(tmp_path, TRAIN % "{factor: 1e9}")

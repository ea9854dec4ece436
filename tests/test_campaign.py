"""Campaigns: spans, ramps, shares and nested ledgers add up, and wrong files are told where."""

import json
import math

import pytest

from simulator import inputs
from simulator.campaign import as_dict, ledger, read, scenarios, simulated
from simulator.campaign.spans import Amount, Point, tokens_of, work
from simulator.cli.commands import _main
from simulator.errors import InputError
from simulator.scenario import load
from simulator.whatif import simulate

SMALL = """
name: small
topology: h100-node
price: 2 USD per GPU-hour
stages:
"""
TRAIN = "  - {name: first, train: {workload: llama-3.1-8b, tokens: 1e9}}\n"


def written(tmp_path, stages, name="small.yaml", head=SMALL):
    path = tmp_path / name
    path.write_text(head + stages, encoding="utf-8")
    return str(path)


def booked(*names, sets=None):
    """Return the ledgers of campaigns."""
    read_ = [read(name, sets) for name in names]
    steps = simulated(scenarios(read_))
    ledgers = [ledger(one, steps) for one in read_]
    return ledgers if len(ledgers) > 1 else ledgers[0]


# Spans


def test_steps_at_one_batch():
    # 100 tokens a step of 2 s: 1,000 tokens are 10 steps, 20 s.
    point = Point(100.0, 2.0)
    assert work([point], Amount(tokens=1000.0)) == (10.0, 1000.0, 20.0)
    assert work([point], Amount(steps=10.0)) == (10.0, 1000.0, 20.0)
    assert work([point], Amount(seconds=20.0)) == (10.0, 1000.0, 20.0)


def test_a_ramp_whose_step_takes_one_second_per_token_takes_a_second_for_each():
    # t = b: whatever the batch, a token takes 1 s.
    done = work([Point(1.0, 1.0), Point(3.0, 3.0)], Amount(tokens=50.0))
    assert done.seconds == pytest.approx(50.0)
    # Steps: T / (b1 - b0) x ln(b1 / b0) = 50 / 2 x ln 3.
    assert done.steps == pytest.approx(25.0 * math.log(3.0))


def test_a_ramp_whose_step_takes_the_same_time_at_any_batch_takes_that_for_each_step():
    done = work([Point(1.0, 2.0), Point(2.0, 2.0), Point(4.0, 2.0)], Amount(tokens=30.0))
    assert done.seconds == pytest.approx(2.0 * done.steps)


def test_a_ramp_is_the_limit_of_many_small_spans():
    points = [Point(4.0, 3.0), Point(8.0, 5.0), Point(16.0, 6.0)]
    done = work(points, Amount(tokens=1200.0))
    parts = 20_000
    steps = seconds = 0.0
    for part in range(parts):
        batch = 4.0 + 12.0 * (part + 0.5) / parts
        time = 3.0 + (batch - 4.0) / 2.0 if batch < 8.0 else 5.0 + (batch - 8.0) / 8.0
        here = work([Point(batch, time)], Amount(tokens=1200.0 / parts))
        steps, seconds = steps + here.steps, seconds + here.seconds
    assert (done.steps, done.seconds) == pytest.approx((steps, seconds), rel=1e-7)


def test_steps_of_a_ramp_and_its_tokens_are_one_amount():
    points = [Point(4.0, 3.0), Point(16.0, 6.0)]
    tokens = tokens_of([4.0, 16.0], 100.0)
    assert work(points, Amount(tokens=tokens)).steps == pytest.approx(100.0)
    assert work(points, Amount(steps=100.0)).tokens == pytest.approx(tokens)


@pytest.mark.slow
def test_four_batches_of_a_ramp_stand_for_all_of_them():
    # Every legal batch from 16 to 128 sequences, and the straight lines between four of them.
    keys = [{"training.global_batch_size": batch} for batch in range(16, 129, 8)]
    every = [simulate(load("h100-node", "llama-3.1-8b", key)) for key in keys]
    points = [Point(one.scenario.tokens_per_step, one.step_time) for one in every]
    exact = work(points, Amount(tokens=1e9))
    few = work([points[0], points[4], points[10], points[-1]], Amount(tokens=1e9))
    assert few.seconds == pytest.approx(exact.seconds, rel=1e-4)


# Ledgers


@pytest.fixture(scope="module")
def step():
    return simulate(load("h100-node", "llama-3.1-8b"))


def test_one_stage_at_one_batch_is_what_run_says(tmp_path, step):
    name = written(tmp_path, "  - {name: all, train: {workload: llama-3.1-8b}}\n")
    total = booked(name).total
    assert total.gpu_hours == pytest.approx(step.gpu_hours, rel=1e-14)
    assert total.wall_days == pytest.approx(step.wall_days, rel=1e-14)
    assert total.steps == pytest.approx(step.steps, rel=1e-14)
    assert total.cost == pytest.approx(2.0 * step.gpu_hours, rel=1e-14)


def test_the_span_without_an_amount_takes_the_rest(tmp_path, step):
    spans = "[{tokens: 4e8, set: {training.global_batch_size: 64}}, {}]"
    train = f"{{workload: llama-3.1-8b, tokens: 1e9, spans: {spans}}}"
    book = booked(written(tmp_path, f"  - {{name: all, train: {train}}}\n"))
    (entry,) = book.entries
    assert [line.total.tokens for line in entry.lines] == [4e8, pytest.approx(6e8)]
    assert book.total.tokens == pytest.approx(1e9)
    rest = entry.lines[1].total
    assert rest.seconds == pytest.approx(6e8 / step.scenario.tokens_per_step * step.step_time)


def test_a_week_trains_as_much_as_a_week_holds(tmp_path, step):
    stage = "  - {name: week, train: {workload: llama-3.1-8b, duration: 7 d}}\n"
    total = booked(written(tmp_path, stage)).total
    assert total.wall_days == pytest.approx(7.0)
    assert total.tokens == pytest.approx(7 * 86400 * step.tokens_per_second)
    assert total.gpu_hours == pytest.approx(8 * 168)


def test_what_is_repeated_is_a_share_of_hours_and_adds_no_tokens(tmp_path):
    again = (
        "  - {name: ablations, repeat: {share: 0.5, low: 0.25, high: 1, source: assumed}}\n"
        "  - {name: failed, repeat: {stages: [first], share: 0.1, serial: true, source: assumed}}\n"
    )
    book = booked(written(tmp_path, TRAIN + again))
    first, ablations, failed = (entry.total for entry in book.entries)
    assert ablations.gpu_hours == pytest.approx(0.5 * first.gpu_hours)
    assert ablations.low == pytest.approx(0.25 * first.low)
    assert ablations.high == pytest.approx(first.high)
    assert (ablations.seconds, ablations.tokens) == (0.0, 0.0)
    # A share of the named stage alone, not of the ablations before it.
    assert failed.gpu_hours == pytest.approx(0.1 * first.gpu_hours)
    assert failed.seconds == pytest.approx(0.1 * first.seconds)
    assert book.total.gpu_hours == pytest.approx(1.6 * first.gpu_hours)


def test_a_campaign_inside_of_another_is_one_stage(tmp_path):
    written(tmp_path, TRAIN, "inner.yaml")
    outer = written(tmp_path, "  - {name: base, campaign: {name: inner.yaml}}\n" + TRAIN)
    book = booked(outer)
    base, first = (entry.total for entry in book.entries)
    assert base == first
    assert book.entries[0].inner.total == first


def test_a_price_counts_also_inside_of_a_campaign_that_is_a_stage(tmp_path):
    written(tmp_path, TRAIN, "inner.yaml")
    outer = written(tmp_path, "  - {name: base, campaign: {name: inner.yaml}}\n")
    (entry,) = booked(outer, sets={"price": "5 USD per GPU-hour"}).entries
    assert entry.total.cost == pytest.approx(5 * entry.total.gpu_hours)


def test_an_option_adds_its_stage(tmp_path):
    head = SMALL.replace("stages:", "options: {data: false}\nstages:")
    more = "  - {name: data, option: data, repeat: {share: 1, source: assumed}}\n"
    name = written(tmp_path, TRAIN + more, head=head)
    without, with_ = booked(name), booked(name, sets={"options.data": True})
    assert [entry.config.name for entry in without.entries] == ["first"]
    assert with_.total.gpu_hours == pytest.approx(2 * without.total.gpu_hours)


def test_scenarios_that_are_alike_are_simulated_once(tmp_path):
    one = written(tmp_path, TRAIN + TRAIN.replace("first", "second"))
    assert len(scenarios([read(one), read(one)])) == 1


# Files


@pytest.mark.parametrize("name", inputs.shipped("campaigns"))
@pytest.mark.slow
def test_a_shipped_campaign_is_read(name):
    campaign = read(name)
    assert campaign.config.name == name
    assert campaign.config.counts
    assert campaign.config.leaves_out
    assert scenarios([campaign])


WRONG = {
    "  - {name: a}\n": "stages.0: 'a' is of no kind",
    "  - {name: a, train: {}}\n": "stages.0.train.workload: names no workload",
    "  - {name: a, train: {workload: lama-3.1-8b}}\n": "Did you mean 'llama-3.1-8b'",
    "  - {name: a, train: {workload: llama-3.1-8b, tokens: 1e9, steps: 2}}\n": "cannot stand next to",
    "  - {name: a, train: {workload: llama-3.1-8b, spans: [{}, {}]}}\n": "amounts of two spans open",
    "  - {name: a, train: {workload: llama-3.1-8b, tokens: 1e9, spans: [{tokens: 2e9}, {}]}}\n": "used up",
    "  - {name: a, train: {workload: llama-3.1-8b, set: {layout.tp: 3}}}\n": "layout.tp",
    "  - {name: a, train: {workload: llama-3.1-8b, set: {layout.pq: 3}}}\n": "pq",
    "  - {name: a, train: {workload: llama-3.1-8b, ramp: {from: 8, to: 4}}}\n": "is not above from, 8",
    "  - {name: a, train: {workload: llama-3.1-8b, ramp: {from: 8, to: 64}, spans: [{}]}}\n": "no effect next",
    "  - {name: a, train: {workload: llama-3.1-8b, duration: 7 d, spans: [{ramp: {from: 8, to: 64}}]}}\n": "a ramp",
    "  - {name: a, train: {workload: llama-3.1-8b, spans: [{duration: 1 d}, {}]}}\n": "spans that count time",
    "  - {name: a, repeat: {stages: [b], share: 1, source: x}}\n": "is not a stage before this one",
    "  - {name: a, campaign: {name: small.yaml}}\n": "contains itself",
    "  - {name: a, option: x, repeat: {share: 1, source: x}}\n": "is not among the options",
    TRAIN + TRAIN: "is the name of two stages",
}


@pytest.mark.parametrize(("stages", "said"), WRONG.items())
def test_a_wrong_campaign_is_told_where_and_what(tmp_path, stages, said):
    with pytest.raises(InputError) as refused:
        read(written(tmp_path, stages))
    message = str(refused.value)
    assert said in message
    assert "small.yaml:" in message
    assert "\n" not in message


def test_published_figures_name_what_a_ledger_has(tmp_path):
    figure = "published: [{quantity: hours, value: 1, source: x}]"
    stage = f"  - {{name: a, train: {{workload: llama-3.1-8b}}, {figure}}}\n"
    with pytest.raises(InputError, match="Choose from: gpu_hours"):
        read(written(tmp_path, stage))


# The command


def test_json_and_text_say_the_same(tmp_path, capsys):
    name = written(tmp_path, TRAIN)
    assert _main(["plan", name, "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree == json.loads(json.dumps(as_dict([booked(name)])))
    (campaign,) = tree["campaigns"]
    assert campaign["total"]["tokens"] == pytest.approx(1e9)
    assert _main(["plan", name]) == 0
    shown = capsys.readouterr().out
    assert "first" in shown
    assert "GPU-hours" in shown


def test_a_price_is_set_for_all_stages(tmp_path, capsys):
    name = written(tmp_path, TRAIN)
    assert _main(["plan", name, "--set", "price=4 USD per GPU-hour", "--json", "-"]) == 0
    total = json.loads(capsys.readouterr().out)["campaigns"][0]["total"]
    assert total["cost_usd"] == pytest.approx(4 * total["gpu_hours"])

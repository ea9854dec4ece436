"""Kinds of published cases, twins that count once, and errors of time."""

import pytest

from simulator.scenario import load
from simulator.trust import kind_of
from simulator.validate import Check, Kind, by_kind, score
from simulator.validate.case import StepCase, files

DENSE = Kind("H100", "dense", "BF16", "megatron")
MOE = Kind("H100", "MoE", "FP8", "megatron")


def check(case, published, simulated, **keys):
    values = {"quantity": "step_time_s", "unit": "s", "use": "validation", "source": "a paper"}
    return Check(case=case, published=published, simulated=simulated, **{**values, **keys})


def test_a_rate_that_is_too_high_is_a_time_that_is_too_short():
    # 125 tokens per second where 100 were published: a token takes 100/125 of its time, a fifth less.
    row = check("a/1", 100.0, 125.0, quantity="tokens_per_second", unit="/s")
    assert row.error == pytest.approx(0.25)
    assert row.slower == pytest.approx(-0.20)


def test_twins_count_once():
    rows = [
        check("a/1", 10.0, 9.0),  # -10%
        check("a/2", 10.0, 7.0, twin_of="a/1"),  # -30%, with the first -20%
        check("b/1", 10.0, 14.0),  # +40%
        check("b/2", 10.0, 30.0, scored=False),
    ]
    total = score(rows)
    assert (total.checks, total.groups) == (3, 2)
    assert total.mean == pytest.approx((0.20 + 0.40) / 2)
    assert total.signed == pytest.approx((-0.20 + 0.40) / 2)
    assert total.worst.case == "b/1"


def test_kinds_are_scored_apart_and_those_without_a_scored_case_left_out():
    rows = [
        check("a/1", 10.0, 9.0, kind=DENSE),
        check("a/2", 10.0, 5.0, kind=MOE),
        check("a/3", 10.0, 5.0, kind=Kind("B200", "dense", "BF16", "megatron"), scored=False),
        check("a/4", 10.0, 1.0),  # no step
    ]
    found = by_kind(rows)
    assert [(row.kind, row.score.checks) for row in found] == [(MOE, 1), (DENSE, 1)]
    assert found[0].score.mean == pytest.approx(0.5)
    assert str(MOE) == "H100 MoE FP8, megatron"


@pytest.mark.parametrize(
    ("topology", "workload", "sets", "kind"),
    [
        ("h800-2048", "deepseek-v3", {}, Kind("H800", "MoE", "FP8 blocks", "deepseek")),
        ("h100-node", "llama-3.1-8b", {}, DENSE),
        (
            "h100-node",
            "llama-3.1-8b",
            {"precision.recipe": "fp8_current"},
            DENSE._replace(precision="FP8"),
        ),
        ("a100-node", "mpt-30b", {}, Kind("A100", "dense", "BF16", "fsdp1")),
    ],
)
@pytest.mark.slow
def test_a_kind_follows_from_the_scenario(topology, workload, sets, kind):
    assert kind_of(load(topology, workload, sets)) == kind


@pytest.mark.slow
def test_a_twin_names_a_case_that_is_no_twin_itself():
    rows = [row for table in files().values() for row in table.cases]
    roots = {row.case for row in rows if not row.twin_of}
    assert {row.twin_of for row in rows if row.twin_of} <= roots
    assert all(isinstance(row, StepCase) for row in rows)

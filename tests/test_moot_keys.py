"""Keys that a degree leaves nothing to do are said, not refused: a sweep over the degree keeps its points."""

import pytest
from builders import dense

from simulator.scenario import moot_keys

CASES = [
    (
        {"layout__tp": 1, "layout__tp_comm_overlap": True},
        "layout.tp_comm_overlap = true does nothing with layout.tp 1, which has no collectives",
    ),
    (
        {"layout__cp": 1, "layout__cp_comm": "a2a"},
        "layout.cp_comm = a2a does nothing with layout.cp 1, which shares no sequence",
    ),
    (
        {"layout__zero": 1, "layout__reshard_after_forward": False},
        "layout.reshard_after_forward = false does nothing with layout.zero 1, whose parameters are "
        "whole all the time",
    ),
    (
        {"layout__zero": 0, "layout__overlap_param_gather": False},
        "layout.overlap_param_gather = false does nothing with layout.zero 0, which gathers no "
        "parameters",
    ),
    (
        {"layout__zero": 3, "layout__overlap_param_gather": False},
        "layout.overlap_param_gather = false does nothing with layout.zero 3, which gathers before "
        "every pass",
    ),
    (
        {
            "layout__pp": 1,
            "training__global_batch_size": 8,
            "communication__pipeline__overlap": "none",
        },
        "communication.pipeline.overlap = none does nothing with layout.pp 1, which has nothing to "
        "send between stages",
    ),
]


@pytest.mark.parametrize(("changes", "sentence"), CASES)
def test_a_key_that_a_degree_leaves_nothing_to_do_is_said(changes, sentence):
    assert sentence in [str(moot) for moot in moot_keys(dense(**changes))]


def test_gradients_of_one_micro_batch_are_summed_once_whatever_grad_sync_says():
    single = dense(layout__pp=1, layout__grad_sync="last", training__global_batch_size=8)
    assert single.micro_batches == 1
    assert [moot.key for moot in moot_keys(single)] == ["layout.grad_sync"]
    assert not moot_keys(dense(layout__grad_sync="last"))


def test_nothing_is_said_where_keys_do_something():
    assert not moot_keys(dense(layout__tp=2, layout__tp_comm_overlap=True))

"""Keys that would do nothing in a layout are refused, with the way to leave them out."""

import pytest
from builders import dense, scenario

from simulator.errors import InputError


@pytest.mark.parametrize(
    ("build", "changes", "message"),
    [
        (
            dense,
            {"layout__tp": 2, "layout__tp_comm_overlap": True, "layout__sequence_parallel": False},
            "layout.tp_comm_overlap: True does nothing without layout.sequence_parallel. Leave it "
            "out: --set layout.tp_comm_overlap=null removes it.",
        ),
        (
            dense,
            {"experts__sms": 16},
            "experts.sms: 16 does nothing in tiny, which has no experts. Leave it out: "
            "--set experts.sms=null removes it.",
        ),
    ],
)
def test_a_key_that_would_do_nothing_is_refused(build, changes, message):
    with pytest.raises(InputError) as told:
        build(**changes)
    assert str(told.value).split(": ", 1)[1] == message


def test_the_same_keys_are_taken_where_they_do_something():
    assert dense(layout__tp=2, layout__tp_comm_overlap=True).workload.layout.tp_comm_overlap
    assert scenario(experts__sms=16, experts__dispatcher="hybridep").workload.experts.sms == 16


def test_a_dispatcher_may_stay_where_a_comparison_begins_with_one_expert_parallel_rank():
    one = scenario(layout__ep=1, experts__dispatcher="all_to_all")
    assert one.workload.experts.dispatcher == "all_to_all"

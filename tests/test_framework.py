"""Memory that no tensor takes, against what was measured of contexts and communicators."""

import pytest
from builders import dense, lone, scenario

from simulator import inputs
from simulator.memory.framework import CONTEXT, NETWORK, PAIR, PEER, RING, framework

FIGURES = inputs.data("measured", "framework_memory").data


def test_constants_are_the_measured_figures():
    (context,) = FIGURES["context"]
    (exchange,) = FIGURES["all_to_all"]
    pair, ring = FIGURES["all_reduce"]
    (network,) = FIGURES["network"]
    assert context["gb"] * 1e9 == CONTEXT
    assert exchange["gb"] * 1e9 / exchange["peers"] == pytest.approx(PEER)
    assert (pair["mib"] * 2**20, ring["mib"] * 2**20) == (PAIR, RING)
    assert network["bytes"] == NETWORK


def test_one_gpu_has_a_context_alone():
    assert framework(lone()) == CONTEXT


def test_every_group_that_communicates_has_a_communicator():
    # 8 GPUs on two nodes. pp 2: sends over the network, and 4 replicas. Dense models have no groups
    # of routed experts.
    assert framework(dense()) == CONTEXT + RING + NETWORK
    assert framework(dense(layout__tp=2)) == CONTEXT + 2 * PAIR + NETWORK
    assert framework(scenario(layout__ep=1)) == CONTEXT + 2 * RING + NETWORK


@pytest.mark.parametrize(
    ("dispatcher", "bytes_"),
    [
        ("all_gather", RING),
        ("all_to_all", 3 * PEER),
        # 10 channels, 4 ranks, 288 slots of a token of 2,048 B and 2,048 B beside it.
        ("deepep", 10 * 4 * 288 * 4096),
    ],
)
def test_experts_need_what_their_dispatcher_does(dispatcher, bytes_):
    one = scenario(layout__ep=4, layout__pp=1, experts__dispatcher=dispatcher)
    without = scenario(layout__ep=1, layout__pp=1)
    # 8 replicas of dense parameters, 2 of routed ones.
    assert framework(one) == CONTEXT + RING + PAIR + bytes_
    assert framework(without) == CONTEXT + 2 * RING

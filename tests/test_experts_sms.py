"""SMs work both ways: laws over all dispatchers, bounds, what is refused; and every distribution with every other."""

import numpy as np
import pytest
from builders import configuration_name, scenario, simulated

from simulator.collectives import DISPATCHERS, CoflowKind, Communication, sms_of
from simulator.collectives.kinds import EXCHANGES
from simulator.costs import loads, price
from simulator.errors import InputError
from simulator.ops import Phase, block_ops
from simulator.program import lower
from simulator.report import summarise
from simulator.residuals.exchanges import BF16, FP8, Run, Setting, timed

every_dispatcher = pytest.mark.parametrize("name", DISPATCHERS)
COUNTS = (2, 8, 20, 32, 64)
WITH_SMS = [name for name, row in DISPATCHERS.items() if row.sms]


def exchange(one, kind=CoflowKind.DISPATCH, tokens=4096.0):
    size = tokens * 1024 * 2.0
    return Communication.of(one).exchange(kind, range(8), loads(one).even, size, tokens)


def seconds(one, kind):
    found = exchange(one, kind)
    return found.demand.seconds(one.network, found.kernel) + found.kernel.setup


# Laws


@pytest.mark.slow
@every_dispatcher
def test_more_sms_never_slow_an_exchange_down_and_from_some_number_on_change_nothing(name):
    changes = {"layout__ep": 8, "layout__pp": 1, "experts__dispatcher": name}
    runs = [scenario(**changes, experts__sms=sms) for sms in COUNTS]
    for kind in EXCHANGES:
        took = [seconds(one, kind) for one in runs]
        assert took == sorted(took, reverse=True)
        assert took[-1] == took[-2]
        if DISPATCHERS[name].sms:
            assert took[0] > 1.2 * took[-1]


@pytest.mark.parametrize("kind", EXCHANGES)
@pytest.mark.slow
def test_few_sms_bind_a_kernel_by_what_they_copy(kind):
    # 4,096 tokens of 2,048 B on two nodes of four, with 2 SMs: each makes a copy for each node that
    # it reaches and for each GPU, its own included.
    one = scenario(layout__ep=8, layout__pp=1, experts__sms=2)
    load, model = loads(one).even, one.kernels.communication[kind]
    part = model.copies.across
    copies = load.over_nic * 2 + load.received
    copying = 4096 * copies * (2048 + part.overhead) / (2 * part.sm)
    found = exchange(one, kind)
    alone = found.demand.seconds(one.network, found.kernel) - found.demand.latency
    assert alone == pytest.approx(copying)
    assert found.kernel.setup == pytest.approx(model.setup + part.filling(2048.0))
    links = found.demand.seconds(one.network, model) - found.demand.latency
    assert found.sm_share == pytest.approx(links / copying)


def test_a_fill_grows_with_the_token_where_it_was_seen_to():
    one = scenario()
    combine, dispatch = (one.kernels.communication[name] for name in ("combine", "dispatch"))
    inside = combine.copies.inside
    assert inside.filling(7168.0) == pytest.approx(inside.fill / 2)
    inside = dispatch.copies.inside
    assert inside.filling(7168.0) == inside.filling(14336.0) == inside.fill


@pytest.mark.slow
def test_fewer_ctas_than_nccl_takes_reach_their_share():
    # 8 of 32 and of 24: a quarter and a third of the links' rate; the setup stays.
    for name, share in (("all_to_all", 1 / 4), ("all_gather", 1 / 3)):
        changes = {"layout__ep": 8, "layout__pp": 1, "experts__dispatcher": name}
        few, full = (exchange(scenario(**changes, experts__sms=sms)) for sms in (8, 64))
        assert few.sm_share == pytest.approx(share)
        assert few.kernel.nic == pytest.approx(full.kernel.nic * share)
        assert few.kernel.setup == full.kernel.setup


def test_hybrid_ep_fills_the_nics_with_fewer_sms_than_deepep():
    # Four nodes, combine in BF16: 8 SMs of HybridEP reach more than 8 of DeepEP, at 24 they meet.
    setting = Setting("h100", 4, 7168, 8, 256, "deepep", CoflowKind.COMBINE, BF16)
    for sms, faster in ((8, 1.5), (24, 0.8)):
        deepep = timed(setting, Run(4096.0, sms)).seconds
        hybrid = timed(setting._replace(dispatcher="hybridep"), Run(4096.0, sms)).seconds
        assert deepep / hybrid > faster


def test_a_plain_all_to_all_is_bound_by_nics_that_carry_every_copy():
    # EP64: 8 copies of which 7 of 8 leave the node, against 3.98 nodes of which 7 of 8 do: with the
    # same tokens twice DeepEP's bytes. NICs at 0.94: 46 to 49 GB/s of large buffers (nccl-tests issues
    # 130, 267, 290), here 1 GB: posts take 168 us of 18 ms.
    setting = Setting("h100", 8, 7168, 8, 256, "all_to_all", CoflowKind.DISPATCH, FP8)
    plain = timed(setting, Run(16384.0, 32))
    crossing = 8 * 7 / 8 * 16384 * 7168 * FP8
    assert 46 <= crossing / plain.seconds / 1e9 <= 49
    deepep = timed(setting._replace(dispatcher="deepep"), Run(16384.0, 20))
    assert plain.seconds / deepep.seconds == pytest.approx(8 / 3.98, rel=0.05)


# Who takes SMs


@pytest.mark.slow
def test_every_dispatcher_takes_the_sms_of_its_library():
    found = {
        name: price(scenario(schedule__name="dualpipe", experts__dispatcher=name, stack="deepseek"))
        for name in DISPATCHERS
    }
    assert {name: costs.processor.reserved_sms for name, costs in found.items()} == {
        "deepep": 20,
        "deepep_flat": 20,
        "deepep_low_latency": 0,
        "hybridep": 16,
        "all_to_all": 32,
        "all_gather": 24,
    }
    assert sms_of(scenario(experts__sms=12)) == 12


def test_what_a_dispatcher_does_besides_stands_in_its_row():
    rows = DISPATCHERS.values()
    assert {row.name for row in rows if not row.synchronises} == {"deepep_low_latency"}
    assert {row.name for row in rows if row.permutes} == {"all_to_all"}


@pytest.mark.parametrize("name", WITH_SMS)
@pytest.mark.slow
def test_an_exchange_without_sms_is_refused(name):
    with pytest.raises(InputError) as caught:
        lower(scenario(experts__dispatcher=name, experts__sms=0))
    assert str(caught.value) == (
        f"tiny.yaml: experts.sms: 0 leaves {name} no SM to copy tokens with. Write "
        f"{DISPATCHERS[name].sms}, its default, or experts.dispatcher=deepep_low_latency."
    )


@pytest.mark.slow
def test_nobody_needs_sms_where_the_nic_copies():
    lower(scenario(experts__sms=0, experts__dispatcher="deepep_low_latency"))


# Bounds


@pytest.mark.slow
def test_bounds_are_those_of_the_best_number_of_sms():
    # A link's bound is the same with 2 SMs, which hold exchanges up, and with 64; no step is shorter
    # than any bound.
    found = {
        sms: summarise(simulated(scenario(layout__ep=8, layout__pp=1, experts__sms=sms)))
        for sms in (2, 64)
    }
    few, many = (
        {bound.name: bound.seconds for bound in report.bounds} for report in found.values()
    )
    assert few["busiest link"] == pytest.approx(many["busiest link"], rel=1e-12)
    assert found[2].step_time > 1.02 * found[64].step_time
    for report in found.values():
        assert all(bound.seconds <= report.step_time * (1 + 1e-12) for bound in report.bounds)


# Permutes and copies


def test_a_plain_all_to_all_writes_a_copy_per_expert_before_and_adds_them_up_after():
    # 2,048 tokens, top 2: 2,048 + 4,096 rows of 1,024 elements of BF16, four times a layer: tokens
    # and results forwards, their gradients backwards.
    one = scenario(experts__dispatcher="all_to_all")
    (ops,) = block_ops("moe", price(one).work)
    found = {
        op.name: op.bytes
        for phase in Phase
        for op in ops[phase]
        if op.name.startswith(("permute", "unpermute"))
    }
    assert set(found) == {
        "permute tokens",
        "unpermute results",
        "permute result gradients",
        "unpermute token gradients",
    }
    assert set(found.values()) == {(2048 + 4096) * 1024 * 2.0}


@pytest.mark.parametrize("name", [name for name in DISPATCHERS if name != "all_to_all"])
@pytest.mark.slow
def test_other_kernels_read_tokens_where_they_lie(name):
    assert price(scenario(experts__dispatcher=name)).work.sent == 0.0


@pytest.mark.parametrize(
    ("name", "copies"), [("all_to_all", 2.0), ("deepep_low_latency", 2.0), ("all_gather", 4.0)]
)
@pytest.mark.slow
def test_experts_in_tensor_groups_gather_what_their_dispatcher_brought(name, copies):
    # etp 2, ep 4: each member of an expert tensor group hands on top_k copies of each token, or of
    # an all-gather those of all four GPUs.
    one = scenario(
        layout__pp=1, layout__tp=2, layout__etp=2, layout__ep=4, experts__dispatcher=name
    )
    work = price(one).work
    (ops,) = block_ops("moe", work)
    (gather,) = (op for op in ops[Phase.MLP_F] if op.name == "gather received tokens")
    tokens = 2048 / 2  # sequence parallel ranks have half each
    assert gather.bytes == pytest.approx(2 * tokens * copies * 1024 * 2.0)


def test_experts_read_only_their_own_of_what_an_all_gather_brings():
    # ep 4: 4 x 2,048 copies arrive, of which 2 x 2,048 (token, expert) pairs are read and written;
    # on the way back all copies are written, for the sum over the group.
    one = scenario(layout__pp=1, layout__ep=4, experts__dispatcher="all_gather")
    (ops,) = block_ops("moe", price(one).work)
    found = {op.name: op.bytes for phase in Phase for op in ops[phase]}
    row = 1024 * 2.0
    assert found["expand"] == found["expand gradients"] == 2 * 4096 * row
    assert found["reduce"] == found["reduce gradients"] == (4096 + 8192) * row


# The product


DISTRIBUTIONS = [
    {"experts__distribution": "balanced"},
    {"experts__capacity_factor": 1.0},
    {"experts__distribution": "log_normal", "experts__sigma": 0.5},
    {"experts__distribution": "log_normal", "experts__sigma": 0.5, "experts__capacity_factor": 1.0},
    {"experts__distribution": "power_law", "experts__exponent": 0.5},
    {"experts__distribution": "dirichlet", "experts__concentration": 5},
]
SMALL = {"layout__ep": 4, "training__global_batch_size": 8, "training__seq_length": 512}


@every_dispatcher
@pytest.mark.parametrize("changes", DISTRIBUTIONS, ids=configuration_name)
@pytest.mark.slow
def test_every_routing_is_expressible_beside_every_dispatcher(name, changes):
    one = scenario(**SMALL, **changes, experts__dispatcher=name)
    found = loads(one)
    even = loads(scenario(**SMALL, experts__dispatcher=name)).even
    busiest = max(load.rows for load in found.distinct)
    received = max(load.received for load in found.distinct)
    natural = "experts__distribution" in changes and changes["experts__distribution"] != "balanced"
    dropping = "experts__capacity_factor" in changes
    if dropping:  # 1.0 lets nobody have more than an even share
        assert busiest <= even.rows * (1 + 1e-9)
        assert found.dropped > 0
    elif natural:
        assert busiest > even.rows * 1.01
    else:
        assert busiest == pytest.approx(even.rows)
    if name == "all_gather":  # which brings every token to everybody whatever they picked
        assert received == 4.0
    step = simulated(one)
    assert np.isfinite(step.step_time)
    if natural and not dropping:
        level = simulated(scenario(**SMALL, experts__dispatcher=name))
        assert step.step_time > level.step_time

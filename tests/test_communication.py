"""The algorithms and dispatchers of a step: bytes by hand, every row in a small step, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from builders import configuration_name, dense, scenario, simulated
from test_collectives import cluster, on

from simulator.cli.commands import _main
from simulator.collectives import (
    ALGORITHMS,
    DISPATCHERS,
    Batch,
    CoflowKind,
    Communication,
    Kernels,
    Timed,
    choices,
    chosen,
    dispatcher_of,
    exchange_row,
    of_nccl,
    sms_of,
)
from simulator.collectives.batch import Batches
from simulator.collectives.kinds import EXCHANGES, Traffic
from simulator.collectives.named import NEEDS
from simulator.collectives.straight import per_token
from simulator.costs import loads, price
from simulator.errors import InputError
from simulator.experts import WAYS, ExpertsConfig, Load, Visits, route, worst_load
from simulator.experts.survey import of_routing
from simulator.hardware import CommunicationModel
from simulator.inputs import data_names
from simulator.program import lower

every_dispatcher = pytest.mark.parametrize("name", DISPATCHERS)
IDEAL = CommunicationModel(nic=1.0, nvlink=1.0, source="made up: line rate")

# Two nodes of two GPUs, of which each holds an expert; a token picks two. All pick expert 0, half
# of them expert 1 of the same node, a quarter each one of the other node's.
VISITS = Visits(
    experts=np.array([1.0, 0.5, 0.25, 0.25]),
    pairs=np.array([1.0, 0.5, 0.25, 0.25]),
    gpus=np.array([1.0, 0.5, 0.25, 0.25]),
    nodes=np.array([1.0, 0.5]),
)


def asked(name, kind=CoflowKind.DISPATCH, *, per_gpu=True, algorithm="pairwise"):
    """Return the demand of one byte per copy on ports, [NIC up, NIC down, NVLink up, NVLink down][gpu]."""
    net = cluster(nodes=2, gpus=2, ports=16)
    row = DISPATCHERS[name]
    load = worst_load(VISITS, per_gpu=per_gpu, way=row.way)
    found = row.demand(Batch(net, (0, 1, 2, 3), load, kind, IDEAL, algorithm))
    return [on(found, links) for links in (net.nic_up, net.nic_down, net.gpu_up, net.gpu_down)]


# Bytes by hand


def test_deepep_sends_a_token_once_to_each_node_and_on_over_nvlink():
    # Node 1 is reached by half of the tokens: GPU 0 sends 0.5 to GPU 2, GPU 1 to GPU 3, and node
    # 1's GPUs send all theirs to node 0. On node 0 GPU 0 gets the tokens of rail 1 from both nodes,
    # 2 x 1, handed on by GPU 1; GPU 1 gets 2 x 0.5. On node 1 both get 2 x 0.25.
    assert asked("deepep") == [
        [0.5, 0.5, 1.0, 1.0],
        [1.0, 1.0, 0.5, 0.5],
        [1.0, 2.0, 0.5, 0.5],
        [2.0, 1.0, 0.5, 0.5],
    ]


@pytest.mark.parametrize("name", ["deepep_flat", "deepep_low_latency"])
def test_straight_dispatchers_send_each_copy_to_its_gpu(name):
    # Here no GPU holds two experts: once per GPU is once per expert. GPU 0 gets a copy of every
    # token: one from GPU 1 over NVLink, two from node 1, each sender from its own NIC.
    nic_up, nic_down, nvlink_up, nvlink_down = asked(name)
    assert nic_up == [0.5, 0.5, 1.5, 1.5]
    assert nic_down == [2.0, 1.0, 0.5, 0.5]
    assert nvlink_up == [0.5, 1.0, 0.25, 0.25]
    assert nvlink_down == [1.0, 0.5, 0.25, 0.25]


def test_a_plain_all_to_all_sends_the_same_copies_by_the_rail_of_the_receiver():
    # As the low-latency kernels, but NCCL hands what goes to another rail to the neighbour on that
    # rail: NICs of a node carry what their own rail's receivers get.
    nic_up, nic_down, nvlink_up, nvlink_down = asked("all_to_all")
    assert nic_up == [2 * 0.25, 2 * 0.25, 2 * 1.0, 2 * 0.5]
    assert nic_down == [2.0, 1.0, 0.5, 0.5]
    # Its own copies for the neighbour, and the neighbour's for the other node's GPU on that rail.
    assert nvlink_up == [0.5 + 0.25, 1.0 + 0.25, 0.25 + 0.5, 0.25 + 1.0]
    assert sum(nvlink_down) == sum(nvlink_up)


def test_an_all_gather_brings_every_token_everywhere_whoever_its_experts_are():
    # A ring of four, each token passed on three times, by NVLink out of and into each GPU; between
    # the nodes two rings share what crosses, on either rail.
    for kind in (CoflowKind.DISPATCH, CoflowKind.COMBINE):
        nic_up, nic_down, nvlink_up, nvlink_down = asked("all_gather", kind)
        assert nic_up == nic_down == [1.5, 1.5, 1.5, 1.5]
        assert nvlink_up == nvlink_down == [3.0, 3.0, 3.0, 3.0]


def test_experts_on_one_gpu_share_a_copy_unless_the_dispatcher_sends_one_each():
    # Two experts on each of two GPUs: a token that picks both of a GPU reaches one GPU, with two
    # pairs.
    visits = Visits(np.full(4, 0.5), np.array([1.5, 0.5]), np.array([1.0, 0.5]), np.array([1.0]))
    for name, received in (
        ("deepep", 2 * 1.0),
        ("deepep_flat", 2 * 1.0),
        ("deepep_low_latency", 2 * 1.5),
        ("all_to_all", 2 * 1.5),
    ):
        load = worst_load(visits, per_gpu=True, way=DISPATCHERS[name].way)
        assert load.per_gpu[0].received == received


@every_dispatcher
def test_what_dispatch_brings_combine_takes_back(name):
    out, back = asked(name), asked(name, CoflowKind.COMBINE)
    assert sum(map(sum, out)) == pytest.approx(sum(map(sum, back)))
    if DISPATCHERS[name].library != "NCCL":  # which hands on at the sender's end, both ways
        assert back == [out[1], out[0], out[3], out[2]]


@every_dispatcher
def test_where_the_busiest_represents_all_every_port_carries_what_the_busiest_does(name):
    each, worst = asked(name), asked(name, per_gpu=False)
    for ports, busiest in zip(each[:2], worst[:2], strict=True):
        assert len(set(busiest)) == 1
        assert busiest[0] >= max(ports) - 1e-12


@every_dispatcher
def test_an_exchange_waits_for_no_link_that_carries_nothing(name):
    # Nobody picks the other node's experts.
    one_node = Visits(
        experts=np.array([1.0, 1.0, 0.0, 0.0]),
        pairs=np.array([1.0, 1.0, 0.0, 0.0]),
        gpus=np.array([1.0, 1.0, 0.0, 0.0]),
        nodes=np.array([1.0, 0.0]),
    )
    net = cluster(nodes=2, gpus=2, ports=16)
    row = DISPATCHERS[name]
    load = worst_load(one_node, per_gpu=True, way=row.way)
    batch = Batch(net, (0, 1, 2, 3), load, CoflowKind.DISPATCH, IDEAL, "pairwise")
    demand = row.demand(batch)
    assert (demand.bytes > 0).all()
    reached = set(net.nic_down[2:].tolist()) & set(demand.links.tolist())
    # An all-gather asks nobody who wants a token.
    assert bool(reached) == (name == "all_gather")


@every_dispatcher
def test_experts_that_all_lie_on_one_gpu_are_reached_at_once(name):
    load = Load(
        rows=8.0,
        received=1.0,
        over_nic=0.0,
        over_nvlink=0.0,
        mean_nic=0.0,
        mean_nvlink=0.0,
        ep_nodes=1,
        gpus_per_node=1,
    )
    net = cluster(nodes=2, gpus=2, ports=16)
    batch = Batch(net, (0,), load, CoflowKind.DISPATCH, IDEAL, "pairwise")
    demand = DISPATCHERS[name].demand(batch)
    assert (len(demand.links), demand.latency) == (0, 0.0)


def test_where_the_busiest_represents_all_a_port_shares_its_copies_among_its_pairs():
    # Two nodes of 3 GPUs. One copy over the busiest NVLink port is half a copy for each of 2
    # neighbours; 6 over the busiest NIC are 2 for each of 3 GPUs of the other node.
    load = Load(
        rows=8.0,
        received=7.0,
        over_nic=6.0,
        over_nvlink=1.0,
        mean_nic=6.0,
        mean_nvlink=1.0,
        ep_nodes=2,
        gpus_per_node=3,
    )
    first, last = [0.5, 0.5, 0.5, 2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 0.5, 0.5, 0.5]
    expected = np.array([first, first, first, last, last, last])
    np.fill_diagonal(expected, 0.0)
    assert per_token(load).tolist() == expected.tolist()


@pytest.mark.parametrize("algorithm", ["hierarchical", "bruck"])
def test_blocks_of_unlike_size_need_the_pairwise_all_to_all(algorithm):
    with pytest.raises(InputError) as caught:
        asked("all_to_all", algorithm=algorithm)
    assert str(caught.value) == (
        f"experts.resolve: 'each' needs the pairwise all-to-all, not {algorithm}, which takes blocks of equal size. "
        "Write experts.resolve=worst, or communication.expert.algorithm=pairwise."
    )


# Every row in a step

SMALL = {"layout__ep": 4, "training__global_batch_size": 8, "training__seq_length": 512}
UNLIKE = {"experts__distribution": "log_normal", "experts__sigma": 0.5}
EXPERTS = [
    *({"experts__dispatcher": name} for name in DISPATCHERS),
    *(
        {"experts__dispatcher": "all_to_all", "communication__expert": {"algorithm": name}}
        for name in ("hierarchical", "bruck", "nccl")
    ),
]
GROUPS = [
    {"layout__tp": 2, "layout__ep": 2, f"communication__{section}": {"algorithm": name}}
    for section in ("tensor", "data")
    for name in ("ring", "halving_doubling", "nccl", "hierarchical_ring")
]
GROUPS += [
    {"layout__tp": 2, "layout__ep": 2, "communication__tensor": {"algorithm": "nvls"}},
    {"layout__cp": 2, "communication__context": {"algorithm": "ring"}},
]


@pytest.mark.parametrize("changes", [*EXPERTS, *GROUPS], ids=configuration_name)
@pytest.mark.slow
def test_every_row_runs_in_a_step_and_folds_exactly(changes):
    one = scenario(**{**SMALL, **changes})
    folded, whole = (simulated(one, folded=folded) for folded in (True, False))
    assert folded.step_time == pytest.approx(whole.step_time, rel=1e-9)
    assert folded.program.ranks < whole.program.ranks


@pytest.mark.parametrize("changes", EXPERTS, ids=configuration_name)
@pytest.mark.parametrize("resolve", ["worst", "each"])
@pytest.mark.slow
def test_unlike_experts_run_with_every_dispatcher_or_are_refused(changes, resolve):
    one = scenario(**{**SMALL, **UNLIKE, **changes, "experts__resolve": resolve})
    algorithm = one.workload.communication.expert.algorithm
    if resolve == "each" and algorithm in ("hierarchical", "bruck"):
        with pytest.raises(InputError, match="needs the pairwise all-to-all"):
            lower(one)
        return
    folded, whole = (simulated(one, folded=folded) for folded in (True, False))
    assert folded.step_time == pytest.approx(whole.step_time, rel=1e-9)
    even = simulated(scenario(**{**SMALL, **changes}))
    assert folded.step_time > even.step_time


def covered(changes):
    return {
        (section.removeprefix("communication__"), value["algorithm"])
        for section, value in changes.items()
        if section.startswith("communication__")
    }


def test_no_row_that_a_step_can_run_is_left_out():
    ran = set().union(*(covered(changes) for changes in (*EXPERTS, *GROUPS)))
    for traffic, ops in NEEDS.items():
        able = {name for name, row in ALGORITHMS.items() if set(ops) <= set(row.ops)}
        if traffic in (Traffic.DATA, Traffic.CONTEXT):
            able -= {"nvls"}  # stays inside a node
        able -= {"pat"}  # takes groups of one GPU a node
        if traffic != Traffic.CONTEXT:
            assert able <= {name for section, name in ran if section == traffic} | {"pairwise"}


@every_dispatcher
@pytest.mark.slow
def test_a_step_and_the_command_time_the_same_kernel_alike(name):
    # Even experts on one cluster: what a step asks of the links takes as long as the command says,
    # which resolves pairs where kernels do not forward.
    one = scenario(layout__ep=8, layout__pp=1, experts__dispatcher=name)
    row, net = DISPATCHERS[name], one.network
    routing = route(one.model, 8, 4, 0)
    table = row.kernels(one.kernels)
    for kind in (CoflowKind.DISPATCH, CoflowKind.COMBINE):
        tokens, width = 4096.0, 1024 * 2.0
        exchange = Communication.of(one).exchange(
            kind, range(8), loads(one).even, tokens * width, tokens
        )
        token = width + (0.0 if kind.returns else table.header)
        timed = Timed(net, kind, row, name, table.models[kind], tokens, token, row.sms)
        printed = exchange_row(timed, routing, of_routing(routing, one.model))
        alone = exchange.demand.seconds(net, exchange.kernel) + exchange.kernel.setup
        assert alone == pytest.approx(printed.seconds, rel=1e-9)


@every_dispatcher
@pytest.mark.slow
def test_what_a_gpu_receives_follows_from_the_dispatcher(name):
    # A token picks 2 of 8 experts on 2 GPUs: with a copy for each expert 2 arrive per token of a
    # GPU; once per GPU fewer, as both may be on one.
    received = price(scenario(experts__dispatcher=name)).work.received / 2048
    if DISPATCHERS[name].way is WAYS["low_latency"]:
        assert received == pytest.approx(2.0)
    elif name == "all_gather":  # every token of both GPUs
        assert received == 2.0
    else:
        assert 1.0 < received < 2.0


def test_expert_traffic_of_a_step_is_what_the_dispatcher_sends():
    # 4 GPUs of one node, top 2 of 8 experts, each GPU with 2: of 2 copies per token 3/4 leave the
    # GPU. Forward dispatch and combine, backward cached dispatch and combine, BF16: 4 passes over 3
    # MoE layers on 2 stages of 8 GPUs for 8 sequences of 512 tokens.
    one = scenario(**SMALL, experts__dispatcher="all_to_all")
    program = lower(one)
    sent = np.zeros(2)
    for flow, count in zip(program.coflows, calls(program), strict=True):
        if flow.traffic == Traffic.EXPERT:
            sent += count * np.array(flow.sent)
    copies = 8 * 512 * 2 * 3 / 4
    assert sent[1] == pytest.approx(copies * 1024 * 2.0 * 4 * 3)


def calls(program):
    """Return how often each class of coflows runs in a step."""
    return [
        len(np.unique(program.instance[program.coflow == number]))
        for number in range(len(program.coflows))
    ]


def test_dispatch_and_combine_of_low_latency_carry_their_headers_one_way():
    one = scenario(**SMALL, experts__dispatcher="deepep_low_latency")
    table = DISPATCHERS["deepep_low_latency"].kernels(one.kernels)
    load, found = loads(one).even, {}
    for kind in EXCHANGES:
        found[kind] = Communication.of(one).exchange(kind, range(4), load, 1e6, 100.0)
    extra = found[CoflowKind.DISPATCH].demand.bytes / found[CoflowKind.COMBINE].demand.bytes
    assert extra == pytest.approx((1e6 + 100 * table.header) / 1e6)
    assert found[CoflowKind.CACHED_DISPATCH].kernel == table.models[CoflowKind.DISPATCH]


@every_dispatcher
@pytest.mark.parametrize("per_gpu", [False, True])
def test_many_groups_under_many_loads_ask_what_each_would_alone(name, per_gpu):
    net, row = cluster(nodes=4, gpus=2, ports=16), DISPATCHERS[name]
    groups = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [2, 3, 6, 7]])
    first = worst_load(VISITS, per_gpu=per_gpu, way=row.way)
    some = [first, replace(first, over_nic=0.3, rows=5.0), replace(first, over_nic=0.0)]
    seen = []
    for bundle in row.bundles(some):
        kind = CoflowKind.COMBINE
        loads_ = [some[number] for number in bundle]
        found = row.demands(Batches(net, groups, loads_, kind, IDEAL, "pairwise"))
        for at, number in enumerate(bundle):
            seen.append(number)
            batches = [
                Batch(net, tuple(one), some[number], kind, IDEAL, "pairwise") for one in groups
            ]
            expected = [row.demand(batch) for batch in batches]
            for mine, alone in zip(found.of_size(at).each(), expected, strict=True):
                assert mine.links.tolist() == alone.links.tolist()
                assert mine.bytes.tolist() == alone.bytes.tolist()
                assert mine.latency == alone.latency
    assert sorted(seen) == [0, 1, 2]


@every_dispatcher
def test_groups_with_other_links_have_kernels_of_their_own(name):
    # A NIC of half the rate under the first of four groups of 2 nodes; each alone is the oracle.
    slow = {"nic": [0, 0], "bandwidth": "25 GB/s per direction"}
    one = scenario(nodes=8, layout__ep=4, experts__dispatcher=name, faults=[slow])
    runs, load = Communication.of(one), loads(one).distinct[0]
    groups = np.arange(16).reshape(4, 4)
    for kind in EXCHANGES:
        found = runs.exchanges(kind, groups, [load], 1e6, 100.0)
        met = np.concatenate([some.groups for some in found])
        assert sorted(met.tolist()) == [0, 1, 2, 3]
        for some in found:
            for number, demand in zip(some.groups, some.demands.of_size(0).each(), strict=True):
                alone = runs.exchange(kind, groups[number].tolist(), load, 1e6, 100.0)
                assert some.runs[0] == (alone.kernel, alone.sm_share)
                assert demand.bytes.tolist() == alone.demand.bytes.tolist()
                assert demand.links.tolist() == alone.demand.links.tolist()


# What NCCL would choose


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
@pytest.mark.slow
def test_nccl_runs_what_its_cost_model_chooses_with_that_protocols_kernel(size):
    one = scenario(communication__data={"algorithm": "nccl"})
    kernels, members = one.kernels.communication, range(8)
    ways = of_nccl("reduce_scatter")
    found = choices(one.network, members, Kernels.of(one.kernels), "reduce_scatter", ways)
    best = chosen(found, size)
    plan = Communication.of(one).plan(CoflowKind.REDUCE_SCATTER, members, size)
    assert plan.algorithm == best.algorithm
    assert plan.kernel == kernels[ALGORITHMS[best.algorithm].kernels[best.protocol]]


def test_an_algorithm_that_reaches_a_part_of_its_protocols_rate_runs_at_that(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "ring", replace(ALGORITHMS["ring"], rate=0.5))
    one = scenario(communication__data={"algorithm": "ring"})
    plan = Communication.of(one).plan(CoflowKind.ALL_GATHER, range(8), 1e9)
    whole = one.kernels.communication["nccl_simple"]
    assert (plan.kernel.nic, plan.kernel.nvlink) == (whole.nic / 2, whole.nvlink / 2)
    assert plan.kernel.setup == whole.setup


def test_small_messages_take_another_protocol_than_large_ones():
    one = scenario(communication__data={"algorithm": "nccl"})
    small, large = (
        Communication.of(one).plan(CoflowKind.ALL_GATHER, range(8), size).kernel
        for size in (1e3, 1e9)
    )
    assert (small, large) == tuple(
        one.kernels.communication[row] for row in ("nccl_ll", "nccl_simple")
    )


def test_what_nothing_is_said_of_runs_as_nccl_would():
    # 4 H800 of a node: LL for a megabyte, Simple for a gigabyte; two GPUs send by Simple.
    one = scenario()
    for kind, size, row in (
        (CoflowKind.TENSOR, 1e6, "nccl_ll"),
        (CoflowKind.CONTEXT, 1e9, "nccl_simple"),
        (CoflowKind.ALL_GATHER, 1e9, "nccl_simple"),
        (CoflowKind.FORWARD, 1e6, "send_recv"),
    ):
        plan = Communication.of(one).plan(kind, range(4), size)
        # In a ring of sends nobody copies its own keys.
        known = one.kernels.communication[row]
        if kind is CoflowKind.CONTEXT:
            known = known.model_copy(update={"own_part": 0.0})
        assert plan.kernel == known


@pytest.mark.slow
def test_a_gather_takes_the_copy_of_its_own_part_and_an_all_reduce_works_in_place():
    # 1 GB over 8 GPUs: 125 MB each at 692.1 GB/s, next to the same gather without it.
    for flag, own in ((True, 125e6 / 692.1e9), (False, 0.0)):
        one = scenario(layout__sequence_parallel=flag)
        plan = Communication.of(one).plan(CoflowKind.TENSOR, range(8), 1e9)
        sent = replace(plan, kernel=plan.kernel.model_copy(update={"own_part": 0.0}))
        with_own, without = (each.demand(range(8), 1e9) for each in (plan, sent))
        assert with_own.latency - without.latency == pytest.approx(own)
        assert with_own.bytes.tolist() == without.bytes.tolist()


# What is refused

RING = "ring, halving_doubling, hierarchical_ring"
REFUSED = [
    (
        {"communication__data": {"algorithm": "tree"}},
        "communication.data.algorithm: 'tree' does not run reduce_scatter and all_gather. "
        f"Choose from: {RING}, nvls, pat, nccl.",
    ),
    (
        {"communication__tensor": {"algorithm": "sharp"}},
        "communication.tensor.algorithm: 'sharp' does not run reduce_scatter and all_gather. "
        f"Choose from: {RING}, nvls, pat, nccl.",
    ),
    (
        {"communication__context": {"algorithm": "rings"}},
        f"communication.context.algorithm: 'rings' is not a collective algorithm. Choose from: {RING}, nvls, pat, nccl.",
    ),
    (
        {"communication__data": {"algorithm": "nvls"}, "layout__pp": 1},
        "communication.data.algorithm: 'nvls' cannot run on data groups of 8 ranks: it stays inside one node; "
        f"these are 2. Choose from: {RING}, nccl.",
    ),
    (
        {
            "communication__tensor": {"algorithm": "nvls"},
            "layout__tp": 2,
            "gpu": "a100",
            "experts__dispatcher": "all_to_all",
        },
        "communication.tensor.algorithm: 'nvls' cannot run on tensor groups of 2 ranks: it adds in the NVSwitch, "
        f"which this GPU's kernel table does not know. Choose from: {RING}, nccl.",
    ),
    (
        {"communication__expert": {"algorithm": "bruck"}},
        "communication.expert.algorithm: 'bruck' is not used by experts.dispatcher deepep, which has kernels of its "
        "own. Leave it out (--set communication.expert.algorithm=null removes it), or write "
        "experts.dispatcher=all_to_all.",
    ),
    (
        {"communication__expert": {"algorithm": "ring"}, "experts__dispatcher": "all_to_all"},
        "communication.expert.algorithm: 'ring' does not run all_to_all. Choose from: pairwise, hierarchical, bruck, "
        "nccl.",
    ),
    (
        {"experts__dispatcher": "alltoall"},
        "experts.dispatcher: 'alltoall' is not a dispatcher. Choose from: stack, deepep, deepep_flat, deepep_low_latency, "
        "hybridep, all_to_all, all_gather.",
    ),
    (
        {"experts__dispatcher": "deepep_low_latency", "gpu": "a100"},
        "experts.dispatcher: 'deepep_low_latency' has no published measurement on ampere GPUs. Choose "
        "from: all_to_all, all_gather.",
    ),
    (
        {"experts__dispatcher": "hybridep", "gpu": "a100"},
        "experts.dispatcher: 'hybridep' has no published measurement on ampere GPUs. Choose "
        "from: all_to_all, all_gather.",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
@pytest.mark.slow
def test_a_combination_that_cannot_run_is_one_message(changes, message):
    with pytest.raises(InputError) as caught:
        lower(scenario(**changes))
    assert str(caught.value).removeprefix("tiny.yaml: ") == message


@pytest.mark.slow
def test_a_refused_combination_is_exit_status_2(capsys):
    assert _main(["run", "h800-2048", "--set", "communication.data.algorithm=tree"]) == 2
    assert "Choose from: ring, " in capsys.readouterr().err


# The command


@pytest.mark.parametrize("op", ["dispatch", "combine"])
@pytest.mark.parametrize("name", [*DISPATCHERS, "hierarchical", "flat", "low_latency"])
@pytest.mark.slow
def test_the_command_times_every_dispatcher_by_each_of_its_names(op, name, capsys):
    words = ["collective", "h800-2048", "--op", op, "--tokens", "128", "--ranks", "16"]
    assert _main([*words, "--algorithm", name]) == 0
    text = capsys.readouterr().out
    assert name in text
    assert "busbw counts what crosses the link" in " ".join(text.split())


def test_a_sum_of_a_tensor_group_is_one_all_reduce_which_hopper_runs_in_its_switches():
    # 8 H800 of a node; a transfer counts both passes of an all-reduce of 512 MB.
    one = dense(
        node__gpus=8, node__nics=8, layout__tp=8, layout__pp=1, layout__sequence_parallel=False
    )
    plan = Communication.of(one).plan(CoflowKind.TENSOR, range(8), 1.024e9)
    assert (plan.op, plan.algorithm) == ("all_reduce", "nvls")
    asked = plan.demand(range(8), 1.024e9)
    # Each direction of a link carries the buffer and an eighth of it.
    assert asked.bytes == pytest.approx(np.full(16, 512e6 * 9 / 8))


def test_an_algorithm_without_all_reduces_sums_by_passes(monkeypatch):
    ring = ALGORITHMS["ring"]
    passes = {op: ring.ops[op] for op in ("all_gather", "reduce_scatter")}
    monkeypatch.setitem(ALGORITHMS, "ring", replace(ring, ops=passes))
    one = scenario(communication__tensor={"algorithm": "ring"}, layout__sequence_parallel=False)
    plan = Communication.of(one).plan(CoflowKind.TENSOR, range(4), 1e9)
    assert (plan.op, plan.buffer, plan.kernel.own_part) == ("all_gather", 1.0, 0.0)


@pytest.mark.parametrize("name", data_names("stacks"))
def test_a_run_takes_the_dispatcher_of_its_stack(name):
    # DeepSeek wrote DeepEP; the others take an all-to-all unless they are told otherwise.
    own = "deepep" if name == "deepseek" else "all_to_all"
    one = scenario(stack=name, experts__dispatcher="stack")
    assert dispatcher_of(one) is DISPATCHERS[own]
    assert ExpertsConfig().dispatcher == "stack"


@pytest.mark.slow
def test_deepep_is_no_default_where_it_does_not_run():
    with pytest.raises(InputError, match="'deepep' has no published measurement on ampere GPUs"):
        lower(scenario(stack="deepseek", gpu="a100"))
    one = scenario(stack="deepseek", gpu="a100", experts__dispatcher="stack")
    assert dispatcher_of(one).name == "all_to_all"
    assert sms_of(one) == DISPATCHERS["all_to_all"].sms
    same = scenario(stack="deepseek", gpu="a100", experts__dispatcher="all_to_all")
    assert simulated(one).step_time == simulated(same).step_time

"""Every row of the table of algorithms: closed forms, both views, laws; the pair-by-pair executor against oracles."""

import itertools
import math

import numpy as np
import pytest
from calibration import AMPERE, HOPPER
from test_collectives import LEAF, NVLINK, cluster
from test_topology_families import CASES, routed, small  # noqa: F401 - small is a fixture
from test_topology_families import cluster as family

from simulator.collectives import (
    ALGORITHMS,
    BUS_FACTORS,
    Kernels,
    Round,
    Rounds,
    choices,
    chosen,
    demand,
    of_nccl,
    of_op,
    open_to,
    resolve,
    unit,
)
from simulator.collectives.paths import FABRIC, SWITCH, Ways, ways
from simulator.collectives.resolve import drain
from simulator.collectives.tree import both, levels, parents
from simulator.errors import InputError, LayoutError
from simulator.fairshare import max_min
from simulator.hardware import CommunicationModel
from simulator.topology import TopologyConfig, network

IDEAL = CommunicationModel(nic=1.0, nvlink=1.0, source="made up: line rate")
TABLE = [(op, name) for name, row in ALGORITHMS.items() for op in row.ops]
every_algorithm = pytest.mark.parametrize(("op", "name"), TABLE)
GB = 1e9
B_NVLINK, B_NIC = 200 * GB, 50 * GB

# Two views. Where rounds follow one another on different links, the coflow lets them overlap and
# ends earlier.
APART = {"halving_doubling", "hierarchical_ring", "hierarchical", "bruck"}


def rounds(net, op, name, members, size=GB):
    return ALGORITHMS[name].ops[op](net, members, size)


def possible(net, op, name, members):
    try:
        return rounds(net, op, name, members)
    except LayoutError:
        return None


# Closed forms


def one_node(n):
    """Return op, algorithm -> (bytes over the busiest link / S, latencies), for n GPUs of one node, n = 2, 4, 8."""
    ring, log = (n - 1) / n, math.log2(n)
    passes = {
        "ring": (ring, n - 1),
        "halving_doubling": (ring, log),
        "hierarchical_ring": (ring, n - 1),
    }
    return {
        # A chain inside the node: its inner GPUs pass the sum on and the result back. Switches
        # halve the latency.
        "all_reduce": {
            **{name: (2 * share, 2 * count) for name, (share, count) in passes.items()},
            "tree": (1.0 if n == 2 else 2.0, 2 * (n - 1)),
            "nvls": (1 + 1 / n, 2),
        },
        "reduce_scatter": {**passes, "nvls": (1.0, 1)},
        "all_gather": {**passes, "nvls": (1.0, 1)},
        "broadcast": {"ring": (1.0, n - 1), "tree": (1.0, n - 1)},
        "all_to_all": {
            "pairwise": (ring, 1),
            "hierarchical": (ring, 1),
            "bruck": (log / 2, log),
        },
        "send_recv": {"direct": (1.0, 1)},
    }


@every_algorithm
@pytest.mark.parametrize("n", [2, 4, 8])
def test_on_one_node_every_algorithm_has_its_closed_form(op, name, n):
    net = cluster(nodes=1, gpus=8, kind="single_node")
    if name in ("nvls_tree", "sharp", "pat"):
        assert possible(net, op, name, range(n)) is None
        return
    share, count = one_node(n)[op][name]
    seconds = resolve(net, rounds(net, op, name, range(n)), IDEAL)
    assert seconds == pytest.approx(share * GB / B_NVLINK + count * NVLINK, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_across_nodes_of_one_gpu_rings_have_the_same_form_on_the_nic(n):
    # One leaf: 2(n-1)/n S/B + 2(n-1) latencies, with the NIC's rate.
    net = cluster(nodes=n, gpus=1, ports=16)
    seconds = resolve(net, rounds(net, "all_reduce", "ring", range(n)), IDEAL)
    assert seconds == pytest.approx(2 * (n - 1) / n * GB / B_NIC + 2 * (n - 1) * LEAF, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 13])
def test_across_nodes_double_trees_carry_twice_the_buffer_in_logarithmic_rounds(n):
    # Up and down, half of the buffer in each tree: an inner node sends S/2 up and twice S/2 down,
    # and as a leaf of the other tree S/2 up. With two nodes each is the root of one tree: S/2 up,
    # S/2 down.
    net = cluster(nodes=n, gpus=1, ports=32)
    seconds = resolve(net, rounds(net, "all_reduce", "tree", range(n)), IDEAL)
    busiest = {2: 1.0, 3: 1.5}.get(n, 2.0)
    assert seconds == pytest.approx(
        busiest * GB / B_NIC + 2 * math.ceil(math.log2(n)) * LEAF, rel=1e-9
    )


def test_a_ring_per_rail_uses_every_nic():
    # 2 nodes of 4 GPUs on one leaf: 4 rings of 8 ranks, each crossing twice on its own rail. Each
    # NIC carries one of the 8 hops of one ring: 2 x 7/8 x S/4. The hop to the next node is handed
    # to its rail's GPU over NVLink, so each GPU sends all 4 rings' 2 x 7/8 x S/4 but one's, and
    # hands one on: 2 x 7/8 x S at 200 GB/s; NICs take as long.
    net = cluster(nodes=2, gpus=4, ports=16)
    plan = demand(net, rounds(net, "all_reduce", "ring", range(8)))
    table = dict(zip(plan.links.tolist(), plan.bytes.tolist(), strict=True))
    assert [table[link] for link in net.nic_up.tolist()] == pytest.approx([2 * 7 / 8 / 4 * GB] * 8)
    assert [table[link] for link in net.gpu_up.tolist()] == pytest.approx([2 * 7 / 8 * GB] * 8)


@pytest.mark.parametrize("nodes", [2, 4])
def test_switches_that_add_take_the_nodes_share_over_each_nic_once(nodes):
    # Nodes of 4: S/4 each way over every NIC; NVLink S + S/4 each way. However many nodes there are.
    net = cluster(nodes=nodes, gpus=4, ports=16)
    plan = demand(net, rounds(net, "all_reduce", "sharp", range(4 * nodes)))
    table = dict(zip(plan.links.tolist(), plan.bytes.tolist(), strict=True))
    for links, each in (
        (net.nic_up, 0.25),
        (net.nic_down, 0.25),
        (net.gpu_up, 1.25),
        (net.gpu_down, 1.25),
    ):
        assert [table[link] for link in links.tolist()] == pytest.approx([each * GB] * 4 * nodes)


@pytest.mark.parametrize("n", range(1, 40))
def test_both_trees_span_all_nodes_and_no_node_works_twice_in_both(n):
    first, second = both(n)
    for tree in (first, second):
        assert tree.count(-1) == 1
        assert sum(len(level) for level in levels(tree)) == n - 1
        assert len(levels(tree)) == math.ceil(math.log2(n))
        assert max((tree.count(place) for place in range(n)), default=0) <= 2
    inner = [set(tree) - {-1} for tree in (first, second)]
    assert n < 3 or len(inner[0] & inner[1]) <= 1


def test_a_tree_of_six_reads_as_it_is_drawn():
    #        0
    #        4
    #     2     5
    #   1   3
    assert parents(6) == [-1, 2, 4, 2, 0, 4]


def test_the_second_tree_is_the_mirror_of_an_even_one_and_an_odd_one_shifted_by_a_node():
    # NCCL's ncclGetDtree. Of four nodes: 0 above 2 above 1 and 3; from the other end 3 above 1 above
    # 2 and 0. Of five: 0 above 4 above 2 above 1 and 3; a node further 1 above 0 above 3 above 2 and 4.
    assert both(4) == ([-1, 2, 0, 2], [1, 3, 1, -1])
    assert both(5) == ([-1, 2, 4, 2, 0], [1, -1, 3, 0, 3])


# Both views


CLUSTERS = {
    "one node": (dict(nodes=1, gpus=8, kind="single_node"), 8),
    "one leaf": (dict(nodes=4, gpus=2, ports=16), 8),
    "two leaves": (dict(nodes=4, gpus=2, ports=4), 8),
    "single GPUs": (dict(nodes=8, gpus=1, ports=8), 8),
    "shared NICs": (dict(nodes=2, gpus=4, nics=2, ports=16), 8),
}


@every_algorithm
@pytest.mark.parametrize("where", CLUSTERS)
def test_a_coflow_takes_as_long_as_its_pairs_where_nothing_else_runs(op, name, where):
    shape, ranks = CLUSTERS[where]
    net = cluster(**shape)
    plan = possible(net, op, name, range(ranks))
    if plan is None:
        assert name in ("nvls", "nvls_tree", "sharp", "pat")
        return
    coflow, pairs = demand(net, plan).seconds(net, IDEAL), resolve(net, plan, IDEAL)
    assert coflow <= pairs * (1 + 1e-9)
    if name not in APART or where in ("one node", "single GPUs"):
        assert coflow == pytest.approx(pairs, rel=1e-9)


def test_phases_of_a_hierarchical_collective_overlap_in_a_step_only():
    # 4 nodes of 2: 2 x 1/2 S over NVLink, then 2 x 3/8 S over the NIC. A step buckets gradients, so
    # that the phases of neighbouring buckets overlap: the coflow takes the longer one. Alone, one
    # follows the other.
    net = cluster(nodes=4, gpus=2, ports=16)
    plan = rounds(net, "all_reduce", "hierarchical_ring", range(8))
    delay = 2 * NVLINK + 6 * LEAF
    assert demand(net, plan).seconds(net, IDEAL) == pytest.approx(0.75 * GB / B_NIC + delay)
    assert resolve(net, plan, IDEAL) == pytest.approx(GB / B_NVLINK + 0.75 * GB / B_NIC + delay)


def test_a_step_lowers_the_hierarchical_rows_of_the_table():
    net = cluster()
    one, other = (
        unit(net, "hierarchical_ring", "all_gather", range(8)),
        demand(net, rounds(net, "all_gather", "hierarchical_ring", range(8), 1.0)),
    )
    assert (one.links.tolist(), one.bytes.tolist(), one.latency) == (
        other.links.tolist(),
        other.bytes.tolist(),
        other.latency,
    )


# Laws over the table


@every_algorithm
@pytest.mark.parametrize("where", CLUSTERS)
@pytest.mark.slow
def test_time_is_affine_in_the_size(op, name, where):
    shape, ranks = CLUSTERS[where]
    net = cluster(**shape)
    if possible(net, op, name, range(ranks)) is None:
        return
    times = [
        resolve(net, rounds(net, op, name, range(ranks), size), IDEAL)
        for size in (GB, 2 * GB, 4 * GB)
    ]
    assert times[2] - times[1] == pytest.approx(2 * (times[1] - times[0]), rel=1e-9)


@every_algorithm
def test_no_algorithm_beats_the_busiest_port(op, name):
    # busbw is made to be at most the rate of a port in one direction, but for switches that add.
    if name in ("nvls", "nvls_tree", "sharp", "pat"):
        return
    net = cluster(nodes=1, gpus=8, kind="single_node")
    seconds = resolve(net, rounds(net, op, name, range(8)), IDEAL)
    assert GB / seconds * BUS_FACTORS[op](8) <= B_NVLINK


@every_algorithm
def test_everything_k_times_as_fast_takes_a_kth(op, name):
    def at(k):
        net = network(
            TopologyConfig(
                name="k",
                gpu="h800",
                nodes=4,
                price="2 USD per GPU-hour",
                node={
                    "gpus": 2,
                    "nvlink": f"{400 * k} GB/s bidirectional",
                    "nics": 2,
                    "nic": f"{50 * k} GB/s per direction",
                    "nvlink_latency": f"{3 / k} us",
                },
                fabric={"kind": "rail_optimised", "switch_ports": 16, "latency": f"{4 / k} us"},
            )
        )
        plan = possible(net, op, name, range(8))
        return None if plan is None else resolve(net, plan, IDEAL)

    if at(1) is not None:
        assert at(4) == pytest.approx(at(1) / 4, rel=1e-9)


@every_algorithm
def test_one_rank_alone_takes_no_time(op, name):
    net = cluster()
    plan = possible(net, op, name, [3])
    assert plan is None or resolve(net, plan, IDEAL) == 0.0


@every_algorithm
def test_only_the_named_ranks_send(op, name):
    net = cluster(nodes=8, gpus=2, ports=16)
    members = [4, 5, 8, 9]
    plan = possible(net, op, name, members)
    for step in plan.rounds if plan else ():
        assert set(step.src.tolist()) | set(step.dst.tolist()) <= {*members, SWITCH, FABRIC}


def test_members_that_lie_unevenly_take_a_ring_or_pairs():
    net = cluster(nodes=4, gpus=2)
    fits = {(op, name) for op, name in TABLE if possible(net, op, name, [0, 1, 2])}
    assert fits == {
        *((op, "ring") for op in ("all_reduce", "reduce_scatter", "all_gather", "broadcast")),
        ("all_to_all", "pairwise"),
        ("all_to_all", "bruck"),
        ("send_recv", "direct"),
    }


# Ways


def check_ways(net):
    """Compare the ways of all pairs at once with those of each pair."""
    ranks = range(min(24, len(net.gpu_up)))
    src, dst = (np.array(each) for each in zip(*itertools.product(ranks, ranks), strict=True))
    way = ways(net, src, dst)
    assert (np.diff(way.pair) >= 0).all()
    for pair, (one, other) in enumerate(zip(src.tolist(), dst.tolist(), strict=True)):
        mine = way.pair == pair
        assert (
            dict(zip(way.link[mine].tolist(), way.share[mine].tolist(), strict=True))
            == net.spread(one, other)[0]
        )
    longest = max(net.route(one, other)[1] for one, other in itertools.product(ranks, ranks))
    assert way.latency(len(src), net.latency) == pytest.approx(longest)


@pytest.mark.parametrize(("kind", "number"), CASES)
@pytest.mark.slow
def test_ways_of_many_pairs_are_those_of_each(kind, number, small):  # noqa: F811
    for routing in routed(kind):
        check_ways(network(small(kind, number, routing=routing)))


@pytest.mark.parametrize("routing", ["adaptive", "rail_local"])
@pytest.mark.parametrize(
    "fault", [{"nic": [1, 0], "down": True}, {"link": "leaf0.0 - spine0", "down": True}]
)
def test_ways_lead_around_what_is_broken(routing, fault):
    check_ways(network(family("rail_optimised", ports=4, routing=routing, faults=[fault])))


def test_a_switch_is_met_over_ones_own_link():
    net = cluster()
    way = ways(net, np.array([3, SWITCH, 3, FABRIC]), np.array([SWITCH, 3, FABRIC, 3]))
    assert way.link.tolist() == [net.gpu_up[3], net.gpu_down[3], net.nic_up[3], net.nic_down[3]]


# The executor


def test_pairs_of_unlike_sizes_share_a_nic_until_the_shorter_ends():
    # GPUs 0 and 1 send 1 and 3 GB over one NIC of 50 GB/s: 25 each, at 40 ms the first has ended,
    # the other has 2 GB left at 50 GB/s: 80 ms together. The same bytes over the same link: the
    # coflow agrees.
    net = cluster(nodes=2, gpus=2, nics=1)
    plan = Rounds((Round(np.array([0, 1]), np.array([2, 3]), np.array([1.0, 3.0]) * GB),))
    assert resolve(net, plan, IDEAL) - net.route(0, 2)[1] == pytest.approx(0.08)


def test_a_pair_held_up_elsewhere_leaves_room_that_comes_too_late():
    # NICs of 50 GB/s. 0 sends 2 GB to 2 and 2 GB to 4; 1 (another node, same rail) sends 6 GB to 4.
    # Node 4 takes in 8 GB: 160 ms. Its two senders have 25 each; 0's other pair has 25 too. At 80
    # ms both of 0's have ended, 4 GB of 1's are left at 50 GB/s: 160 ms. Now let 0 -> 4 be 4 GB: 0
    # sends 6 GB, 4 takes 10 GB in 200 ms either way.
    net = cluster(nodes=6, gpus=1, ports=16)
    for size, ends in ((2.0, 0.16), (4.0, 0.2)):
        plan = Rounds(
            (Round(np.array([0, 0, 1]), np.array([2, 4, 4]), np.array([2.0, size, 6.0]) * GB),)
        )
        assert resolve(net, plan, IDEAL) - LEAF == pytest.approx(ends)


def naive(capacity, way, size):
    """Return the last end, flow by flow, without merging any."""
    left, clock = size.copy(), 0.0
    while (alive := left > 1e-9 * size).any():
        keep = alive[way.pair]
        ptr = np.concatenate(
            [[0], np.cumsum(np.bincount(way.pair[keep], minlength=len(size))[alive])]
        )
        rate = max_min(
            capacity, ptr, way.link[keep], way.share[keep], np.full(int(alive.sum()), np.inf)
        )
        step = (left[alive] / rate).min()
        clock, left[alive] = clock + step, left[alive] - step * rate
    return clock


@pytest.mark.parametrize("seed", range(60))
def test_merging_like_flows_changes_nothing(seed):
    # Few links, few sizes and few capacities, so that many flows are alike, or nearly so.
    rng = np.random.default_rng(seed)
    links, flows = rng.integers(2, 7), rng.integers(1, 25)
    capacity = rng.choice([1.0, 2.0], links)
    each = [
        np.sort(rng.choice(links, rng.integers(1, min(3, links) + 1), replace=False))
        for _ in range(flows)
    ]
    pair = np.repeat(np.arange(flows), [len(some) for some in each])
    way = Ways(pair, np.concatenate(each), rng.choice([0.5, 1.0], len(pair)))
    size = rng.choice([1.0, 3.0], flows)
    assert drain(capacity, way, size) == pytest.approx(naive(capacity, way, size), rel=1e-9)


# NCCL's choice


def taken(gpus, kernels, op, size, ranks=8):
    net = (
        cluster(nodes=max(1, ranks // 8), gpus=gpus, ports=64)
        if ranks > 8
        else cluster(1, gpus, kind="single_node")
    )
    found = choices(net, range(ranks), kernels, op, open_to(op, None))
    best = chosen(found, size)
    assert all(best.estimate(size) <= other.estimate(size) for other in found)
    return best.algorithm, best.protocol


def test_hopper_reduces_in_its_switches_and_ampere_in_rings():
    hopper, ampere = Kernels.of(HOPPER.kernels), Kernels.of(AMPERE.kernels)
    assert taken(8, hopper, "all_reduce", GB) == ("nvls", "Simple")
    assert taken(8, ampere, "all_reduce", GB) == ("ring", "Simple")
    assert taken(8, ampere, "all_reduce", 8 * 2**20) == ("ring", "LL128")
    assert taken(8, ampere, "all_reduce", 2**10) == ("ring", "LL")
    assert taken(8, hopper, "all_gather", GB) == ("ring", "Simple")
    assert taken(8, hopper, "all_reduce", 2**16, ranks=64) == ("tree", "LL")
    assert taken(8, hopper, "all_reduce", GB, ranks=64) == ("nvls_tree", "Simple")


def test_every_op_has_candidates_from_its_own_table():
    assert set(BUS_FACTORS) == {op for op, _ in TABLE}
    for op in BUS_FACTORS:
        assert of_nccl(op)
        assert set(of_nccl(op)) <= set(of_op(op))


def test_a_switch_that_cannot_add_is_said_to_be_missing():
    net = cluster(nodes=1, gpus=8, kind="single_node")
    table = open_to("all_reduce", "nvls")
    with pytest.raises(InputError) as caught:
        choices(net, range(8), Kernels.of(AMPERE.kernels), "all_reduce", table)
    assert str(caught.value) == (
        "--algorithm: 'nvls' adds in the NVSwitch, which this GPU's kernel table does not know. Choose ring."
    )


@pytest.mark.parametrize("name", ["ring", "tree"])
@pytest.mark.parametrize(("nodes", "gpus"), [(1, 4), (2, 1), (2, 2), (2, 4), (4, 2)])
def test_a_broadcast_brings_every_rank_the_whole_buffer_once(name, nodes, gpus):
    # The root needs none of it, and nobody gets a byte twice.
    net = cluster(nodes=nodes, gpus=gpus, ports=16)
    came = np.zeros(nodes * gpus)
    for step in rounds(net, "broadcast", name, range(nodes * gpus)).rounds:
        np.add.at(came, step.dst, step.bytes * step.repeat)
    assert came[1:] == pytest.approx(np.full(nodes * gpus - 1, GB))

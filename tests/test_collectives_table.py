"""Laws over the whole table of algorithms: what must arrive does, and no port is asked for less than it must carry."""

import numpy as np
import pytest
from test_collectives import cluster

from simulator.collectives import ALGORITHMS, bruck, demand
from simulator.collectives.paths import FABRIC, SWITCH
from simulator.errors import LayoutError

TABLE = [(op, name) for name, row in ALGORITHMS.items() for op in row.ops]
every_algorithm = pytest.mark.parametrize(("op", "name"), TABLE)
CLUSTERS = {
    "one node": ({"nodes": 1, "gpus": 4, "ports": 8, "kind": "single_node"}, range(4)),
    "two leaves": ({"nodes": 4, "gpus": 2, "ports": 4}, range(8)),
    "a part of it": ({"nodes": 4, "gpus": 4, "ports": 16}, [4, 5, 8, 9]),
    "three nodes": ({"nodes": 3, "gpus": 2, "ports": 16}, range(6)),
    "single GPUs": ({"nodes": 5, "gpus": 1, "ports": 16}, range(5)),
}
everywhere = pytest.mark.parametrize("where", CLUSTERS)
IN_SWITCHES = ("nvls", "nvls_tree", "sharp")


def rounds(op, name, where):
    """Return a cluster, the members and the rounds of one byte, None where the algorithm is refused."""
    shape, members = CLUSTERS[where]
    net = cluster(**shape)
    try:
        return net, list(members), ALGORITHMS[name].ops[op](net, members, 1.0)
    except LayoutError:
        return net, list(members), None


def met(net, step):
    """Return where each pair of a round begins and ends, with an index of its own for each switch."""
    gpus, nodes = len(net.gpu_up), len(net.gpu_up) // net.gpus_per_node

    def index(here, there):
        # A switch adds up in the node of the other end; the fabric does on that end's rail.
        in_node = gpus + there // net.gpus_per_node
        on_rail = gpus + nodes + there % net.gpus_per_node
        return np.where(here == SWITCH, in_node, np.where(here == FABRIC, on_rail, here))

    return index(step.src, step.dst), index(step.dst, step.src)


@every_algorithm
@everywhere
def test_what_a_member_must_receive_can_have_reached_it(op, name, where):
    # Whoever sends may hand on all that it knows. After the last round everybody must know of all
    # whose data it needs: everybody's, of a broadcast the root's, of send_recv the one's before it.
    net, members, plan = rounds(op, name, where)
    if plan is None:
        return
    size = len(net.gpu_up) + len(net.gpu_up) // net.gpus_per_node + net.gpus_per_node
    knows = np.eye(size, dtype=bool)  # [who, of whom]
    for step in plan.rounds:
        src, dst = met(net, step)
        for _ in range(step.repeat):
            before = knows.copy()
            for one, other in zip(src.tolist(), dst.tolist(), strict=True):
                knows[other] |= before[one]
    needed = np.ones((len(members), len(members)), dtype=bool)  # [member, of member]
    if op == "broadcast":
        needed[:, 1:] = False
    if op == "send_recv":
        needed = np.roll(np.eye(len(members), dtype=bool), -1, axis=1)
    assert knows[np.ix_(members, members)][needed].all()


@every_algorithm
@everywhere
def test_bytes_are_what_the_op_needs_or_more(op, name, where):
    # Of one byte over n members, each receives at least: (n-1)/n of a gather and of an exchange,
    # all of a broadcast but its root's, the neighbour's buffer, its own part of a scatter. Sums
    # that switches do not add need each (n-1)/n of the buffer once more, together.
    net, members, plan = rounds(op, name, where)
    if plan is None:
        return
    n = len(members)
    received = np.zeros(len(net.gpu_up))
    for step in plan.rounds:
        ends = step.dst >= 0
        np.add.at(received, step.dst[ends], step.bytes[ends] * step.repeat)
    each = received[members]
    least = {
        "all_gather": (n - 1) / n,
        "all_to_all": (n - 1) / n,
        "reduce_scatter": 1 / n if name in IN_SWITCHES else (n - 1) / n,
        "all_reduce": (n - 1) / n,
        "send_recv": 1.0,
    }
    if op == "broadcast":
        assert each[1:] == pytest.approx(1.0)
    else:
        assert (each >= least[op] - 1e-12).all()
    if op == "all_reduce" and name not in IN_SWITCHES:
        assert each.sum() == pytest.approx(2 * (n - 1))
    if op in ("all_gather", "reduce_scatter") and name not in IN_SWITCHES:
        assert each.sum() == pytest.approx(n - 1)


@every_algorithm
@everywhere
def test_a_coflow_carries_over_each_gpus_links_what_its_pairs_send(op, name, where):
    net, _, plan = rounds(op, name, where)
    if plan is None:
        return
    asked = demand(net, plan)
    out = {*net.gpu_up.tolist(), *net.nic_up.tolist()}
    carried = sum(
        size
        for link, size in zip(asked.links.tolist(), asked.bytes.tolist(), strict=True)
        if link in out
    )
    sent = sum(step.bytes[step.src >= 0].sum() * step.repeat for step in plan.rounds)
    assert carried >= sent - 1e-12  # more where NVLink hands on to another rail


@every_algorithm
def test_every_algorithm_reaches_a_share_of_the_rate_and_has_kernels(op, name):
    row = ALGORITHMS[name]
    assert 0 < row.rate <= 1
    assert row.kernels
    assert set(row.nccl) <= set(row.ops)


# Bruck


def moved(count):
    """Return after Bruck's rounds the blocks that each rank holds, and how many each sends per round."""
    held = [{(rank, target) for target in range(count)} for rank in range(count)]
    sent = []
    for bit in range((count - 1).bit_length()):
        leaving = [
            {block for block in held[rank] if (block[1] - block[0]) % count >> bit & 1}
            for rank in range(count)
        ]
        sent.append({len(blocks) for blocks in leaving})
        for rank in range(count):
            held[rank] -= leaving[rank]
        for rank in range(count):
            held[(rank + 2**bit) % count] |= leaving[rank]
    return held, sent


@pytest.mark.parametrize("count", range(1, 34))
def test_brucks_rounds_bring_every_block_to_its_rank(count):
    held, sent = moved(count)
    for rank in range(count):
        assert held[rank] == {(source, rank) for source in range(count)}
    assert sent == [{bruck.handed_on(count, bit)} for bit in range(len(sent))]


@pytest.mark.parametrize(
    ("count", "blocks"),
    [
        # Distances 1 and 3 have bit 0, 2 and 3 have bit 1.
        (4, [2, 2]),
        # 1 and 3; 2 and 3; 4.
        (5, [2, 2, 1]),
        (8, [4, 4, 4]),
    ],
)
def test_brucks_rounds_by_hand(count, blocks):
    net = cluster(nodes=1, gpus=8, ports=16, kind="single_node")
    plan = bruck.all_to_all(net, range(count), float(count))  # blocks of one byte
    assert len(plan.rounds) == len(blocks)
    for bit, (step, sent) in enumerate(zip(plan.rounds, blocks, strict=True)):
        assert step.src.tolist() == list(range(count))
        assert step.dst.tolist() == [(rank + 2**bit) % count for rank in range(count)]
        assert step.bytes.tolist() == [sent] * count

"""PCIe slots between GPUs and NICs: literal times, counts, and nothing where the file says nothing of them."""

import itertools

import numpy as np
import pytest
from builders import dense, scenario, simulated
from fabrics import cluster

from simulator.collectives import BUS_FACTORS, Round, Rounds, cost, of_op, resolve
from simulator.collectives.paths import FABRIC, ways
from simulator.engine import run
from simulator.errors import InputError
from simulator.hardware import CommunicationModel
from simulator.inputs import Document, validate
from simulator.program import lower
from simulator.report import summarise
from simulator.topology import TopologyConfig, as_graph, describe, network

IDEAL = CommunicationModel(nic=1.0, nvlink=1.0, nvlink_latency=0.0, source="none")
GEN4 = "25 GB/s per direction"  # what a Gen4 x16 slot carries


def site(
    pcie: str | None = GEN4, nodes=2, gpus=2, nics=2, kind="rail_optimised", **changes: object
) -> TopologyConfig:
    """Return nodes of NVLink 450 GB/s, NICs of 50 GB/s behind a slot, all under one leaf per rail."""
    tree = (
        cluster(kind, nodes, gpus, 8, nics).model_dump(mode="json", exclude={"faults", "prices"})
        | changes
    )
    node = {
        "gpus": gpus,
        "nvlink": "900 GB/s bidirectional",
        "nics": nics,
        "nic": "50 GB/s per direction",
    }
    tree["node"] = node | ({"pcie": pcie} if pcie else {})
    tree["fabric"] = {
        "kind": kind,
        "switch_ports": 8,
        "latency": "0 us",
    }
    tree["price"] = "2 USD per GPU-hour"
    return validate(Document("mine.yaml", tree, {}), TopologyConfig)


def sends(*pairs: tuple[int, int]) -> Rounds:
    """Return 1 GB for each pair, all at once."""
    src, dst = np.array(pairs, dtype=np.int64).T
    return Rounds((Round(src, dst, np.full(len(pairs), 1e9)),))


def test_a_gen4_slot_in_front_of_a_400g_nic_halves_a_send():
    # 1 GB over 50 GB/s takes 20 ms, over a slot of 25 GB/s 40 ms.
    assert resolve(network(site(None)), sends((0, 2)), IDEAL) == pytest.approx(20e-3)
    assert resolve(network(site()), sends((0, 2)), IDEAL) == pytest.approx(40e-3)


def test_a_slot_wider_than_the_nic_changes_nothing():
    for pairs in [((0, 2),), ((0, 2), (1, 3)), ((0, 3), (3, 0))]:
        wide = resolve(network(site("64 GB/s per direction")), sends(*pairs), IDEAL)
        assert wide == resolve(network(site(None)), sends(*pairs), IDEAL)


def test_two_gpus_that_share_a_nic_share_its_slot():
    # Each GPU has a slot of 32 GB/s and so has the NIC: 2 GB over 32 GB/s are 62.5 ms, over the NIC
    # alone 40 ms; one GPU alone sends 1 GB in 31.25 ms.
    shared = {"nics": 1}
    net = network(site("32 GB/s per direction", **shared))
    assert resolve(net, sends((0, 2), (1, 3)), IDEAL) == pytest.approx(62.5e-3)
    assert resolve(net, sends((0, 2)), IDEAL) == pytest.approx(31.25e-3)
    assert resolve(network(site(None, **shared)), sends((0, 2), (1, 3)), IDEAL) == pytest.approx(
        40e-3
    )


def test_both_directions_of_a_slot_are_free_of_each_other():
    # 0 sends and receives 1 GB at the same time.
    assert resolve(network(site()), sends((0, 2), (2, 0)), IDEAL) == pytest.approx(40e-3)


def test_traffic_inside_a_node_crosses_no_slot():
    # 1 GB over NVLink's 450 GB/s.
    assert resolve(network(site()), sends((0, 1)), IDEAL) == pytest.approx(1 / 450)


def test_forwarded_traffic_crosses_the_slot_of_the_gpu_that_forwards():
    net = network(site())
    assert [net.name[link] for link in net.route(0, 3)[0]] == [
        "gpu0.0->nvswitch0",
        "nvswitch0->gpu0.1",
        "gpu0.1->pcie0.1",
        "pcie0.1->nic0.1",
        "nic0.1->leaf1.0",
        "leaf1.0->nic1.1",
        "nic1.1->pcie1.1",
        "pcie1.1->gpu1.1",
    ]
    assert (
        net.route(0, 3)[1] == network(site(None)).route(0, 3)[1]
    )  # the NIC's latency holds it already


@pytest.mark.parametrize("nics", [1, 2, 4])
@pytest.mark.parametrize("kind", ["rail_optimised", "fat_tree_2", "multi_plane"])
def test_all_pairs_at_once_go_the_way_of_each(kind, nics):
    net = network(site(nodes=3, gpus=4, nics=nics, kind=kind))
    pairs = np.array(
        [pair for pair in itertools.product(range(12), repeat=2) if pair[0] != pair[1]]
    )
    found = ways(net, pairs[:, 0], pairs[:, 1])
    for number, (src, dst) in enumerate(pairs.tolist()):
        assert (
            dict.fromkeys(found.link[found.pair == number].tolist(), 1.0) == net.spread(src, dst)[0]
        )


def test_reductions_in_the_switches_of_the_fabric_cross_the_slots_too():
    net = network(site())
    way = ways(net, np.array([1, FABRIC]), np.array([FABRIC, 1]))
    assert {net.name[link] for link in way.link[way.pair == 0]} == {
        "nic0.1->leaf1.0",
        "gpu0.1->pcie0.1",
        "pcie0.1->nic0.1",
    }
    assert {net.name[link] for link in way.link[way.pair == 1]} == {
        "leaf1.0->nic0.1",
        "nic0.1->pcie0.1",
        "pcie0.1->gpu0.1",
    }


@pytest.mark.parametrize("op", BUS_FACTORS)
def test_every_collective_across_nodes_is_as_slow_as_its_slots(op):
    # All that leaves a node crosses a slot of half the NIC's rate, so that it takes as long as with
    # NICs of half.
    slow = site(None)
    slow = slow.model_copy(update={"node": slow.node.model_copy(update={"nic": 25e9})})
    for name, algorithm in of_op(op).items():
        if name == "nvls":  # stays inside a node
            continue
        members = range(0, 4, 2) if name == "pat" else range(4)  # which takes one GPU of each node
        took = [
            cost(net, algorithm.ops[op](net, members, 1e9), IDEAL).transfer
            for net in (network(site()), network(slow))
        ]
        assert took[0] == pytest.approx(took[1]), name


def test_without_the_key_there_is_no_pcie_link():
    net = network(site(None))
    assert "pcie" not in net.kind
    assert (net.pcie < 0).all()
    assert (net.slot < 0).all()
    with_slots = network(site())
    assert with_slots.name[: len(net.name)] == net.name  # every other link keeps its number


def test_the_graph_and_its_figures_count_pcie_switches():
    # 2 nodes, 4 GPUs and 2 NICs each: 2 PCIe switches a node, each with 2 GPUs and a NIC.
    config = site(gpus=4, nics=2)
    graph = as_graph(config)
    assert len([vertex for vertex in graph if vertex[0] == "pcie"]) == 4
    kinds = [edge["kind"] for _, _, edge in graph.edges(data=True)]
    assert kinds.count("pcie") == network(config).kind.count("pcie") == 2 * (8 + 4)
    assert graph.edges[("pcie", 1, 1), ("nic", 1, 1)]["bandwidth"] == 25e9
    figures = describe(config)
    assert figures["pcie_switches"] == 4
    assert describe(site(None))["pcie_switches"] == 0
    # Half of 4 NICs, each behind a slot of 25 GB/s.
    assert (figures["bisection_bandwidth"], figures["bisection_note"]) == (
        50e9,
        "of the NICs' PCIe slots",
    )
    # GPU, NVSwitch, GPU, PCIe switch, NIC, leaf and back to the GPU: 5 + 3 links.
    assert figures["diameter_gpu_links"] == 8


@pytest.mark.parametrize("value", ["25 GB/s", "0 GB/s per direction"])
def test_a_slot_says_its_direction_and_carries_something(value):
    with pytest.raises(InputError, match=r"node\.pcie"):
        site(value)


# In a step


@pytest.mark.parametrize("name", ["1f1b", "dualpipe"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"node__nics": 2}, {"nodes": 4, "layout__ep": 8, "training__global_batch_size": 64}],
)
@pytest.mark.slow
def test_folding_is_exact_with_slots(name, changes):
    one = scenario(schedule__name=name, node__pcie="10 GB/s per direction", **changes)
    folded, whole = (summarise(simulated(one, folded=folded)) for folded in (True, False))
    assert folded.step_time == pytest.approx(whole.step_time, rel=1e-9)
    assert folded.utilisation == pytest.approx(whole.utilisation, rel=1e-9)
    assert folded.rank_classes < whole.rank_classes
    assert folded.utilisation["pcie"] > folded.utilisation["nic"]


@pytest.mark.slow
def test_a_step_behind_narrow_slots_takes_as_long_as_with_narrow_nics():
    for make in (scenario, dense):
        slots = run(lower(make(node__pcie="5 GB/s per direction"))).step_time
        nics = run(lower(make(node__nic="5 GB/s per direction"))).step_time
        assert slots == pytest.approx(nics, rel=1e-12)
        assert slots > run(lower(make())).step_time

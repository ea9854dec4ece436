"""One collective in many groups at once is what it is in each of them by itself, bit for bit."""

from importlib import import_module

import numpy as np
import pytest

from simulator.collectives.algorithms import ALGORITHMS
from simulator.collectives.demand import demand, summed
from simulator.collectives.replicas import _alike, _patterned, _units, units
from simulator.collectives.units import unit
from simulator.errors import LayoutError
from simulator.hardware import CommunicationModel
from simulator.topology import TopologyConfig, network

IDEAL = CommunicationModel(nic=0.9, nvlink=0.8, source="made up")
SLOW = IDEAL.model_copy(update={"nvlink_latency": 1.7, "nic_overhead": 1e-6})

GROUPS = {
    "a node each": [[0, 1, 2, 3], [4, 5, 6, 7], [12, 13, 14, 15]],
    "a rail each": [[0, 4, 8, 12], [1, 5, 9, 13], [3, 7, 11, 15]],
    "two on each of two nodes": [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [0, 2, 12, 14]],
    "out of order": [[4, 0, 8, 12], [1, 5, 9, 13]],
    "unlike": [[0, 1, 2, 3], [0, 4, 8, 12], [0, 1, 4, 8]],
}


def cluster(kind, routing="adaptive", faults=(), latency="3.7 us", leaf_latency="2.8 us"):
    config = {
        "name": "small",
        "gpu": "h800",
        "nodes": 4,
        "node": {
            "gpus": 4,
            "nvlink": "400 GB/s bidirectional",
            "nics": 4,
            "nic": "50 GB/s per direction",
        },
        "fabric": {
            "kind": kind,
            "routing": routing,
            "switch_ports": 8,
            "latency": latency,
            "leaf_latency": leaf_latency,
        },
        "price": "2 USD per GPU-hour",
        "faults": list(faults),
    }
    return network(TopologyConfig(**config))


NETWORKS = [
    cluster("rail_optimised"),
    cluster("rail_optimised", "rail_local"),
    cluster("fat_tree_2"),
    cluster("fat_tree_2", "ecmp"),
    cluster("rail_optimised", faults=[{"nic": [1, 2], "down": True}]),
]


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("lie", GROUPS)
def test_many_groups_at_once_are_each_by_itself(name, lie):
    groups = np.array(GROUPS[lie])
    for net in NETWORKS:
        for op in ALGORITHMS[name].ops:
            for kernel in (IDEAL, SLOW):
                try:
                    alone = [unit(net, name, op, row, kernel) for row in groups.tolist()]
                except LayoutError as error:
                    with pytest.raises(LayoutError) as caught:
                        units(net, name, op, groups, kernel)
                    assert str(caught.value) == str(error)
                    continue
                found = units(net, name, op, groups, kernel)
                for one, other in zip(alone, found.each(), strict=True):
                    assert one.links.tolist() == other.links.tolist()
                    assert one.bytes.tolist() == other.bytes.tolist()
                    assert one.latency == other.latency
                seconds = [one.seconds(net, kernel) for one in alone]
                assert found.seconds(net, kernel).tolist() == seconds


def test_groups_are_alike_where_their_members_share_nodes_alike():
    alike = {lie: _alike(NETWORKS[0], np.array(groups)) for lie, groups in GROUPS.items()}
    assert alike == {
        "a node each": True,
        "a rail each": True,
        "two on each of two nodes": True,
        "out of order": False,
        "unlike": False,
    }


def test_what_is_kept_of_one_cluster_answers_no_other():
    groups = np.array(GROUPS["a rail each"])
    late = cluster("rail_optimised", latency="9 us", leaf_latency="5 us")
    first = units(NETWORKS[0], "ring", "all_gather", groups, IDEAL)
    second = units(late, "ring", "all_gather", groups, IDEAL)
    assert (second.latency > first.latency).all()


@pytest.mark.parametrize("name", ["ring", "tree", "pat", "hierarchical_ring"])
def test_it_does_not_matter_how_many_pairs_are_worked_out_together(name, monkeypatch):
    # Groups of 4 ranks have rings of 4 pairs: three at a time cut rounds as well as groups.
    groups = np.array(GROUPS["a rail each"])
    net = cluster("fat_tree_2")
    op = next(iter(ALGORITHMS[name].ops))
    pattern = ALGORITHMS[name].ops[op]
    together = units(net, name, op, groups, SLOW)
    whole = demand(net, pattern(net, range(16), 1.0), SLOW) if name != "pat" else None
    _units.cache_clear()
    _patterned.cache_clear()
    for module in ("demand", "replicas"):  # the package has a function of the first name
        monkeypatch.setattr(import_module(f"simulator.collectives.{module}"), "PAIRS_AT_ONCE", 3)
    cut = units(net, name, op, groups, SLOW)
    assert cut.links.tolist() == together.links.tolist()
    assert cut.bytes.tolist() == together.bytes.tolist()
    assert cut.latency.tolist() == together.latency.tolist()
    if whole:
        again = demand(net, pattern(net, range(16), 1.0), SLOW)
        assert again.links.tolist() == whole.links.tolist()
        assert again.bytes.tolist() == whole.bytes.tolist()
        assert again.latency == whole.latency


@pytest.mark.parametrize("top", [9, 9_000_000])
def test_sums_are_the_same_with_and_without_a_sort(top):
    # Few keys far apart are sorted, others counted: 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1.
    found = summed(np.array([top, 4, top, 2, top]), np.array([0.1, 1.0, 0.2, 0.0, 0.3]))
    assert found.key.tolist() == [2, 4, top]
    assert found.total.tolist() == [0.0, 1.0, 0.1 + 0.2 + 0.3]

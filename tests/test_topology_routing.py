"""Routing modes and faults: who shares a cable with whom, and where traffic goes when something is broken."""

import pytest
from fabrics import cluster
from test_topology_families import SMALL

from simulator.errors import InputError, LayoutError
from simulator.topology import FABRICS, describe, network


def names(net, src, dst):
    return [net.name[link] for link in net.route(src, dst)[0]]


def busiest(net, pairs):
    """Return the most traffic on one link between switches, in flows at its line rate over its capacity."""
    load: dict[int, float] = {}
    for pair in pairs:
        for link, share in net.spread(*pair)[0].items():
            load[link] = load.get(link, 0.0) + share
    return max(
        count * 50e9 / net.capacity[link]
        for link, count in load.items()
        if net.kind[link] == "fabric"
    )


def shift(config):
    """Return a permutation without contention at the ends: every GPU sends to the one half a cluster further on."""
    return [(g, (g + config.gpus // 2) % config.gpus) for g in range(config.gpus)]


# Routing


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("fat_tree_2", {"nodes": 8, "gpus": 4, "ports": 8}),
        ("multi_rail", {"nodes": 16, "gpus": 2, "ports": 8}),
        ("fat_tree_3", {"nodes": 16, "gpus": 8, "ports": 8}),
    ],
)
def test_hashed_ecmp_collides_where_ideal_spreading_does_not(kind, changes):
    # Full bisection: spread ideally, a permutation fills no cable above its rate. Each of 8 leaves
    # hashes 4 flows onto 4 uplinks: all apart on one leaf with 4!/4^4 = 9%, on all of them with
    # 6e-9.
    ideal = cluster(kind, **changes)
    hashed = [cluster(kind, **changes, routing="ecmp", seed=seed) for seed in range(4)]
    assert busiest(network(ideal), shift(ideal)) == pytest.approx(1.0)
    loads = [busiest(network(one), shift(one)) for one in hashed]
    assert min(loads) >= 2.0
    assert (
        len(
            {
                tuple(
                    names(network(one), *pair) == names(network(hashed[0]), *pair)
                    for pair in shift(one)
                )
                for one in hashed
            }
        )
        > 1
    )  # the seed matters


def test_the_same_seed_gives_the_same_ways():
    ways = [
        [
            network(cluster("fat_tree_2", nodes=8, gpus=4, routing="ecmp", seed=5)).route(0, dst)[0]
            for dst in range(32)
        ]
        for _ in range(2)
    ]
    network.cache_clear()
    assert ways[0] == ways[1]


def test_destination_modulo_choices_keeps_a_shift_apart():
    # Static tables of InfiniBand: flows to consecutive NICs leave over different cables, one each.
    config = cluster("fat_tree_2", nodes=8, gpus=4, ports=8, routing="shortest")
    assert busiest(network(config), shift(config)) == 1.0


def test_single_cables_have_the_line_rate_and_bundles_their_sum():
    single = network(cluster("fat_tree_2", nodes=8, gpus=4, ports=16, routing="ecmp"))
    bundle = network(cluster("fat_tree_2", nodes=8, gpus=4, ports=16))
    capacities = [
        {net.capacity[k] for k, kind in enumerate(net.kind) if kind == "fabric"}
        for net in (single, bundle)
    ]
    assert capacities == [{50e9}, {400e9}]
    assert {name for name in single.name if name.startswith("leaf0->spine0")} == {
        f"leaf0->spine0#{k}" for k in range(4)
    }


def test_on_a_torus_ideal_spreading_divides_over_all_shortest_ways():
    # From corner to opposite corner of a 2 x 2 grid whose rings of two have 2 cables: half either
    # way.
    net = network(cluster("torus_3d", dims=[2, 2, 1]))
    shares, _ = net.spread(0, 6)
    fabric = {net.name[link]: share for link, share in shares.items() if net.kind[link] == "fabric"}
    assert fabric == {
        f"switch{one}->switch{other}": 0.5
        for one, other in [
            ("0.0.0", "1.0.0"),
            ("0.0.0", "0.1.0"),
            ("1.0.0", "1.1.0"),
            ("0.1.0", "1.1.0"),
        ]
    }


# Faults


def test_a_dead_nic_is_replaced_by_the_next_over_nvlink():
    # Rail 0 of node 0 is down: GPU 0 leaves through NIC 1, whose rail the destination's GPU 2 is
    # not on, so the traffic arrives at GPU 3 and crosses NVLink there as well; or leaves for rail 1
    # directly.
    net = network(cluster("rail_optimised", faults=[{"nic": [0, 0], "down": True}]))
    assert net.rail[:4].tolist() == [1, 1, 0, 1]
    assert net.nic_up[0] == net.nic_up[1]
    assert names(net, 0, 3) == [
        "gpu0.0->nvswitch0",
        "nvswitch0->gpu0.1",
        "nic0.1->leaf1.0",
        "leaf1.0->nic1.1",
    ]
    assert names(net, 0, 2) == [
        "gpu0.0->nvswitch0",
        "nvswitch0->gpu0.1",
        "nic0.1->leaf1.0",
        "leaf1.0->spines",
        "spines->leaf0.0",
        "leaf0.0->nic1.0",
    ]
    assert names(net, 2, 0) == [
        "gpu1.0->nvswitch1",
        "nvswitch1->gpu1.1",
        "nic1.1->leaf1.0",
        "leaf1.0->nic0.1",
        "gpu0.1->nvswitch0",
        "nvswitch0->gpu0.0",
    ]
    assert names(net, 2, 4) == ["nic1.0->leaf0.0", "leaf0.0->nic2.0"]


def test_a_dead_plane_moves_its_traffic_to_the_others():
    net = network(cluster("multi_plane", faults=[{"plane": 0, "down": True}]))
    assert names(net, 0, 2) == [
        "gpu0.0->nvswitch0",
        "nvswitch0->gpu0.1",
        "nic0.1->leaf1.0",
        "leaf1.0->nic1.1",
        "gpu1.1->nvswitch1",
        "nvswitch1->gpu1.0",
    ]
    assert (
        describe(cluster("multi_plane", faults=[{"plane": 0, "down": True}]))["bisection_bandwidth"]
        == 100e9
    )


def test_a_dead_link_narrows_the_bundle_and_single_cables_go_around_it():
    # A leaf of 4 uplinks, one to each of 4 spines.
    fault = {"link": "leaf0 - spine1", "down": True}
    sizes = {"nodes": 8, "gpus": 4, "ports": 8}
    net = network(cluster("fat_tree_2", **sizes, faults=[fault]))
    assert net.capacity[net.leaf_up].tolist() == [150e9] + [200e9] * 7
    single = network(cluster("fat_tree_2", **sizes, routing="ecmp", faults=[fault]))
    assert not any("spine1" in name for dst in range(4, 32) for name in names(single, 0, dst))
    slow = network(
        cluster(
            "fat_tree_2",
            **sizes,
            faults=[{**fault, "down": False, "bandwidth": "25 GB/s per direction"}],
        )
    )
    assert slow.capacity[slow.leaf_up].tolist() == [175e9] + [200e9] * 7


def test_a_dead_switch_takes_its_cables_along():
    net = network(
        cluster("fat_tree_2", nodes=8, gpus=4, ports=8, faults=[{"switch": "spine0", "down": True}])
    )
    assert set(net.capacity[net.leaf_up].tolist()) == {150e9}


def test_slow_parts_keep_their_place():
    net = network(
        cluster(
            "rail_optimised",
            faults=[
                {"nic": [1, 0], "bandwidth": "25 GB/s per direction"},
                {"gpu": 3, "speed": 0.9},
                {"gpu": 4, "nvlink": "100 GB/s bidirectional"},
            ],
        )
    )
    assert (
        net.capacity[net.nic_up].tolist()
        == net.capacity[net.nic_down].tolist()
        == [50e9, 50e9, 25e9] + [50e9] * 5
    )
    assert net.speed.tolist() == [1.0, 1.0, 1.0, 0.9, 1.0, 1.0, 1.0, 1.0]
    assert net.capacity[net.gpu_up].tolist() == [450e9] * 4 + [50e9] + [450e9] * 3


def test_a_gpu_that_is_down_has_no_ways_and_no_run_may_count_on_it():
    config = cluster("rail_optimised", faults=[{"gpu": 1, "down": True}])
    with pytest.raises(LayoutError, match="faults: 1 is down, and a run takes all GPUs"):
        network(config)
    net = network(config, partial=True)
    assert (net.gpu_up[1], net.speed[1]) == (-1, 0.0)
    with pytest.raises(LayoutError, match="1 is a GPU that is down"):
        net.route(0, 1)
    # Nobody stands at rail 1 of node 0: traffic to it takes the spines.
    assert names(net, 0, 3) == [
        "nic0.0->leaf0.0",
        "leaf0.0->spines",
        "spines->leaf1.0",
        "leaf1.0->nic1.1",
    ]
    assert describe(config)["gpus_down"] == 1


@pytest.mark.parametrize(
    "kind", [kind for kind in FABRICS if kind not in ("single_node", "nvl72", "custom")]
)
def test_every_family_goes_around_one_nic_and_refuses_a_node_without_any(kind):
    changes = SMALL[kind][0]
    nics = changes.get("nics", changes.get("gpus", 2))
    net = network(cluster(kind, **{**changes, "faults": [{"nic": [1, 0], "down": True}]}))
    last = changes.get("nodes", 4) * net.gpus_per_node - 1
    assert net.route(net.gpus_per_node, last)[1] > 0
    assert net.route(last, net.gpus_per_node)[1] > 0
    with pytest.raises(LayoutError, match=r"faults: cut off node 1 from the rest\. Mend a link"):
        network(
            cluster(
                kind, **{**changes, "faults": [{"nic": [1, j], "down": True} for j in range(nics)]}
            )
        )


def test_a_partition_names_the_smaller_side():
    # The ring 0 - 1 - ... of a torus of 4 x 1 x 1, cut on both sides of switch 2: node 2 alone.
    cut = [{"link": f"switch2.0.0 - switch{k}.0.0", "down": True} for k in (1, 3)]
    with pytest.raises(LayoutError, match="cut off node 2 from the rest"):
        network(cluster("torus_3d", dims=[4, 1, 1], faults=cut))
    assert (
        len(network(cluster("torus_3d", dims=[4, 1, 1], faults=cut[:1])).route(2, 4)[0]) == 5
    )  # the long way round


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            {"gpu": 99, "speed": 0.5},
            "faults.0: 99 is not a GPU of this cluster. They go from 0 to 7.",
        ),
        (
            {"nic": [0, 2], "down": True},
            "faults.0: 2 is not a NIC of a node of this cluster. They go from 0 to 1.",
        ),
        (
            {"switch": "spine9", "down": True},
            "faults.0: 'spine9' is not a switch of this cluster. Did you mean spine0?",
        ),
        (
            {"link": "leaf0.0", "down": True},
            (
                "faults.0: 'leaf0.0' does not name two switches. Write for example 'leaf0.1 - spine3'."
            ),
        ),
        (
            {"link": "leaf0.0 - leaf1.0", "down": True},
            "faults.0: 'leaf0.0 - leaf1.0' are not joined by a cable.",
        ),
        (
            {"plane": 0, "down": True},
            (
                "faults.0: 0 is a plane, and this fabric has none. Only fabric.kind multi_plane has planes."
            ),
        ),
        (
            {"gpu": 0, "bandwidth": "1 GB/s per direction"},
            (
                "mine.yaml: faults.0: 'bandwidth' is not a fault that a gpu can have. Choose from: down, nvlink, speed."
            ),
        ),
        ({"gpu": 0}, "mine.yaml: faults.0: 0 is a gpu without a fault. Add down, nvlink, speed."),
        (
            {"down": True},
            "mine.yaml: faults.0: names 0 parts. Choose from: link, switch, nic, plane, gpu.",
        ),
    ],
)
def test_a_wrong_fault_is_told_value_rule_and_remedy(fault, message):
    with pytest.raises(InputError) as caught:
        network(cluster("rail_optimised", faults=[fault]))
    assert str(caught.value) == message


# Cost


def test_the_cost_counts_switches_cables_and_nics():
    # FT2 of 256 nodes x 8 NICs: 96 switches, 2,048 cables between switches and 2,048 to NICs.
    prices = {"switch": "20 kUSD", "cable": "500 USD", "nic": "1000 USD"}
    config = cluster("fat_tree_2", nodes=256, gpus=8, ports=64, prices=prices)
    assert describe(config)["cost_usd"] == 96 * 20e3 + 4096 * 500 + 2048 * 1000


@pytest.mark.parametrize(
    "faults",
    [
        [{"switch": "leaf0.0", "down": True}, {"switch": "leaf0.0", "down": True}],
        [{"plane": 0, "down": True}, {"switch": "leaf0.0", "down": True}],
    ],
)
def test_what_is_down_already_may_be_named_again(faults):
    twice = network(cluster("multi_plane", faults=faults))
    once = network(cluster("multi_plane", faults=faults[:1]))
    assert twice.name == once.name
    assert twice.capacity.tolist() == once.capacity.tolist()

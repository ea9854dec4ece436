"""What follows from a network's wiring alone is one for a sweep over bandwidths, which keeps no further network."""

from fabrics import cluster

from simulator.collectives import paths
from simulator.collectives.demand import latencies
from simulator.hardware import CommunicationModel
from simulator.topology import LinkKind, network, wired

LATE = CommunicationModel(
    nic=1.0, nvlink=1.0, nvlink_latency=2.0, nic_overhead="1 us", source="none"
)


def net(**keys):
    return network(cluster("fat_tree_2", **keys))


def test_networks_of_other_bandwidths_share_what_does_not_depend_on_these():
    slow, fast = net(nic=25), net(nic=50)
    assert latencies(slow, LATE) is latencies(fast, LATE)
    assert paths.of_kind(slow, LinkKind.NIC) is paths.of_kind(fast, LinkKind.NIC)


def test_networks_of_other_latencies_or_sizes_share_nothing():
    one = net()
    for other in (net(latency="5 us"), net(leaf_latency="1 us"), net(nodes=6), net(routing="ecmp")):
        assert wired(other) is not wired(one)
        assert latencies(other, LATE) is not latencies(one, LATE)
        assert latencies(other, LATE)[0] == 2.0 * other.latency[0]

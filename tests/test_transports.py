"""Transports: what carries messages between NICs, as topologies name it."""

import pytest
from builders import scenario

from simulator import inputs
from simulator.errors import InputError
from simulator.hardware import KernelConfig, Transport
from simulator.topology import TopologyConfig
from simulator.topology.cluster import carrier

TRANSPORTS = inputs.data_names("fabrics")


def site(**fabric):
    tree = inputs.read(inputs.find("h100-16", "topologies")).data
    kept = {key: value for key, value in tree["fabric"].items() if "latency" not in key}
    document = inputs.Document("mine.yaml", {**tree, "fabric": kept | fabric}, {})
    return inputs.validate(document, TopologyConfig)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_each_transport_names_itself_and_its_latency_is_the_default(name):
    assert carrier(name).name == name
    assert site(transport=name).fabric.latency == carrier(name).latency
    assert site(transport=name, latency="9 us").fabric.latency == pytest.approx(9e-6)


def test_infiniband_is_the_default_and_changes_no_kernel():
    assert site().fabric.transport == "infiniband"
    assert site().fabric.latency == pytest.approx(3.7e-6)
    kernels = inputs.validate(inputs.data("kernels", "hopper"), KernelConfig)
    assert kernels.over(carrier("infiniband")) is kernels


def test_over_efa_every_round_of_nccl_takes_its_completion_and_other_kernels_stay():
    # 20 us of the network and 3 us of completions a round, whatever the protocol.
    kernels = inputs.validate(inputs.data("kernels", "hopper"), KernelConfig)
    over = kernels.over(carrier("efa")).communication
    for name in ("nccl_ll", "nccl_simple", "nccl_simple_all_reduce", "nvls", "send_recv"):
        assert over[name].nic_overhead == pytest.approx(3e-6)
    assert over["dispatch"] == kernels.communication["dispatch"]


@pytest.mark.slow
def test_a_step_runs_over_the_transport_of_its_topology():
    one = scenario(fabric__transport="efa")
    assert one.kernels.communication["send_recv"].nic_overhead == pytest.approx(3e-6)


def test_an_unknown_transport_is_refused_with_those_that_there_are():
    with pytest.raises(InputError) as caught:
        site(transport="ethernet")
    assert "'ethernet' is not a known transport. Choose from: efa, infiniband, roce." in str(
        caught.value
    )


def test_a_transport_without_an_overhead_leaves_kernels_as_they_are():
    plain = Transport(name="t", latency="1 us", source="made up")
    assert plain.nic_overhead is None

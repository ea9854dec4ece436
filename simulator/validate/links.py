"""Published collectives compared with what `simulate collective` says of them."""

from __future__ import annotations

from simulator import inputs
from simulator.collectives import Kernels, open_to, rows
from simulator.hardware import GpuConfig, KernelConfig
from simulator.topology import TopologyConfig, network
from simulator.validate.case import CollectiveCase
from simulator.validate.check import Check


def collective_check(case: CollectiveCase, source: str) -> Check:
    """Return a collective's published time compared with the simulated one, NCCL's choice taken."""
    file = inputs.find(case.topology, "topologies")
    site = inputs.validate(inputs.read(file), TopologyConfig)
    gpu = inputs.validate(inputs.data("gpus", site.gpu), GpuConfig)
    kernels = inputs.validate(inputs.data("kernels", gpu.kernels), KernelConfig)
    algorithms = open_to(case.op, None)
    kernels = kernels.over(site.fabric.carrier)
    net = network(site)
    timed = rows(net, site.gpus, Kernels.of(kernels), case.op, [case.size], algorithms)
    return Check(
        case=case.case,
        quantity=case.op,
        unit="us",
        published=1e6 * case.published,
        simulated=1e6 * timed[0].seconds,
        use="validation",
        source=f"{source}, {case.source}",
        note=case.note,
    )

"""Benchmarks of dispatch and combine, as the simulator times them alone."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from simulator import inputs
from simulator.collectives import DISPATCHERS, CoflowKind, Row, Timed, exchange_row
from simulator.experts import Routing
from simulator.experts.survey import of_routing
from simulator.hardware import GpuConfig, KernelConfig
from simulator.model import ModelConfig
from simulator.scenario import workload_of
from simulator.topology import Network, TopologyConfig, network

FP8, BF16 = 1.0 + 4 / 128, 2.0
"""Bytes of an element that travels: FP8 with an FP32 scale per 128, BF16."""
NVLINK = {"h100": 450, "h200": 450, "h800": 200, "a100": 300, "b200": 900, "gb200": 900}
"""GPU -> NVLink's bandwidth in one direction [GB/s]."""


class Setting(NamedTuple):
    """A benchmark of dispatch or combine."""

    gpu: str
    """GPUs, eight on a node."""
    nodes: int
    """Nodes of the group."""
    hidden: int
    """Elements of a token."""
    top_k: int
    """Experts of a token."""
    experts: int
    """Of the group."""
    dispatcher: str
    """Row of `DISPATCHERS`."""
    op: CoflowKind
    """Dispatch or combine."""
    width: float
    """Bytes of an element."""
    per_node: int = 8
    """GPUs that NVLink joins."""


class Run(NamedTuple):
    """How often and with what it ran."""

    tokens: float
    """Of each GPU."""
    sms: int
    """SMs of the kernel."""


@lru_cache(maxsize=32)
def cluster(gpu: str, nodes: int, per_node: int = 8) -> Network:
    """Return nodes with a NIC of 400 Gb/s for each GPU."""
    site: dict[str, Any] = {
        "name": gpu,
        "gpu": gpu,
        "nodes": nodes,
        "price": "2 USD per GPU-hour",
        "node": {
            "gpus": per_node,
            "nvlink": f"{NVLINK[gpu]} GB/s per direction",
            "nics": per_node,
            "nic": "50 GB/s per direction",
        },
        "fabric": {
            "kind": "rail_optimised" if nodes > 1 else "single_node",
            "switch_ports": 64,
            "latency": "3.7 us",
        },
    }
    return network(TopologyConfig.model_validate(site))


@lru_cache(maxsize=32)
def routing_of(setting: Setting) -> tuple[ModelConfig, Routing]:
    """Return the model of a benchmark, and where its tokens go."""
    _, v3 = workload_of("deepseek-v3")
    sizes = {
        "hidden_size": setting.hidden,
        "num_experts_per_tok": setting.top_k,
        "n_routed_experts": setting.experts,
    }
    model = v3.model_copy(update=sizes)
    routes = DISPATCHERS[setting.dispatcher].benchmark
    ranks = setting.nodes * setting.per_node
    return model, routes(model, ranks, setting.per_node, 0)


@lru_cache(maxsize=16)
def kernels(gpu: str) -> KernelConfig:
    """Return the kernel table of a GPU."""
    sheet = inputs.validate(inputs.data("gpus", gpu), GpuConfig)
    return inputs.validate(inputs.data("kernels", sheet.kernels), KernelConfig)


def timed(setting: Setting, run: Run) -> Row:
    """Return the row of a kernel alone, without what precedes it on its stream."""
    model, routing = routing_of(setting._replace(op=CoflowKind.DISPATCH, width=0.0))
    dispatcher = DISPATCHERS[setting.dispatcher]
    kernel = dispatcher.kernels(kernels(setting.gpu)).models[setting.op]
    call = Timed(
        network=cluster(setting.gpu, setting.nodes, setting.per_node),
        op=setting.op,
        dispatcher=dispatcher,
        name=setting.dispatcher,
        kernel=kernel.alone(),
        tokens=run.tokens,
        token=setting.hidden * setting.width,
        sms=run.sms,
    )
    return exchange_row(call, routing, of_routing(routing, model))


def of_table(row: dict[str, str], op: str) -> tuple[Setting, Run]:
    """Return the benchmark of a row of measured/deepep_normal_h100.csv. op: dispatch or combine."""
    setting = Setting(
        gpu="h100",
        nodes=int(row["nodes"]),
        hidden=int(row["hidden"]),
        top_k=int(row["top_k"]),
        experts=int(row["experts"]),
        dispatcher="deepep",
        op=CoflowKind(op),
        width=FP8 if op == "dispatch" else BF16,
    )
    return setting, Run(float(row["tokens"]), int(row["sms"]))

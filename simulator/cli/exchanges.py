"""Dispatch and combine of `simulate collective`: whose routing, which kernel, how many bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.collectives import Row
    from simulator.experts.kernels import LowLatencyKernels
    from simulator.hardware import KernelConfig
    from simulator.model import ModelConfig
    from simulator.topology import Network


@dataclass(frozen=True, slots=True)
class Exchange:
    """What dispatch or combine shall do.

    way: a row of EXPECTED. tokens: per GPU; None for those of the published benchmark.
    """

    op: str
    way: str
    workload: str | None
    tokens: int | None


def exchange_row(net: Network, ranks: int, kernels: KernelConfig, asked: Exchange) -> Row:
    """Return the line of a dispatch or combine on the first `ranks` GPUs. Errors: InputError."""
    from simulator.collectives import check_ranks, expert_row, straight_row
    from simulator.experts import route
    from simulator.experts.kernels import benchmark_routing
    from simulator.experts.survey import of_routing
    from simulator.precision import BYTES, RECIPES
    from simulator.scenario import workload_of

    check_ranks(net, ranks)
    run, model = workload_of(asked.workload or "deepseek-v3")
    _check_experts(net, ranks, model, asked.workload or run.name)
    token = model.hidden_size * (
        2.0 if asked.op == "combine" else BYTES[RECIPES[run.precision.recipe].dispatch]
    )
    # Without a workload as DeepEP's benchmarks do: V3's sizes; a group of experts on each node, of
    # low_latency none.
    if asked.workload is None and asked.way == "low_latency":
        model = model.model_copy(update={"n_group": 1, "topk_group": 1})
    routes = benchmark_routing if asked.workload is None and asked.way != "low_latency" else route
    routing = routes(model, ranks, net.gpus_per_node, run.experts.seed)
    if asked.way == "hierarchical":
        return expert_row(
            net, ranks, kernels.communication, asked.op, routing, (asked.tokens or 0) * token
        )
    # The layout that precedes normal kernels is left out, as for hierarchical ones; the start of
    # low_latency is not.
    kernel, tokens = (
        kernels.communication[asked.op].model_copy(update={"setup": 0.0}),
        asked.tokens or 0,
    )
    if asked.way == "low_latency":
        table = _low_latency(kernels.name)
        kernel, tokens = getattr(table, asked.op), asked.tokens or table.tokens
        token += table.header if asked.op == "dispatch" else 0.0
    return straight_row(
        net, asked.op, asked.way, of_routing(routing, model), tokens * token, kernel
    )


def _check_experts(net: Network, ranks: int, model: ModelConfig, workload: str) -> None:
    """Refuse a model without experts, and ranks that they do not divide over."""
    from simulator.errors import InputError

    if not model.n_routed_experts:
        raise InputError(
            "has no routed experts", key="--workload", value=workload, remedy="Choose one that has."
        )
    if model.n_routed_experts % ranks:
        raise InputError(
            f"does not divide the {model.n_routed_experts} experts of {workload}",
            key="--ranks",
            value=ranks,
            remedy="Write a divisor.",
        )
    if ranks > net.gpus_per_node and ranks % net.gpus_per_node:
        raise InputError(
            f"fills nodes of {net.gpus_per_node} GPUs unevenly",
            key="--ranks",
            value=ranks,
            remedy=f"Write a multiple of {net.gpus_per_node}.",
        )


def _low_latency(name: str) -> LowLatencyKernels:
    from simulator import inputs
    from simulator.errors import InputError
    from simulator.experts.kernels import LowLatencyKernels

    try:
        return inputs.validate(inputs.data("low_latency", name), LowLatencyKernels)
    except InputError as error:
        if error.value != name:
            raise
        raise InputError(
            f"has no published measurement on {name} GPUs",
            key="--algorithm",
            value="low_latency",
            remedy="Choose hierarchical or flat.",
        ) from error

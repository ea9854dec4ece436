"""Dispatch and combine of `simulate collective`: whose routing, which kernel, how many bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.collectives import Dispatcher, Row, TokenKernels
    from simulator.hardware import KernelConfig
    from simulator.model import ModelConfig
    from simulator.topology import Network


@dataclass(frozen=True, slots=True)
class ExchangeOptions:
    """What dispatch or combine shall do, as the options say."""

    op: str
    """dispatch or combine."""
    dispatcher: str
    """A name of a row of `DISPATCHERS`, or its alias."""
    workload: str | None
    """Whose routing it takes; None: V3's sizes, routed as in the published benchmark."""
    tokens: int | None
    """Per GPU; None for those of the published benchmark."""
    sms: int | None
    """SMs of the kernel; None for as many as its library takes."""


def default_dispatcher(table: KernelConfig) -> str:
    """Return DeepEP where it was measured, else what runs on every GPU."""
    from simulator.collectives import DISPATCHERS
    from simulator.collectives.dispatchers import ANYWHERE

    row = DISPATCHERS["deepep"]
    if not row.runs_on(table):
        return ANYWHERE
    # Under its alias: rows have named it `hierarchical` since 0.1.0, and JSON keeps its values.
    return row.alias


def exchange_row(net: Network, ranks: int, table: KernelConfig, options: ExchangeOptions) -> Row:
    """Return the line of a dispatch or combine on the first `ranks` GPUs. Errors: InputError."""
    from simulator.collectives import CoflowKind, Timed, check_ranks, dispatcher_names
    from simulator.collectives import exchange_row as row_of
    from simulator.experts import route
    from simulator.experts.survey import of_routing
    from simulator.precision import BYTES, RECIPES
    from simulator.scenario import workload_of

    check_ranks(net, ranks)
    run, model = workload_of(options.workload or "deepseek-v3")
    workload = options.workload or run.name
    _check_experts(net, ranks, model, workload)
    op = CoflowKind(options.op)
    dispatcher = dispatcher_names()[options.dispatcher]
    # Published bandwidths were measured with a routing of the benchmark's own.
    routes = route if options.workload else dispatcher.benchmark
    routing = routes(model, ranks, net.gpus_per_node, run.experts.seed)
    kernels = _kernels(dispatcher, table, options.dispatcher)
    kernel = kernels.models[op]
    # Whether layouts and handles are timed too is the benchmark's choice.
    if not dispatcher.setup_counts:
        kernel = kernel.alone()
    token = model.hidden_size * 2.0  # what returns is BF16
    if not op.returns:
        width = BYTES[RECIPES[run.precision.recipe].dispatch]
        token = model.hidden_size * width + kernels.header
    timed = Timed(
        network=net,
        op=op,
        dispatcher=dispatcher,
        name=options.dispatcher,
        kernel=kernel,
        tokens=float(options.tokens or kernels.benchmark_tokens),
        token=token,
        sms=dispatcher.sms if options.sms is None else options.sms,
    )
    return row_of(timed, routing, of_routing(routing, model))


def _kernels(dispatcher: Dispatcher, table: KernelConfig, name: str) -> TokenKernels:
    """Return a dispatcher's kernels. Errors: InputError with those that were measured."""
    from simulator.collectives import DISPATCHERS
    from simulator.errors import InputError

    def measured(row: Dispatcher) -> bool:
        try:
            return bool(row.kernels(table).models)
        except InputError:
            return False

    try:
        return dispatcher.kernels(table)
    except InputError as error:
        rows = [row for row in DISPATCHERS.values() if measured(row)]
        *others, last = [row.alias or row.name for row in rows]
        listed = ", ".join(others)
        raise InputError(
            error.rule,
            key="--algorithm",
            value=name,
            remedy=f"Choose {listed} or {last}.",
        ) from error


def _check_experts(net: Network, ranks: int, model: ModelConfig, workload: str) -> None:
    """Refuse a model without experts, and ranks that they do not divide over."""
    from simulator.errors import InputError

    experts = model.n_routed_experts
    if not experts:
        raise InputError(
            "has no routed experts", key="--workload", value=workload, remedy="Choose one that has."
        )
    if experts % ranks:
        raise InputError(
            f"does not divide the {experts} experts of {workload}",
            key="--ranks",
            value=ranks,
            remedy="Write a divisor.",
        )
    per_node = net.gpus_per_node
    if ranks > per_node and ranks % per_node:
        raise InputError(
            f"fills nodes of {per_node} GPUs unevenly",
            key="--ranks",
            value=ranks,
            remedy=f"Write a multiple of {per_node}.",
        )

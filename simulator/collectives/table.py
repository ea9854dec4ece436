"""Sizes -> rows as nccl-tests and DeepEP print them: time, algorithm bandwidth, bus bandwidth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.collectives.algorithms import Algorithm
from simulator.collectives.batch import Batch
from simulator.collectives.choose import Choice, Kernels, choices, chosen
from simulator.collectives.demand import demand
from simulator.collectives.dispatchers import Dispatcher
from simulator.collectives.kinds import CoflowKind
from simulator.collectives.nccl_kernels import posted
from simulator.collectives.resolve import resolve
from simulator.collectives.sms import Alone, SmWork, limited
from simulator.collectives.straight import straight, without_forwarding
from simulator.errors import InputError, LayoutError
from simulator.experts import Load, Routing, Visits, worst_load
from simulator.hardware import CommunicationModel
from simulator.progress import counted
from simulator.topology import Network

TIMED = (CoflowKind.DISPATCH, CoflowKind.COMBINE)
"""The exchanges that are timed alone."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line."""

    op: str
    """What ran."""
    algorithm: str
    """Name of the algorithm or dispatcher, as it was given."""
    protocol: str
    """NCCL's protocol, or the library of an exchange's kernels."""
    ranks: int
    """GPUs that took part."""
    bytes: float
    """As the op counts them [B]."""
    seconds: float
    """Of one call [s]."""
    bus: float = 1.0
    """Bus bandwidth over algorithm bandwidth."""
    deepep: bool = False
    """Whether bytes are in DeepEP's convention."""
    binds: str = ""
    """Kind of the slowest link, of dispatch and combine."""

    @property
    def algbw(self) -> float:
        """Return bytes over time [B/s]."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def busbw(self) -> float:
        """Return the bandwidth of an ideal ring's busiest link [B/s]; nccl-tests."""
        return self.algbw * self.bus

    def as_dict(self) -> dict[str, Any]:
        """Return the row for JSON: seconds, bytes, GB/s = 1e9 B/s."""
        row = {
            "op": self.op,
            "algorithm": self.algorithm,
            "protocol": self.protocol,
            "ranks": self.ranks,
            "bytes": self.bytes,
            "time_s": self.seconds,
            "algbw_gb_s": self.algbw / 1e9,
            "busbw_gb_s": self.busbw / 1e9,
        }
        if self.deepep:
            row |= {"deepep_gb_s": self.algbw / 1e9, "binds": self.binds}
        return row


def check_ranks(network: Network, ranks: int) -> None:
    """Refuse numbers of ranks that the cluster does not have. Errors: InputError."""
    gpus = len(network.gpu_up)
    if ranks > gpus:
        raise InputError(
            f"exceeds the {gpus} GPUs of the cluster",
            key="--ranks",
            value=ranks,
            remedy=f"Write {gpus} at most.",
        )
    if ranks < 2:
        raise InputError("must be at least 2", key="--ranks", value=ranks)


def rows(
    network: Network,
    ranks: int,
    kernels: Kernels,
    op: str,
    sizes: Sequence[float],
    table: Mapping[str, Algorithm],
) -> list[Row]:
    """Return a row per size for the first `ranks` GPUs, with the algorithm of `table` that NCCL would choose.

    Errors: InputError if none of them can run.
    """
    check_ranks(network, ranks)
    try:
        possible = choices(network, range(ranks), kernels, op, table)
    except LayoutError as error:
        if error.key != "layout.pp":
            raise
        per_node = network.gpus_per_node
        raise InputError(
            error.rule,
            key="--ranks",
            value=ranks,
            remedy=f"Write a multiple of {per_node}, or leave --algorithm out.",
        ) from error
    return [
        _of_size(op, ranks, size, chosen(possible, size)) for size in counted(sizes, "timing sizes")
    ]


def _of_size(op: str, ranks: int, size: float, choice: Choice) -> Row:
    """Return the row of one size, as the chosen way takes it."""
    return Row(
        op=op,
        algorithm=choice.name,
        protocol=choice.protocol,
        ranks=ranks,
        bytes=size,
        seconds=choice.seconds(size),
    )


@dataclass(frozen=True, slots=True)
class Timed:
    """One batch of tokens that the first GPUs of a cluster exchange alone."""

    network: Network
    """The cluster."""
    op: CoflowKind
    """Dispatch or combine."""
    dispatcher: Dispatcher
    """What runs it."""
    name: str
    """How the dispatcher was named."""
    kernel: CommunicationModel
    """Its kernel, with the setup that counts."""
    tokens: float
    """Of each GPU."""
    token: float
    """Size of one [B]."""
    sms: int
    """SMs that the kernel gets."""

    @property
    def payload(self) -> float:
        """Return the bytes of all tokens of one GPU, each once [B]."""
        return self.tokens * self.token

    def work(self, load: Load) -> SmWork:
        """Return what its SMs have to do."""
        return SmWork(
            sms=self.sms,
            enough=self.dispatcher.sms,
            tokens=self.tokens,
            token=self.token,
            copies=self.dispatcher.copied(load),
            across=load.ep_nodes > 1,
        )


def exchange_row(timed: Timed, routing: Routing, visits: Visits) -> Row:
    """Return dispatch or combine of one batch.

    routing, visits: where a token goes, as means and for each GPU. Bytes are those of the copies
    that the dispatcher's row names, the own node's included. busbw counts what crosses the link.
    """
    if timed.dispatcher.in_rounds:
        return _in_rounds(timed, visits)
    return _at_once(timed, routing, visits)


def _at_once(timed: Timed, routing: Routing, visits: Visits) -> Row:
    """Return an exchange whose hops are pipelined: NICs and NVLink work at the same time."""
    network = timed.network
    ranks = routing.ep_nodes * routing.gpus_per_node
    load = worst_load(visits, way=timed.dispatcher.way)
    batch = Batch(network, tuple(range(ranks)), load, timed.op, timed.kernel, "")
    wanted = timed.dispatcher.demand(batch).scaled(timed.payload)
    starts = timed.kernel.started(ranks, across=routing.ep_nodes > 1)
    kernel = limited(Alone.of(network, wanted, starts), starts, timed.work(load)).kernel
    # DeepEP counts copies per node between nodes, and per GPU inside one; what crosses the link
    # is fewer, for the own node's or the own GPU's stays.
    if load.received == ranks:  # every GPU gets every token
        copies, crossing = float(ranks), ranks - 1.0
    elif routing.ep_nodes > 1:
        copies, crossing = routing.nodes, routing.over_nic
    else:
        copies, crossing = routing.gpus, routing.over_nvlink
    return Row(
        op=timed.op,
        algorithm=timed.name,
        protocol=timed.dispatcher.library,
        ranks=ranks,
        bytes=timed.payload * copies,
        seconds=wanted.seconds(network, kernel) + kernel.setup,
        bus=crossing / copies,
        deepep=True,
        binds=wanted.binds(network, kernel),
    )


def _in_rounds(timed: Timed, visits: Visits) -> Row:
    """Return an exchange that sends every copy straight to its GPU, resolved pair by pair."""
    way = timed.dispatcher.way
    sent = way.expected(visits, timed.payload)
    if timed.op.returns:
        sent = sent.returned()
    network = timed.network
    if not timed.dispatcher.forwarding:
        network = without_forwarding(network)
    rounds = straight(sent)
    asked = demand(network, rounds, timed.kernel)
    work = timed.work(worst_load(visits, way=way))
    starts = timed.kernel.started(len(visits.gpus), across=work.across)
    if timed.dispatcher.op and work.across:  # as `choices` has it of an all-to-all
        starts = posted(starts, "Simple", len(visits.gpus) - network.gpus_per_node)
    kernel = limited(Alone.of(network, asked, starts), starts, work).kernel
    copies = float(way.met(visits).sum())
    nic, nvlink = sent.busiest()
    busiest = nic if len(visits.nodes) > 1 else nvlink
    crossing = busiest / timed.payload
    return Row(
        op=timed.op,
        algorithm=timed.name,
        protocol=timed.dispatcher.library,
        ranks=len(visits.gpus),
        bytes=timed.payload * copies,
        seconds=resolve(network, rounds, kernel),
        bus=crossing / copies,
        deepep=True,
        binds=asked.binds(network, kernel),
    )

"""Sizes -> rows as nccl-tests and DeepEP print them: time, algorithm bandwidth, bus bandwidth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simulator.collectives.choose import CANDIDATES, Kernels, choices, fastest
from simulator.collectives.demand import Algorithm, demand
from simulator.collectives.experts import exchange, straight, without_forwarding
from simulator.collectives.resolve import resolve
from simulator.errors import InputError, LayoutError
from simulator.experts import EXPECTED, Routing, Visits
from simulator.hardware import CommunicationModel
from simulator.topology import Network

EXCHANGES = ("dispatch", "combine")


@dataclass(frozen=True, slots=True)
class Row:
    """One line.

    bytes: as the op counts them [B]. seconds: of one call. bus: busbw / algbw. deepep: bytes are in
    its convention. binds: kind of the slowest link, of dispatch and combine.
    """

    op: str
    algorithm: str
    protocol: str
    ranks: int
    bytes: float
    seconds: float
    bus: float = 1.0
    deepep: bool = False
    binds: str = ""

    @property
    def algbw(self) -> float:
        """Return bytes over time [B/s]."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def busbw(self) -> float:
        """Return the bandwidth that the busiest link of an ideal ring would show [B/s]; nccl-tests."""
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
        return row | ({"deepep_gb_s": self.algbw / 1e9, "binds": self.binds} if self.deepep else {})


def open_to(op: str, table: Mapping[str, Algorithm], algorithm: str | None) -> dict[str, Algorithm]:
    """Return the algorithms to consider: the named one, or NCCL's. Errors: InputError on an unknown name."""
    if algorithm is None:
        return {name: table[name] for name in CANDIDATES[op]}
    if algorithm not in table:
        raise InputError(
            f"is no algorithm of {op}",
            key="--algorithm",
            value=algorithm,
            remedy=f"Known: {', '.join(table)}.",
        )
    return {algorithm: table[algorithm]}


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
        raise InputError(
            "leaves nobody to talk to", key="--ranks", value=ranks, remedy="Write 2 at least."
        )


def rows(
    network: Network,
    ranks: int,
    kernels: Kernels,
    op: str,
    sizes: Sequence[float],
    table: Mapping[str, Algorithm],
) -> list[Row]:
    """Return a row per size for the first `ranks` GPUs, each with the fastest of the algorithms in `table`.

    Errors: InputError if none of them can run.
    """
    check_ranks(network, ranks)
    try:
        found = choices(network, range(ranks), kernels, op, table)
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
    best = [(size, fastest(found, size)) for size in sizes]
    return [Row(op, c.algorithm, c.protocol, ranks, size, c.seconds(size)) for size, c in best]


def expert_row(
    network: Network, ranks: int, kernels: Kernels, op: str, routing: Routing, payload: float
) -> Row:
    """Return dispatch or combine of one batch on the first `ranks` GPUs, kernel setup left out as in DeepEP's tables.

    payload: bytes of all tokens of one GPU, each once [B]. Bytes in DeepEP's convention: each token
    once per node that it reaches, the own one included; inside one node, once per GPU. busbw counts
    what crosses the link.
    """
    asked = exchange(network, range(ranks), routing).scaled(payload)
    copies, crossing = (
        (routing.nodes, routing.over_nic)
        if routing.ep_nodes > 1
        else (routing.gpus, routing.over_nvlink)
    )
    seconds, binds = asked.seconds(network, kernels[op]), asked.binds(network, kernels[op])
    return Row(
        op,
        "hierarchical",
        "DeepEP",
        ranks,
        payload * copies,
        seconds,
        crossing / copies,
        True,
        binds,
    )


def straight_row(
    network: Network, op: str, way: str, visits: Visits, payload: float, model: CommunicationModel
) -> Row:
    """Return dispatch or combine of one batch that sends every copy straight to its GPU, resolved pair by pair.

    way: `flat`, once per GPU, or `low_latency`, once per expert: so are the bytes counted, the own
    node's included. visits: of a token, on the first GPUs. payload: as in `expert_row`. model: the
    kernel, its setup included.
    """
    sent = EXPECTED[way](visits, payload)
    sent = sent.returned() if op == "combine" else sent
    rounds, net = straight(sent), without_forwarding(network)
    copies = float((visits.pairs if way == "low_latency" else visits.gpus).sum())
    crossing = sent.busiest()[0 if len(visits.nodes) > 1 else 1] / payload
    seconds, binds = resolve(net, rounds, model), demand(net, rounds, model).binds(net, model)
    return Row(
        op,
        way,
        "DeepEP",
        len(visits.gpus),
        payload * copies,
        seconds,
        crossing / copies,
        True,
        binds,
    )

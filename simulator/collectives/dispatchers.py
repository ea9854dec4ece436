"""The table of expert dispatchers that steps and `simulate collective` share: a row each.

Adding one is a function (`Batch`) -> `Demand` and a row. A row is then open to a step as
`experts.dispatcher`, and to `simulate collective --op dispatch|combine --algorithm`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.collectives import deepep, expert_all_to_all, straight
from simulator.collectives.batch import Batch, TokenKernels
from simulator.collectives.demand import Demand
from simulator.experts import WAYS, Routing, Way
from simulator.experts.kernels import benchmark_routing, free_routing
from simulator.hardware import KernelConfig
from simulator.model import ModelConfig


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """One way to bring tokens to their experts and back."""

    name: str
    """As `experts.dispatcher` names it."""
    alias: str
    """Another name that `simulate collective --algorithm` takes and prints."""
    library: str
    """Whose kernels it runs, which `simulate collective` prints as the protocol."""
    way: Way
    """Which copies of a token travel, and how many of them arrive."""
    demand: Callable[[Batch], Demand]
    """What the links carry of one byte per copy."""
    kernels: Callable[[KernelConfig], TokenKernels]
    """Kernels on an architecture. Errors: InputError if none were measured there."""
    counts: str
    """What the bytes of `simulate collective` count, as a sentence."""
    op: str = ""
    """Op whose algorithm `communication.expert` chooses; nothing where it runs no collective."""
    in_rounds: bool = True
    """Whether it runs as pairs that start together, not as two hops that overlap token by token."""
    forwarding: bool = False
    """Whether pairs may leave by a neighbour's NIC, as the network routes NCCL's."""
    setup_counts: bool = True
    """Whether `simulate collective` counts the setup; DeepEP's benchmark leaves layouts out."""
    sized: bool = False
    """Whether its kernels were measured at one number of tokens, the command's default."""
    benchmark: Callable[[ModelConfig, int, int, int], Routing] = benchmark_routing
    """Routing of the published benchmark: (model, ranks, GPUs per node, seed)."""


_ROWS = (
    Dispatcher(
        "deepep",
        "hierarchical",
        "DeepEP",
        WAYS["hierarchical"],
        deepep.demand,
        deepep.kernels,
        "DeepEP's bandwidth counts a token once for each node that it reaches, its own included "
        "(inside one node: each GPU). Layout and casts are left out.",
        in_rounds=False,
        forwarding=True,
        setup_counts=False,
    ),
    Dispatcher(
        "deepep_flat",
        "flat",
        "DeepEP",
        WAYS["flat"],
        straight.demand,
        deepep.kernels,
        "Bytes count a token once for each GPU that it reaches, its own included. Layout and casts "
        "are left out.",
        setup_counts=False,
    ),
    Dispatcher(
        "deepep_low_latency",
        "low_latency",
        "DeepEP",
        WAYS["low_latency"],
        straight.demand,
        straight.low_latency_kernels,
        "DeepEP's bandwidth counts a token once for each of its experts, those of its own GPU "
        "included. The kernel's start is in the time.",
        sized=True,
        benchmark=free_routing,
    ),
    Dispatcher(
        "all_to_all",
        "",
        "NCCL",
        WAYS["low_latency"],
        expert_all_to_all.demand,
        expert_all_to_all.kernels,
        "Bytes count a token once for each of its experts, those of its own GPU included.",
        op="all_to_all",
        forwarding=True,
    ),
)

DISPATCHERS: dict[str, Dispatcher] = {row.name: row for row in _ROWS}
"""Name -> dispatcher."""


def dispatcher_names() -> dict[str, Dispatcher]:
    """Return the dispatchers by every name that `simulate collective --algorithm` takes."""
    return {row.alias: row for row in _ROWS if row.alias} | DISPATCHERS

"""The table of expert dispatchers that steps and `simulate collective` share: a row each.

Adding one is a function (`Batch`) -> `Demand` and a row. A row is then open to a step as
`experts.dispatcher`, and to `simulate collective --op dispatch|combine --algorithm`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulator.collectives import all_gather, deepep, expert_all_to_all, hybrid_ep, straight
from simulator.collectives.batch import Batch, Batches, TokenKernels
from simulator.collectives.demand import Demand
from simulator.collectives.replicas import Demands
from simulator.errors import InputError
from simulator.experts import WAYS, Load, Routing, Way
from simulator.experts.kernels import benchmark_routing, free_routing
from simulator.hardware import KernelConfig
from simulator.model import ModelConfig


def _received(load: Load) -> float:
    return load.received


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
    sms: int = 0
    """SMs that the library takes, the default of `experts.sms`; 0: it runs without any."""
    copied: Callable[[Load], float] = _received
    """Copies of a token that the SMs of the busiest GPU make, of kernels measured over SMs."""
    synchronises: bool = False
    """Whether the host waits for the numbers of tokens before it launches what follows dispatch."""
    permutes: bool = False
    """Whether ranks write a copy per expert before they send, and add up what comes back."""
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
    together: Callable[[Batches], Demands] | None = None
    """`demand` of many groups under many loads of a busiest GPU at once; without it, one by one."""
    benchmark: Callable[[ModelConfig, int, int, int], Routing] = benchmark_routing
    """Routing of the published benchmark: (model, ranks, GPUs per node, seed)."""

    def demands(self, batches: Batches) -> Demands:
        """Return `demand` of each group under each load, a size per load. Errors: as `demand`.

        Of loads that `bundles` puts together.
        """
        if self.together and self._takes_many(batches.loads[0]):
            return self.together(batches)
        (load,) = range(len(batches.loads))
        return Demands.of([self.demand(one) for one in batches.of_load(load)]).beside()

    def bundles(self, loads: Sequence[Load]) -> list[list[int]]:
        """Return the loads that `demands` takes at once, which put bytes on the same links.

        Returns indices into `loads`.
        """
        found: dict[object, list[int]] = {}
        for number, load in enumerate(loads):
            over = (load.over_nvlink > 0, load.over_nic > 0)
            found.setdefault(over if self._takes_many(load) else number, []).append(number)
        return list(found.values())

    def _takes_many(self, load: Load) -> bool:
        return self.together is not None and not load.per_gpu

    def runs_on(self, table: KernelConfig) -> bool:
        """Tell whether its kernels run on an architecture. table: of its kernels."""
        try:
            self.kernels(table)
        except InputError:
            return False
        return True


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
        sms=20,  # Megatron-Core's moe_deepep_num_sms; V3, arXiv 2412.19437, section 3.2.2
        copied=deepep.copied,
        synchronises=True,  # README: dispatch polls the number of received tokens on the CPU
        in_rounds=False,
        forwarding=True,
        setup_counts=False,
        together=deepep.together,
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
        sms=20,
        synchronises=True,
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
        "hybridep",
        "",
        "HybridEP",
        WAYS["hierarchical"],
        deepep.demand,
        hybrid_ep.kernels,
        "Bytes count a token once for each node that it reaches, its own included (inside one "
        "node: each GPU). The copies to and from its buffers are left out.",
        sms=16,  # Megatron-Core's moe_hybridep_num_sms, torchtitan's HYBRIDEP_NUM_SMS_DISPATCH
        copied=hybrid_ep.copied,
        synchronises=True,  # unless the host says how many tokens the buffers hold
        in_rounds=False,
        forwarding=True,
        setup_counts=False,
        together=deepep.together,
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
        sms=32,  # channels between two H100 of a node, NVIDIA/nccl issue 1685
        synchronises=True,  # splits are copied to the CPU, Megatron-Core's token_dispatcher.py
        permutes=True,
        op="all_to_all",
        forwarding=True,
    ),
    Dispatcher(
        "all_gather",
        "",
        "NCCL",
        WAYS["gathered"],
        all_gather.demand,
        all_gather.kernels,
        "Bytes count a token once for each GPU of the group, its own included.",
        sms=24,  # CTAs of a ring on H100, NVIDIA/Fuser pull request 5742
        synchronises=True,  # tokens per local expert are copied to the CPU, token_dispatcher.py
        in_rounds=False,
        forwarding=True,
    ),
)

DISPATCHERS: dict[str, Dispatcher] = {row.name: row for row in _ROWS}
"""Name -> dispatcher."""
OF_STACK = "stack"
"""In place of a dispatcher: what the software stack takes."""
ANYWHERE = "all_to_all"
"""What a stack takes where its own dispatcher does not run on the GPU."""


def running(table: KernelConfig) -> list[str]:
    """Return the names of the dispatchers that run on an architecture. table: of its kernels."""
    return [row.name for row in _ROWS if row.runs_on(table)]


def dispatcher_names() -> dict[str, Dispatcher]:
    """Return the dispatchers by every name that `simulate collective --algorithm` takes."""
    return {row.alias: row for row in _ROWS if row.alias} | DISPATCHERS

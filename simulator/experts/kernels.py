"""Copies of tokens -> seconds of a dispatch or combine kernel that runs alone.

A kernel starts, then NICs and NVLink ports work at the same time, and the busiest of either kind
ends last: which one binds follows from the copies. DeepEP's published figures give the rates; its 8
and 64 ranks are enough for all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from pydantic import BaseModel, Field

from simulator import inputs
from simulator.errors import InputError
from simulator.experts.routing import Routing, route
from simulator.experts.survey import of_routing
from simulator.experts.traffic import WAYS, Copies, Visits
from simulator.frozen import FROZEN
from simulator.hardware import CommunicationModel
from simulator.model import ModelConfig
from simulator.units import Bytes, Integer


class LowLatencyKernels(BaseModel):
    """What DeepEP's low-latency kernels reach on one architecture: data/low_latency/<kernels>.yaml."""

    model_config = FROZEN

    name: str = Field(
        description="Name of the kernel table that it belongs to.", examples=["hopper"]
    )
    tokens: Integer = Field(
        gt=0, description="Number of tokens per GPU in the published tables; the default elsewhere."
    )
    header: Bytes = Field(
        description="Size of what dispatch sends before each token to say which it is [B].",
        examples=["16 B"],
    )
    dispatch: CommunicationModel = Field(description="Rates and setup of dispatch.")
    combine: CommunicationModel = Field(description="Rates and setup of combine.")


@lru_cache(maxsize=8)
def low_latency_table(architecture: str) -> LowLatencyKernels:
    """Return the low-latency kernels of an architecture. Errors: InputError if there are none."""
    try:
        return inputs.validate(inputs.data("low_latency", architecture), LowLatencyKernels)
    except InputError as error:
        if error.value != architecture:
            raise
        raise InputError(f"has no published measurement on {architecture} GPUs") from error


@dataclass(frozen=True, slots=True)
class Rates:
    """What one kind of kernel reaches."""

    nic: float
    """Of a NIC in one direction [B/s]."""
    nvlink: float
    """Of an NVLink port in one direction [B/s]."""
    setup: float = 0.0
    """Before bytes move [s]."""


@dataclass(frozen=True, slots=True)
class Time:
    """How long a kernel takes, and why."""

    seconds: float
    """Until the busiest link has carried its bytes [s]."""
    binds: str
    """Kind of that link: `nic` or `nvlink`."""


def kernel_time(moved: Copies, rates: Rates) -> Time:
    """Return how long a kernel takes alone. moved: [src, dst] bytes on NICs and on NVLink."""
    nic, nvlink = moved.busiest()
    ends = {"nic": nic / rates.nic, "nvlink": nvlink / rates.nvlink}
    binds = max(ends, key=ends.__getitem__)
    return Time(rates.setup + ends[binds], binds)


# DeepEP's own benchmark: tests/test_internode.py, test_intranode.py, test_low_latency.py of github
# deepseek-ai/DeepEP.


def benchmark_routing(model: ModelConfig, ranks: int, gpus_per_node: int, seed: int = 0) -> Routing:
    """Return where a token goes in the benchmark of normal kernels: to at most 4 nodes.

    A group of experts is a node, and groups are chosen by their largest score. On one node there
    are no groups. github deepseek-ai/DeepEP, tests.
    """
    nodes = max(1, ranks // gpus_per_node)
    groups = {"n_group": nodes, "topk_group": min(nodes, 4), "topk_method": "group_limited_greedy"}
    return route(model.model_copy(update=groups), ranks, gpus_per_node, seed)


def benchmark_visits(model: ModelConfig, ranks: int, gpus_per_node: int, seed: int = 0) -> Visits:
    """Return what a token does in the benchmark of normal kernels, see `benchmark_routing`."""
    return of_routing(benchmark_routing(model, ranks, gpus_per_node, seed), model)


def free_routing(model: ModelConfig, ranks: int, gpus_per_node: int, seed: int = 0) -> Routing:
    """Return where a token goes in the benchmark of low-latency kernels: its experts are any."""
    free = model.model_copy(update={"n_group": 1, "topk_group": 1})
    return route(free, ranks, gpus_per_node, seed)


def low_latency_visits(model: ModelConfig, ranks: int, gpus_per_node: int, seed: int = 0) -> Visits:
    """Return what a token does in the benchmark of low-latency kernels, see `free_routing`."""
    return of_routing(free_routing(model, ranks, gpus_per_node, seed), model)


def deepep_bytes(visits: Visits, token_bytes: float, kernel: str = "hierarchical") -> float:
    """Return the bytes of one GPU that DeepEP divides by a time to get its bandwidth.

    token_bytes: of all its tokens. The own node is counted: normal kernels between nodes count a
    token once per distinct node, within one once per distinct GPU, low-latency kernels once per
    expert.
    """
    if kernel == "low_latency":
        copies = visits.pairs
    elif len(visits.nodes) > 1:
        copies = visits.nodes
    else:
        copies = visits.gpus
    return token_bytes * float(copies.sum())


Of = TypeVar("Of")


class Known(NamedTuple, Generic[Of]):
    """Something of the two groups whose published figures give the rates of a kind of kernel."""

    inside: Of
    """Of a group on one node."""
    across: Of
    """Of a group on several nodes."""


def normal_rates(visits: Known[Visits], bandwidths: Known[float]) -> Rates:
    """Return the rates behind published bandwidths [B/s] in DeepEP's convention.

    NVLink binds within a node, the NIC is taken to bind between nodes; `kernel_time` of the result
    says so or not.
    """
    expected = WAYS["hierarchical"].expected
    # A published bandwidth is of the bytes that DeepEP counts; the rate is of those that cross the
    # link that binds, of which there are fewer.
    _, on_nvlink = expected(visits.inside, 1.0).busiest()
    on_nic, _ = expected(visits.across, 1.0).busiest()
    nvlink = on_nvlink / deepep_bytes(visits.inside, 1.0)
    nic = on_nic / deepep_bytes(visits.across, 1.0)
    return Rates(nic=bandwidths.across * nic, nvlink=bandwidths.inside * nvlink)


def low_latency_rates(
    visits: Known[Visits], seconds: Known[float], token_bytes: float, nvlink: float
) -> Rates:
    """Return NIC rate and start of low-latency kernels from their times [s].

    token_bytes: of all tokens of a GPU. nvlink: rate of the normal kernel on it [B/s], which splits
    the time within a node into start and transfer.
    """
    expected = WAYS["low_latency"].expected
    _, on_nvlink = expected(visits.inside, token_bytes).busiest()
    on_nic, _ = expected(visits.across, token_bytes).busiest()
    # The start is the same on one node and on several: what it leaves of the time between nodes is
    # the NICs'.
    setup = seconds.inside - on_nvlink / nvlink
    nic = on_nic / (seconds.across - setup)
    return Rates(nic=nic, nvlink=nvlink, setup=setup)

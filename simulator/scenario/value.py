"""The one value that says what is simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from simulator.hardware import GpuConfig, HostConfig, KernelConfig, StackConfig
from simulator.inputs import Document
from simulator.layout import Layout, ZeroStage
from simulator.model import ModelConfig
from simulator.precision import Recipe
from simulator.scenario.config import WorkloadConfig
from simulator.scenario.pipeline import Pipeline
from simulator.topology import Network, TopologyConfig

ExpertCounts: TypeAlias = tuple[tuple[float, ...], ...]
"""Choices that recorded tokens made [layer][expert]; tuples, so that a scenario can be a key."""


class Documents(NamedTuple):
    """The two files of a scenario as they were read, with what `--set` changed in them."""

    topology: Document
    """What exists."""
    workload: Document
    """What is wanted."""


@dataclass(frozen=True)
class Scenario:
    """One cluster and one training run that fit each other."""

    topology: TopologyConfig
    """The cluster as its file describes it."""
    workload: WorkloadConfig
    """The training run as its file describes it."""
    model: ModelConfig
    """The model that is trained."""
    gpu: GpuConfig
    """The datasheet of the cluster's GPUs."""
    kernels: KernelConfig
    """The kernel table of the cluster's GPUs."""
    stack: StackConfig
    """The software stack that launches kernels."""
    host: HostConfig
    """The pace at which its hosts do."""
    layout: Layout
    """Parallel degrees, resolved on the cluster."""
    recipe: Recipe
    """Number formats."""
    micro_batches: int
    """Per replica of the model and step, both directions of a bidirectional pipeline together."""
    pipeline: Pipeline
    """The pipeline schedule that is asked for."""
    network: Network = field(repr=False)
    """The links of the cluster and the routes over them."""
    documents: Documents = field(repr=False)
    """Topology and workload as they were read."""
    counts: ExpertCounts | None = field(default=None, repr=False)
    """Recorded loads of experts [layer][expert], if any."""

    @property
    def as_published(self) -> bool:
        """Tell whether this is the run whose figures the workload gives.

        It is on its own cluster, with no key overridden.
        """
        site = self.workload.published_on
        if site and site != self.topology.name:
            return False
        # Any override makes it another run, even one that repeats what the file says.
        return not any(file.overridden for file in self.documents)

    @property
    def casts_shards(self) -> bool:
        """Tell whether each gather of parameters casts its shard of the master weights first."""
        return self.stack.sharding.masters and self.layout.zero == ZeroStage.PARAMETERS

    @property
    def cp_comm(self) -> str:
        """Return how context parallel ranks share attention: as asked, or by the stack's default."""
        # torchtitan: context_parallel_rotate_method is allgather; Transformer Engine: p2p.
        default = "all_gather" if self.stack.code.context == "ring" else "p2p"
        return self.workload.layout.cp_comm or default

    @property
    def tokens_per_micro_batch(self) -> int:
        """Return the tokens of one micro-batch."""
        training = self.workload.training
        return training.micro_batch_size * training.seq_length

    @property
    def tokens_per_step(self) -> int:
        """Return the tokens of one step."""
        training = self.workload.training
        return training.global_batch_size * training.seq_length

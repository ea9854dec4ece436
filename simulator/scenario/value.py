"""The one value that says what is simulated."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulator.hardware import GpuConfig, KernelConfig
from simulator.inputs import Document
from simulator.layout import Layout
from simulator.model import ModelConfig
from simulator.precision import Recipe
from simulator.scenario.config import WorkloadConfig
from simulator.schedules import Schedule
from simulator.topology import TopologyConfig


@dataclass(frozen=True)
class Scenario:
    """One cluster and one training run that fit each other.

    schedule: who runs what in which order. micro_batches: per replica of the model and step, both
    directions of a bidirectional pipeline together. documents: topology and workload as they were
    read. counts: recorded loads [layer, expert], if any.
    """

    topology: TopologyConfig
    workload: WorkloadConfig
    model: ModelConfig
    gpu: GpuConfig
    kernels: KernelConfig
    layout: Layout
    recipe: Recipe
    micro_batches: int
    schedule: Schedule
    documents: tuple[Document, Document] = field(repr=False)
    counts: tuple[tuple[float, ...], ...] | None = field(default=None, repr=False)

    @property
    def as_published(self) -> bool:
        """Tell whether this is the run whose figures the workload gives: its own cluster, no key overridden."""
        site = self.workload.published_on
        return (not site or site == self.topology.name) and not any(
            file.overridden for file in self.documents
        )

    @property
    def tokens_per_micro_batch(self) -> int:
        """Return the tokens of one micro-batch."""
        return self.workload.training.micro_batch_size * self.workload.training.seq_length

    @property
    def tokens_per_step(self) -> int:
        """Return the tokens of one step."""
        return self.workload.training.global_batch_size * self.workload.training.seq_length

"""The published cases as data: `simulator/data/cases/<source>.yaml`, one file per publication."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, Field

from simulator import inputs
from simulator.frozen import FINITE, FROZEN
from simulator.scenario import Quantity, Scenario, load
from simulator.scenario.config import QUANTITIES
from simulator.units import Bytes, Number, Seconds


class _Published(BaseModel):
    model_config = FINITE

    case: str = Field(
        description="Name of the case, <file>/<row>, unique over all files.",
        examples=["megatron_2022/22b-full"],
    )
    topology: str = Field(description="Name of a shipped topology.", examples=["a100-node"])
    workload: str = Field(description="Name of a shipped workload.", examples=["megatron-2022-22b"])
    set: dict[str, Any] = Field(
        {},
        description="Changes to the two files, path of a key -> value, as --set takes them.",
        examples=[{"training.recompute": ["full"]}],
    )
    source: str = Field(
        description=(
            "Table or section of the publication, and how the figure was derived where it was not "
            "printed so."
        ),
        examples=["table 5, full recomputation"],
    )
    note: str = Field(
        "",
        description="What a reader must know to judge the error.",
        examples=["the layout is not in the table"],
    )
    scored: bool = Field(
        True,
        description=(
            "Whether the case counts in the mean error; false where the source gives no layout."
        ),
    )

    def scenario(self, changes: dict[str, Any] | None = None) -> Scenario:
        """Return what is simulated. changes: applied over `set`. Errors: InputError."""
        sets = {**self.set, **(changes or {})}
        return load(self.topology, self.workload, sets)


class StepCase(_Published):
    """A training step or run whose figure was published."""

    quantity: Quantity = Field(
        description=f"What was published, one of {', '.join(QUANTITIES)}.",
        examples=["step_time_s"],
    )
    published: Number = Field(
        gt=0, description="The published figure, in the quantity's unit.", examples=[19.91]
    )
    twin_of: str = Field(
        "",
        description=(
            "Case of the same model and layout that differs only by release, number of GPUs or "
            "batch: twins count once."
        ),
        examples=["dgxc_h100/8b-8"],
    )
    alternatives: tuple[dict[str, Any], ...] = Field(
        (),
        description="Other choices for what the source does not say, each applied over `set`.",
        examples=[[{"layout.vpp": 4}, {"layout.zero": 1}]],
    )


class MemoryCase(_Published):
    """Bytes on one GPU that were published."""

    what: Literal["parameters_and_optimizer", "activations", "peak"] = Field(
        description="What was counted."
    )
    stage: Literal["first", "middle", "largest"] = Field(
        description="Pipeline stage on which it was counted."
    )
    measure: Literal["allocated", "reserved", "process"] = Field(
        "allocated",
        description=(
            "Of a peak, who counted it: allocated and reserved are PyTorch's two (tensors, and "
            "what its allocator has taken from CUDA), process is nvidia-smi's."
        ),
    )
    published_gib: Number = Field(
        0.0, ge=0, description="The published figure [GiB].", examples=[45.56]
    )
    published_gb: Number = Field(
        0.0,
        ge=0,
        description="The published figure [GB], where the source writes that.",
        examples=[59],
    )

    @property
    def published(self) -> float:
        """Return the published figure [B]."""
        # A case has one of the two, in the unit that its source prints.
        return self.published_gib * 2**30 or self.published_gb * 1e9


class CollectiveCase(BaseModel):
    """A collective that somebody timed alone, on every GPU of a cluster."""

    model_config = FROZEN

    case: str = Field(
        description="Name of the case, <file>/<row>, unique over all files.",
        examples=["user_measurements/nccl-2x8h100-allreduce-1mib"],
    )
    topology: str = Field(description="Name of a shipped topology.", examples=["h100-16"])
    op: str = Field(description="The collective.", examples=["all_reduce"])
    size: Bytes = Field(gt=0, description="Size of the buffer [B].", examples=["64 MiB"])
    published: Seconds = Field(gt=0, description="The published time [s].", examples=["601.5 us"])
    source: str = Field(description="Where it was published.", examples=["nccl-tests' output"])
    note: str = Field("", description="What a reader must know.", examples=["EFA, not InfiniBand"])


Case: TypeAlias = StepCase | MemoryCase | CollectiveCase
"""Anything that was published."""


class CaseFile(BaseModel):
    """One publication."""

    model_config = FROZEN

    source: str = Field(description="The publication.", examples=["arXiv 2205.05198"])
    cases: tuple[StepCase, ...] = Field((), description="Steps and runs of the publication.")
    memory: tuple[MemoryCase, ...] = Field((), description="Memory of a GPU in the publication.")
    collectives: tuple[CollectiveCase, ...] = Field(
        (), description="Collectives of the publication."
    )

    @property
    def rows(self) -> tuple[Case, ...]:
        """Return all cases of the publication."""
        return (*self.cases, *self.memory, *self.collectives)


def files() -> dict[str, CaseFile]:
    """Return every file of published cases by its name."""
    return {
        name: inputs.validate(inputs.data("cases", name), CaseFile)
        for name in inputs.data_names("cases")
    }

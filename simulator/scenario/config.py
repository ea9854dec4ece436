"""What a workload file says, as validated configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from simulator.errors import InputError
from simulator.experts import ExpertsConfig
from simulator.layout import LayoutConfig
from simulator.precision import RECIPES, RECOMPUTE

QUANTITIES = (
    "step_time_s",
    "tokens_per_second",
    "tokens_per_day",
    "tflops_per_gpu",
    "gpu_hours",
    "gpu_hours_per_trillion_tokens",
    "tokens_per_second_per_gpu",
    "wall_days",
    "cost_usd",
    "parameters",
    "active_parameters",
    "flops_per_token",
)
"""What published figures can be compared with."""
LIST_KEYS = (
    "layout.stages",
    "training.recompute",
    "assumed",
    "reference",
    "faults",
    "fabric.dims",
    "fabric.oversubscription",
)
"""Keys whose value is a list; a list for any other key is several values to compare."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScheduleConfig(_Section):
    """The pipeline schedule."""

    name: str = Field(description="a row of simulator.schedules.SCHEDULES")
    limit: float = Field(
        0, ge=0, description="zb-1p, zb-2p: chunks that a rank may hold; 0: the schedule's own"
    )
    file: str = Field(
        "", description="custom: a grid as `simulate schedule` prints it, seen from this file"
    )
    group: int = Field(
        0,
        ge=0,
        description="interleaved: micro-batches that a stage runs in a row; 0: as many as pp",
    )


class TrainingConfig(_Section):
    """What one step and the whole run train on."""

    global_batch_size: int = Field(gt=0, description="sequences per step")
    micro_batch_size: int = Field(1, gt=0, description="sequences per micro-batch")
    seq_length: int = Field(gt=0, description="tokens per sequence")
    tokens: float = Field(gt=0, description="tokens of the whole run")
    attention: str = Field(
        "flash",
        description="flash: the GPU's usual fused kernels, or their name in its kernel table (flash2, cudnn, "
        "...); unfused: batched GEMMs and a softmax over the whole matrix",
    )
    fragmentation: float = Field(
        0.05,
        ge=0,
        description="memory that the allocator loses, of activations and buffers; assumed, not measured",
    )
    recompute: tuple[str, ...] = Field(
        (), description=f"what the backward pass computes again: {', '.join(RECOMPUTE)}"
    )

    @field_validator("recompute", mode="before")
    @classmethod
    def _a_list(cls, names: object) -> object:
        if isinstance(names, str):
            raise InputError("is no list", value=names, remedy=f"Write [{names}].")
        return names

    @field_validator("recompute")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in RECOMPUTE:
                raise InputError(
                    "cannot be recomputed by name",
                    value=name,
                    remedy=f"Known: {', '.join(RECOMPUTE)}.",
                )
        return names


class PrecisionConfig(_Section):
    """The number formats of the run."""

    recipe: str = Field("bf16", description=f"one of {', '.join(RECIPES)}")
    gradients: Literal["fp32", "bf16"] = Field(
        "fp32", description="format in which gradients are summed and kept"
    )

    @field_validator("recipe")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RECIPES:
            raise InputError(
                "is not a recipe", value=name, remedy=f"Use one of {', '.join(RECIPES)}."
            )
        return name


class GroupConfig(_Section):
    """How a tensor, context or data parallel group communicates."""

    algorithm: str = Field(
        "hierarchical_ring",
        description="of gathers and scatters, as `simulate collective` names it; nccl: what NCCL would choose "
        "for the group and the size",
    )


class ExpertGroupConfig(_Section):
    """How an expert group communicates where its dispatcher runs a collective."""

    algorithm: str = Field(
        "pairwise",
        description="of experts.dispatcher all_to_all: pairwise, hierarchical, bruck, or nccl, what NCCL would choose",
    )


class CommunicationConfig(_Section):
    """The collective algorithms of the process groups."""

    tensor: GroupConfig = Field(GroupConfig(), description="tensor parallel groups, of experts too")
    context: GroupConfig = Field(GroupConfig(), description="context parallel groups")
    data: GroupConfig = Field(
        GroupConfig(), description="ranks that share gradients and parameters"
    )
    expert: ExpertGroupConfig = Field(ExpertGroupConfig(), description="expert parallel groups")


def _reported(name: str) -> str:
    if name not in QUANTITIES:
        raise InputError("is not reported", value=name, remedy=f"Known: {', '.join(QUANTITIES)}.")
    return name


Quantity = Annotated[str, AfterValidator(_reported)]
"""The name of a figure that reports have."""


class Reference(_Section):
    """A published figure that the simulated one stands beside."""

    quantity: Quantity = Field(description="one of QUANTITIES")
    value: float = Field(gt=0, description="as published, in the quantity's unit")
    source: str = Field(description="where it was published")


class Assumption(_Section):
    """A value that was not published, and the alternatives over which the report gives the span."""

    key: str = Field(description="path of the assumed key in this file")
    rule: str = Field(description="how the value was chosen, without looking at the result")
    alternatives: tuple[Any, ...] = Field((), description="values that the report runs beside it")


class WorkloadConfig(_Section):
    """A training run: what is wanted."""

    name: str = Field(description="for reports")
    model: dict[str, Any] = Field(description="hf_config: path of a config.json, or its keys")
    layout: LayoutConfig = Field(description="degrees of parallelism")
    schedule: ScheduleConfig = Field(description="pipeline schedule")
    training: TrainingConfig = Field(description="batch, sequence and tokens")
    precision: PrecisionConfig = Field(PrecisionConfig(), description="number formats")
    experts: ExpertsConfig = Field(ExpertsConfig(), description="token routing")
    communication: CommunicationConfig = Field(
        CommunicationConfig(), description="collective algorithms of the process groups"
    )
    assumed: tuple[Assumption, ...] = Field((), description="values that were not published")
    reference: tuple[Reference, ...] = Field((), description="published figures")
    published_on: str = Field("", description="the shipped topology that they were measured on")

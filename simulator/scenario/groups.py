"""What a workload says of its process groups: `communication`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from simulator.frozen import FINITE


class _Section(BaseModel):
    model_config = FINITE


class GroupConfig(_Section):
    """How a tensor, context or data parallel group communicates."""

    algorithm: str = Field(
        "nccl",
        description=(
            "Algorithm of gathers and scatters: ring, hierarchical_ring, halving_doubling or nvls "
            "(inside a node); nccl, the default, takes what NCCL would choose for the group and the "
            "size. Algorithms that run only all-reduces (tree, nvls_tree, sharp) are refused."
        ),
        examples=["ring"],
    )


class ExpertGroupConfig(_Section):
    """How an expert group communicates where its dispatcher runs a collective."""

    algorithm: str = Field(
        "pairwise",
        description=(
            "Algorithm of dispatcher all_to_all: pairwise, hierarchical or bruck; nccl takes what "
            "NCCL would choose for the group and the size."
        ),
        examples=["bruck"],
    )


class PipelineGroupConfig(_Section):
    """How stages hand on to each other."""

    overlap: Literal["stack", "none", "serial", "steady", "all"] = Field(
        "stack",
        description=(
            "Which sends and receives between stages travel next to compute: none (compute waits "
            "for each), serial (the same, one message after the other, with one stage per rank, as "
            "DeepSpeed), steady (those between a forward and a backward pass, as Megatron's "
            "overlap_p2p_comm), all (receivers are always ready), or what the stack does for the "
            "schedule. Zero-bubble and DualPipe schedules overlap all, as their code does."
        ),
        examples=["none"],
    )


class CommunicationConfig(_Section):
    """The collective algorithms of the process groups, and what overlaps between stages."""

    tensor: GroupConfig = Field(
        GroupConfig.model_construct(),
        description="Tensor parallel groups, those of experts included.",
    )
    context: GroupConfig = Field(
        GroupConfig.model_construct(), description="Context parallel groups."
    )
    data: GroupConfig = Field(
        GroupConfig.model_construct(), description="Groups of ranks that hold the same parameters."
    )
    expert: ExpertGroupConfig = Field(
        ExpertGroupConfig.model_construct(), description="Expert parallel groups."
    )
    pipeline: PipelineGroupConfig = Field(
        PipelineGroupConfig.model_construct(), description="Neighbours in a pipeline."
    )

"""A software stack, what runs on the host and launches kernels: `simulator/data/stacks/<name>.yaml`."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from simulator.hardware.data import Data
from simulator.hardware.tensor_overlap import TensorOverlap

Drain: TypeAlias = Literal["gradient_norm", "token_counts", "receive"]
"""Something that the host waits for, so that its queue of launches runs dry."""


class StackHost(Data):
    """The hosts of a stack."""

    pace: str = Field(
        description="How long launches take: a file of simulator/data/hosts.", examples=["lean"]
    )
    measured: bool = Field(
        False,
        description=(
            "Whether that pace is from a profile of this very stack. Where it is not, a report "
            "gives the step at every pace."
        ),
    )
    drains: tuple[Drain, ...] = Field(
        (),
        description=(
            "What the host waits for before it launches more: gradient_norm (at the end of a "
            "step), token_counts (of a dispatch in a forward pass) or receive (of what another "
            "stage sends, in schedules without virtual stages)."
        ),
        examples=[["gradient_norm", "token_counts"]],
    )


class StackConfig(Data):
    """A software stack."""

    name: str = Field(
        description="Name of the stack, as workloads write it.", examples=["megatron"]
    )
    host: StackHost = Field(description="What the host does to launch kernels.")
    tensor_overlap: TensorOverlap = Field(
        TensorOverlap(),
        description="How GEMMs overlap the collectives of tensor parallelism (tp_comm_overlap).",
    )
    attention: str = Field(
        "",
        description=(
            "Implementation of fused attention that it brings, where it was measured on the GPU; "
            "empty: what Transformer Engine takes."
        ),
        examples=["deepseek"],
    )
    sources: dict[str, str] = Field(
        description="Key of this file -> where its value was published.",
        examples=[{"host": "DeepSeek's profile"}],
    )

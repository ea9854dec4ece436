"""A software stack, what runs on the host and launches kernels: `simulator/data/stacks/<name>.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.hardware.data import Data
from simulator.hardware.tensor_overlap import TensorOverlap
from simulator.units import Seconds


class HostConfig(Data):
    """What it costs a rank's host thread to launch the work of a step."""

    measured: Literal["own", "lean", "ordinary"] = Field(
        description=(
            "Whose profile the times are from: the stack's own, or that of a lean or an ordinary "
            "stack where it has none."
        )
    )
    forward: Seconds = Field(
        ge=0,
        description="Time from one launch to the next in forward passes [s].",
        examples=["45 us"],
    )
    backward: Seconds = Field(
        ge=0,
        description="The same in backward passes, on autograd's thread [s].",
        examples=["46 us"],
    )


class StackConfig(Data):
    """A software stack."""

    name: str = Field(
        description="Name of the stack, as workloads write it.", examples=["megatron"]
    )
    host: HostConfig = Field(description="What the host does to launch kernels.")
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

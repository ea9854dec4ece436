"""The pace of a host, what it needs to launch kernels: `simulator/data/hosts/<name>.yaml`."""

from __future__ import annotations

from pydantic import Field, field_validator

from simulator.errors import InputError
from simulator.hardware.data import Data
from simulator.units import Number, Seconds

LAUNCHES = ("gemm", "attention", "norm", "elementwise")
"""Classes of kernels, by what the host does to launch one."""


class HostConfig(Data):
    """What it takes a rank's host to launch the work of a step."""

    name: str = Field(description="Name of the pace, as stacks write it.", examples=["lean"])
    forward: dict[str, Seconds] = Field(
        description=(
            "Class of kernel (gemm, attention, norm or elementwise) -> time from the launch before "
            "to its own, in forward passes [s]."
        ),
        examples=[
            {"gemm": "64 us", "attention": "60 us", "norm": "126 us", "elementwise": "38 us"}
        ],
    )
    backward: dict[str, Seconds] = Field(
        description="The same in backward passes, on autograd's thread [s].",
        examples=[{"gemm": "48 us", "attention": "58 us", "norm": "63 us", "elementwise": "27 us"}],
    )
    communication: Seconds = Field(
        ge=0, description="Time to launch a collective or a send [s].", examples=["60 us"]
    )
    repeat: Seconds = Field(
        ge=0,
        description="Time to launch another kernel from the same call [s].",
        examples=["8 us"],
    )
    launches: Number = Field(
        gt=0,
        description=(
            "Number of kernels that are launched for each op of the model: what is fused in "
            "principle and is not, fills and copies of buffers, sums of parts."
        ),
        examples=[1.157],
    )
    graph: Seconds = Field(
        ge=0, description="Time to launch a captured CUDA graph [s].", examples=["10 us"]
    )
    profiler: Number = Field(
        ge=1,
        description=(
            "What the times of this file are divided by: how much longer a host takes while the "
            "profiler that measured it is on."
        ),
        examples=[1.71],
    )
    sources: dict[str, str] = Field(
        description="Key of this file -> where its value was published.",
        examples=[{"launches": "DeepSeek's profile"}],
    )

    @field_validator("forward", "backward")
    @classmethod
    def _classes(cls, table: dict[str, float]) -> dict[str, float]:
        if set(table) != set(LAUNCHES):
            raise InputError(
                "does not say what each class of kernels takes",
                value=", ".join(table),
                remedy=f"Name {', '.join(LAUNCHES)}.",
            )
        return table

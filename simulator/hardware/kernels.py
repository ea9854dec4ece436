"""The kernel table of one architecture: `simulator/data/kernels/<name>.yaml`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from simulator.errors import InputError
from simulator.hardware.attention import AttentionModel
from simulator.hardware.communication import CommunicationModel
from simulator.hardware.data import Data
from simulator.hardware.gemm import GemmModel
from simulator.hardware.grouped import GroupedModel
from simulator.hardware.nccl import TunerLimits
from simulator.hardware.transport import Transport
from simulator.units import Number, Seconds

NCCL = ("nccl", "nvls", "all_to_all", "send_recv")
"""How the names of NCCL's rows of a communication table begin."""


class OverlapSlowdown(Data):
    """How much longer kernels take, on average over a chunk whose communication is overlapped."""

    gemm: Number = Field(
        ge=1,
        description=(
            "Time of GEMMs on the SMs that communication leaves, relative to their time alone."
        ),
        examples=[1.027],
    )
    memory: Number = Field(
        ge=1,
        description=(
            "Time of memory-bound kernels, which share HBM with communication, relative to their "
            "time alone."
        ),
        examples=[1.089],
    )


class Contention(Data):
    """How sensitive kernels are to what transfers next to them take, see `compute.contention`."""

    compute_hbm: Number = Field(
        ge=0,
        description=(
            "Sensitivity of GEMMs and attention to HBM bandwidth that transfers take: what they "
            "lose next to copies that hold no SM, the clock's fall included."
        ),
        examples=[0.68],
    )
    memory_sms: Number = Field(
        ge=0,
        description="Sensitivity of memory-bound kernels to SMs that transfers hold.",
        examples=[0.56],
    )


class ContentionLimit(Data):
    """How much of a resource transfers take from kernels at most: `simulator/data/contention/limit.yaml`."""

    most: Number = Field(
        gt=0, lt=1, description="Share of a resource that transfers get at most.", examples=[0.5]
    )
    source: str = Field(
        description="Where the share is from.", examples=["assumed: a half each for two"]
    )


class KernelConfig(Data):
    """Measured efficiencies of the kernels of one GPU architecture."""

    name: str = Field(description="Name of the table, as datasheets write it.", examples=["hopper"])
    gap: Seconds = Field(
        description="Time between two kernels of one stream [s].", examples=["2 us"]
    )
    gemm: dict[str, GemmModel] = Field(
        description="Number format -> GEMM of the forward pass and of the input gradient."
    )
    wgrad: dict[str, GemmModel] = Field(
        description="Number format -> GEMM of the weight gradient, accumulated in FP32 in HBM."
    )
    grouped: dict[str, GroupedModel] = Field(
        description=(
            "Number format -> GEMM of all experts of a GPU, outside DeepSeek's stack, whose own "
            "grouped GEMM is described as its dense one."
        )
    )
    grouped_wgrad: dict[str, GroupedModel] = Field(
        description="Number format -> the same of weight gradients."
    )
    attention: dict[str, AttentionModel] = Field(
        description="Implementation of fused attention -> its measured rates."
    )
    default_attention: str = Field(
        description="The implementation that Transformer Engine takes on this architecture.",
        examples=["cudnn"],
    )
    memory: dict[str, Number] = Field(
        description=(
            "Class of memory-bound ops -> share of HBM's peak bandwidth that it reaches while "
            "communication is in flight."
        ),
        examples=[{"norm": 0.307, "optimizer": 0.86}],
    )
    shortest: Seconds = Field(
        ge=0,
        description="Time of a memory-bound kernel that hardly moves anything [s].",
        examples=["2 us"],
    )
    host_copy: Number = Field(
        gt=0,
        le=1,
        description="Share of the link to the host's memory that a copy in one direction reaches.",
        examples=[0.87],
    )
    start: dict[str, Seconds] = Field(
        {},
        description=(
            "Class of memory-bound ops -> time of a kernel besides moving bytes [s]; nothing "
            "of those whose share of the bandwidth holds it."
        ),
        examples=[{"cast_transpose": "1.6 us"}],
    )
    fp8_layouts: Literal["k_major", "any"] = Field(
        "k_major",
        description=(
            "Which layouts FP8 GEMMs with a scale per tensor read: where k_major, casts write "
            "transposes as well; where any, they write one copy."
        ),
    )
    overlap_slowdown: OverlapSlowdown = Field(
        description=(
            "How much longer kernels took next to the communication of the profile from which `memory` was "
            "read: one alone takes that much less than its share of HBM there says."
        )
    )
    contention: Contention = Field(
        description="How much of what transfers next to them take is missing to kernels."
    )
    communication: dict[str, CommunicationModel] = Field(
        description="Kind of communication kernel -> what it reaches."
    )
    nccl: TunerLimits = Field(
        description="What NCCL's estimate of a collective takes the GPUs to be capable of."
    )
    sources: dict[str, str] = Field(
        description="Key of this file -> where its value was published.",
        examples=[{"gap": "DeepSeek's profile"}],
    )

    @model_validator(mode="after")
    def _shares(self) -> KernelConfig:
        for kind, share in self.memory.items():
            if not 0 < share <= 1:
                raise InputError("must lie in (0, 1]", key=f"memory.{kind}", value=share)
        if self.default_attention not in self.attention:
            raise InputError(
                "is not an implementation in `attention`",
                key="default_attention",
                value=self.default_attention,
                remedy=f"Choose from: {', '.join(self.attention)}.",
            )
        return self

    def over(self, transport: Transport) -> KernelConfig:
        """Return the table as it is where a transport carries what leaves a node."""
        if transport.nic_overhead is None:
            return self
        overhead = {"nic_overhead": transport.nic_overhead}
        rows = {
            name: row.model_copy(update=overhead) if name.startswith(NCCL) else row
            for name, row in self.communication.items()
        }
        return self.model_copy(update={"communication": rows})

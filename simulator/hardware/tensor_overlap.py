"""How a software stack overlaps GEMMs with the collectives of tensor parallelism."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from pydantic import Field, model_validator

from simulator.errors import InputError
from simulator.hardware.data import Data
from simulator.units import Integer

GATHERED = ("qkv_fprop", "fc1_fprop", "proj_dgrad", "fc2_dgrad")
"""GEMMs that read what is gathered, as Transformer Engine names them."""
SCATTERED = ("proj_fprop", "fc2_fprop")
"""GEMMs whose output is summed over the group and scattered."""
UNRELATED = ("qkv_dgrad", "fc1_dgrad", "qkv_wgrad", "fc1_wgrad")
"""GEMMs that run next to a transfer whose data they do not touch."""
GEMMS = (*GATHERED, *SCATTERED, *UNRELATED)
"""The GEMMs that are overlapped; weight gradients of what reads gathered gradients are not."""


class OverlapMethod(Data):
    """How one GEMM and its collective are overlapped, as in Transformer Engine's `ub_cfgs`."""

    method: Literal["ring_exchange", "pipeline", "bulk"] = Field(
        description=(
            "How: ring_exchange: as many pieces as ranks, each passed on while another is multiplied; "
            "pipeline: a few pieces, each scattered while the next is multiplied; bulk: a transfer "
            "that the GEMM does not wait for."
        )
    )
    sms: Integer = Field(
        0,
        ge=0,
        description="SMs that the transfer takes from the GEMM; 0 where copy engines move it.",
        examples=[16],
    )
    splits: Integer = Field(
        0, ge=0, description="Pieces of a pipeline; a ring has one per rank.", examples=[4]
    )


Overlaps: TypeAlias = Mapping[str, OverlapMethod]
"""Name of a GEMM -> how it is overlapped; the others are not."""


class TensorGroup(NamedTuple):
    """What the methods of a layer are chosen by."""

    architecture: str
    """Of the GPU, as datasheets name kernel tables."""
    hidden_size: int
    """Of the model."""
    tp: int
    """Ranks of the group."""
    fp8: bool
    """Whether GEMMs read FP8."""


class TunedOverlap(Data):
    """Methods that somebody has tuned for one width on one architecture."""

    architecture: str = Field(description="Kernel table of the GPU.", examples=["hopper"])
    hidden_size: Integer = Field(gt=0, description="Width of the model.", examples=[8192])
    tp: Integer = Field(gt=1, description="Ranks of the group.", examples=[4])
    fp8: bool = Field(description="Whether GEMMs read FP8.", examples=[True])
    methods: dict[str, OverlapMethod] = Field(
        description="GEMM -> its method, where it is not the default."
    )

    @property
    def group(self) -> TensorGroup:
        """Return what it was tuned for."""
        return TensorGroup(self.architecture, self.hidden_size, self.tp, self.fp8)


class TensorOverlap(Data):
    """The methods of a stack: by default, and where they were tuned."""

    default: dict[str, OverlapMethod] = Field(
        {}, description="GEMM -> its method; none where the stack overlaps nothing."
    )
    tuned: tuple[TunedOverlap, ...] = Field(
        (), description="Methods by architecture, width, ranks and format."
    )

    def of(self, group: TensorGroup) -> Overlaps:
        """Return the methods for a group: those that were tuned for it, else the default."""
        for row in self.tuned:
            if row.group == group:
                return self.default | row.methods
        return self.default

    @model_validator(mode="after")
    def _known(self) -> TensorOverlap:
        named = {*self.default, *(name for row in self.tuned for name in row.methods)}
        for name in sorted(named - set(GEMMS)):
            raise InputError(
                "is not a GEMM that is overlapped",
                value=name,
                remedy=f"Choose from: {', '.join(GEMMS)}.",
            )
        return self

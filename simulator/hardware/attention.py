"""What a kernel table says of fused attention."""

from __future__ import annotations

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import FlopRate


class AttentionModel(Data):
    """One implementation of fused causal attention, on all SMs of a GPU."""

    forward: dict[int, dict[int, FlopRate]] = Field(
        description="Width of a query head -> sequence length -> forward rate [FLOP/s].",
        examples=[{128: {2048: "500 TFLOP/s", 4096: "560 TFLOP/s"}}],
    )
    backward: dict[int, dict[int, FlopRate]] = Field(
        description="Width of a query head -> sequence length -> backward rate [FLOP/s].",
        examples=[{128: {2048: "400 TFLOP/s", 4096: "460 TFLOP/s"}}],
    )
    source: str = Field(
        description="The measurements behind the rates.", examples=["cuDNN 9.19 on GB200, causal"]
    )

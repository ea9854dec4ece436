"""What a kernel table says of fused attention."""

from __future__ import annotations

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import FlopRate, Integer, Number


class Benchmark(Data):
    """How much work a rate was measured with: it decides how full the SMs were."""

    heads: Integer = Field(gt=0, description="Number of query heads.", examples=[16])
    tokens: Integer = Field(
        0,
        ge=0,
        description="Number of tokens in all sequences together; 0: one sequence of each length.",
        examples=[16384],
    )

    def sequence_heads(self, length: int) -> float:
        """Return the score matrices of `length` x `length`: one per sequence and head."""
        sequences = self.tokens / length if self.tokens else 1.0
        return self.heads * sequences


class Tail(Data):
    """How long SMs wait for the last tiles, in times of the longest tile.

    0: tiles are handed out so that all SMs end together, as far as the longest allows.
    """

    forward: Number = Field(ge=0, description="Of the forward pass.", examples=[0.89])
    backward: Number = Field(ge=0, description="Of the backward pass.", examples=[1.2])


class Speed(Data):
    """How fast a GPU is relative to the one whose rates a table has."""

    forward: Number = Field(gt=0, description="Of the forward pass.", examples=[1.26])
    backward: Number = Field(gt=0, description="Of the backward pass.", examples=[1])


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
    measured: dict[int, Benchmark] = Field(
        description="Width of a query head -> the work with which its rates were measured.",
        examples=[{128: {"heads": 16, "tokens": 16384}}],
    )
    rows: Integer = Field(
        gt=0, description="Number of queries of one tile of the scores.", examples=[128]
    )
    tail: Tail = Field(description="How long SMs wait for the last tiles.")
    speed: dict[str, Speed] = Field(
        {},
        description="GPU of the architecture -> its rates relative to those of the measured one.",
        examples=[{"gb300": {"forward": 1.26, "backward": 1}}],
    )
    reached: Number = Field(
        1,
        gt=0,
        le=1,
        description=(
            "Share of their peak that tensor cores reach which nothing else holds up: it bounds "
            "the rate on a GPU whose tensor cores are slower than the measured one's."
        ),
        examples=[0.948],
    )
    sustained: Number = Field(
        1,
        ge=1,
        description=(
            "Time inside a training process over that in a benchmark, whose short loops end "
            "before the clock gives way to the power limit, on a GPU that `sustained_of` lacks."
        ),
        examples=[1.08],
    )
    sustained_of: dict[str, Number] = Field(
        {},
        description="GPU -> the same of its own.",
        examples=[{"h100": 1.08, "h200": 1.096}],
    )
    source: str = Field(
        description="The measurements behind the rates.", examples=["cuDNN 9.19 on GB200, causal"]
    )

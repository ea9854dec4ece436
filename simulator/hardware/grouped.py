"""What a kernel table says of GEMMs of many problems at once: the experts of a GPU."""

from __future__ import annotations

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Integer, Number, Seconds


class GroupedModel(Data):
    """A GEMM of many problems of equal columns: waves of their tiles, and HBM.

    seconds = ramp x kernels / streams + (on_sms^exponent + on_memory^exponent)^(1 / exponent), with
    on_sms = waves (tile + 2 bm bn k / (peak per SM x mainloop x rate)) at the fastest of `tiles`
    and on_memory = bytes / (HBM x memory). A wave whose tiles are of several problems waits for
    several weights: where both times are alike they add up, other than in one large GEMM.
    """

    mainloop: Number = Field(
        gt=0,
        le=1,
        description="Share of an SM's peak that the inner loop reaches.",
        examples=[0.673],
    )
    mainloop_of: dict[str, Number] = Field(
        {},
        description=(
            "GPU -> its own share, where its tensor cores are slower than the architecture's and "
            "wait for nothing else."
        ),
        examples=[{"h20": 0.95}],
    )
    tile: Seconds = Field(
        description="Time of the prologue and epilogue of one output tile [s].", examples=["0.1 us"]
    )
    memory: Number = Field(
        gt=0,
        le=1,
        description="Share of HBM's peak bandwidth that it reaches where memory binds.",
        examples=[0.805],
    )
    ramp: Seconds = Field(description="Time to fill and drain a kernel [s].", examples=["11 us"])
    exponent: Number = Field(
        ge=1,
        description="How the times of SMs and of HBM add up: 1 as a sum, large as the longer one.",
        examples=[2],
    )
    tiles: tuple[tuple[Integer, Integer, Number], ...] = Field(
        description=(
            "Output tiles that the library chooses from: rows, columns, and rate relative to the "
            "largest tile."
        ),
        examples=[[[64, 128, 1], [128, 128, 1]]],
    )
    sustained: Number = Field(
        ge=1,
        description="Its time inside a training process relative to that in a benchmark loop.",
        examples=[1.075],
    )
    source: str = Field(
        description="The measurements behind the constants.",
        examples=["least squares over 48 grouped GEMMs of DeepGEMM on H800"],
    )

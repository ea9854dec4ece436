"""What a kernel table says of GEMMs."""

from __future__ import annotations

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Integer, Number, Seconds


class GemmModel(Data):
    """A tiled GEMM: waves of output tiles over the SMs, or HBM, whichever is slower.

    seconds = ramp + max(waves (tile + 2 bm bn k / (peak per SM x mainloop x rate)), bytes / (HBM x
    memory)), at the fastest of `tiles`. mainloop, tile, memory and ramp are least squares over
    measured kernels, see `source`. Inside a training process it takes `sustained` times that: a
    benchmark's short kernels run before the clock gives way to the power limit.
    """

    mainloop: Number = Field(
        gt=0,
        le=1,
        description="Share of an SM's peak that the inner loop reaches.",
        examples=[0.77],
    )
    tile: Seconds = Field(
        description="Time of the prologue and epilogue of one output tile [s].",
        examples=["0.377 us"],
    )
    memory: Number = Field(
        gt=0,
        le=1,
        description="Share of HBM's peak bandwidth that it reaches where memory binds.",
        examples=[0.83],
    )
    ramp: Seconds = Field(
        description="Time to fill and drain the whole kernel [s].", examples=["5 us"]
    )
    tiles: tuple[tuple[Integer, Integer, Number], ...] = Field(
        description=(
            "Output tiles that the library chooses from: rows, columns, and rate relative to the "
            "largest tile."
        ),
        examples=[[[64, 64, 0.6], [128, 256, 1]]],
    )
    sustained: Number = Field(
        ge=1,
        description="Its time inside a training process relative to that in a benchmark loop.",
        examples=[1.075],
    )
    source: str = Field(
        description="The measurements behind the constants.",
        examples=["least squares over 9 shapes of cuBLASLt on GB200"],
    )

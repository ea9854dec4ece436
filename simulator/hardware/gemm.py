"""What a kernel table says of GEMMs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Integer, Number, Seconds


class MeasuredGemms(Data):
    """GEMMs that were measured on one GPU, which correct the wave model where they are dense."""

    grid: str = Field(
        description="Table of their times, `simulator/data/measured/<grid>.csv`.",
        examples=["aic_gemm_h100"],
    )
    dtype: Literal["bf16", "fp8_tensor", "nvfp4"] = Field(
        description="Number format of the table's rows that stand for this one.",
        examples=["bf16"],
    )
    speed: Number = Field(
        1.0,
        gt=0,
        description=(
            "Rates of the GPU relative to those of the one in the table, of its peaks, its HBM and "
            "its fixed times alike."
        ),
        examples=[1],
    )
    burst: dict[Seconds, Number] = Field(
        {},
        description=(
            "Time of a GEMM in a benchmark loop [s] -> its rate there relative to one whose "
            "clock has given way to the power limit. Empty where none gives way."
        ),
        examples=[{"0.354 ms": 1.09, "16 ms": 1}],
    )


class GemmModel(Data):
    """A tiled GEMM: waves of output tiles over the SMs, or HBM, whichever is slower.

    seconds = ramp + max(waves (tile + 2 bm bn k / (peak per SM x mainloop x rate)), bytes / (HBM x
    memory)), at the fastest of `tiles`. mainloop, tile, memory, ramp and tail are least squares
    over measured kernels, see `source`. Where `measured` has the GPU, that time is multiplied by
    what was measured over what is computed at the shapes around. Inside a training process the SMs
    take longer than in a benchmark loop, whose short kernels run before the clock gives way to the
    power limit: by `burst` of the GPU's measurement and by `sustained`.
    """

    mainloop: Number = Field(
        gt=0,
        le=1,
        description="Share of an SM's peak that the inner loop reaches.",
        examples=[0.77],
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
    tail: Number = Field(
        1.0,
        ge=0,
        le=1,
        description=(
            "Share of the SMs' idle time in the last wave that costs time: 1 where every tile "
            "stays on its SM, 0 where a library splits the last tiles among all."
        ),
        examples=[0.37],
    )
    tiles: tuple[tuple[Integer, Integer, Number], ...] = Field(
        description=(
            "Output tiles that the library chooses from: rows, columns, and rate relative to the "
            "largest tile."
        ),
        examples=[[[64, 64, 0.6], [128, 256, 1]]],
    )
    measured: dict[str, MeasuredGemms] = Field(
        {},
        description="GPU -> the GEMMs that were measured on it, or on one of the same chip.",
    )
    sustained: Number = Field(
        1.0,
        ge=1,
        description=(
            "Its time inside a training process relative to that in a benchmark loop, on GPUs of "
            "which `measured` does not say how that depends on its length."
        ),
        examples=[1.021],
    )
    source: str = Field(
        description="The measurements behind the constants.",
        examples=["least squares over 9 shapes of cuBLASLt on GB200"],
    )

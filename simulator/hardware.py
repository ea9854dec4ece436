"""What a GPU's datasheet and its kernel tables say.

The numbers are data files, each value with its source.

`simulator/data/gpus/<name>.yaml` is a datasheet, `simulator/data/kernels/<name>.yaml` a table of
measured kernel efficiencies that GPUs of one architecture share. Neither knows of any training
step.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.errors import InputError
from simulator.units import Bandwidth, Bytes, FlopRate, Integer, MemoryBandwidth, Number, Seconds


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Memory(_Data):
    """High-bandwidth memory of a GPU."""

    capacity: Bytes = Field(description="Usable size [B].", examples=["80 GB"])
    bandwidth: MemoryBandwidth = Field(
        description="Peak bandwidth of reads and writes together [B/s].", examples=["3.35 TB/s"]
    )


class GpuConfig(_Data):
    """A GPU's datasheet."""

    name: str = Field(description="Name of the GPU, as topologies write it.", examples=["h800"])
    sms: Integer = Field(gt=0, description="Number of streaming multiprocessors.")
    memory: Memory = Field(description="Size and bandwidth of its memory.")
    peak: dict[str, FlopRate] = Field(
        description="Number format -> dense peak, without sparsity [FLOP/s].",
        examples=[{"bf16": "989.4 TFLOP/s", "fp8": "1978.9 TFLOP/s"}],
    )
    kernels: str = Field(
        description="Name of the kernel table of its architecture.", examples=["hopper"]
    )
    sources: dict[str, str] = Field(
        description="Key of this file -> where its value was published.",
        examples=[{"memory": "NVIDIA H100 SXM datasheet"}],
    )


class GemmModel(_Data):
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


class AttentionModel(_Data):
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


class MeasuredLinks(_Data):
    """The links of a GPU on which a communication kernel was measured."""

    nic: Bandwidth = Field(
        description="Line rate of the GPU's NIC [B/s in one direction].",
        examples=["50 GB/s per direction"],
    )
    nvlink: Bandwidth = Field(
        description="NVLink bandwidth of the GPU [B/s in one direction].",
        examples=["400 GB/s bidirectional"],
    )


class CommunicationModel(_Data):
    """What one kind of communication kernel reaches on the links that it crosses."""

    nic: Number = Field(
        gt=0, le=1, description="Share of the NIC's line rate that it reaches.", examples=[0.94]
    )
    nvlink: Number = Field(
        gt=0,
        le=1,
        description="Share of NVLink's bandwidth in one direction that it reaches.",
        examples=[0.8],
    )
    overlap_slowdown: Number = Field(
        1.0,
        ge=1,
        description=(
            "Its time while the GPU computes relative to its time alone, on the links of "
            "measured_on."
        ),
        examples=[1.33],
    )
    measured_on: MeasuredLinks | None = Field(
        None,
        description=(
            "Links on which overlap_slowdown was measured: slower links hide it, and faster ones "
            "do not help."
        ),
    )
    setup: Seconds = Field(
        0.0,
        description=(
            "Time of the kernels that precede it on its stream, such as layout and casts, and of "
            "its launch [s]."
        ),
        examples=["52 us"],
    )
    nvlink_latency: Number = Field(
        1.0,
        ge=0,
        description="Latency of a round over NVLink relative to the topology's for 64 B.",
        examples=[0.18],
    )
    nic_latency: Number = Field(
        1.0,
        ge=0,
        description="Latency of a round beyond the NIC relative to the topology's for 64 B.",
        examples=[3.784],
    )
    source: str = Field(
        description="The measurements behind the constants.",
        examples=["ring all-reduce on 4 GB200: 679.6 of 900 GB/s"],
    )


class OverlapSlowdown(_Data):
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


class KernelConfig(_Data):
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
    overlap_slowdown: OverlapSlowdown = Field(
        description="How much longer kernels take while communication is in flight."
    )
    communication: dict[str, CommunicationModel] = Field(
        description="Kind of communication kernel -> what it reaches."
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

"""What a GPU's datasheet and its kernel tables say. The numbers are data files, each value with its source.

`simulator/data/gpus/<name>.yaml` is a datasheet, `simulator/data/kernels/<name>.yaml` a table of
measured kernel efficiencies that GPUs of one architecture share. Neither knows of any training
step.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.errors import InputError
from simulator.units import Bandwidth, Bytes, FlopRate, MemoryBandwidth, Seconds


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Memory(_Data):
    """High-bandwidth memory of a GPU."""

    capacity: Bytes = Field(description="usable size [B]")
    bandwidth: MemoryBandwidth = Field(description="peak of reads and writes together [B/s]")


class GpuConfig(_Data):
    """A GPU's datasheet."""

    name: str = Field(description="as topologies name it")
    sms: int = Field(gt=0, description="streaming multiprocessors")
    memory: Memory = Field(description="size and bandwidth of HBM")
    peak: dict[str, FlopRate] = Field(description="dtype -> dense peak [FLOP/s], without sparsity")
    kernels: str = Field(description="the kernel table of its architecture")
    sources: dict[str, str] = Field(description="key -> where its value was published")


class GemmModel(_Data):
    """A tiled GEMM: waves of output tiles over the SMs, or HBM, whichever is slower.

    seconds = ramp + max(waves (tile + 2 bm bn k / (peak per SM x mainloop x rate)), bytes / (HBM x
    memory)), at the fastest of `tiles`. mainloop, tile, memory and ramp are least squares over
    measured kernels, see `source`. Inside a training process it takes `sustained` times that: a
    benchmark's short kernels run before the clock gives way to the power limit.
    """

    mainloop: float = Field(
        gt=0, le=1, description="share of an SM's peak that the inner loop reaches"
    )
    tile: Seconds = Field(description="prologue and epilogue of one output tile [s]")
    memory: float = Field(gt=0, le=1, description="share of HBM's peak bandwidth when memory binds")
    ramp: Seconds = Field(description="fill and drain of the whole kernel [s]")
    tiles: tuple[tuple[int, int, float], ...] = Field(
        description="rows, columns, rate relative to the largest tile"
    )
    sustained: float = Field(
        ge=1, description="its time inside a training process over that in a benchmark loop"
    )
    source: str = Field(description="the measurements behind it")


class AttentionModel(_Data):
    """One implementation of fused causal attention: FLOP/s by width of a query head and sequence length."""

    forward: dict[int, dict[int, FlopRate]] = Field(
        description="d_qk -> sequence length -> forward [FLOP/s], all SMs"
    )
    backward: dict[int, dict[int, FlopRate]] = Field(
        description="d_qk -> sequence length -> backward, all SMs"
    )
    source: str = Field(description="the measurements behind it")


class MeasuredLinks(_Data):
    """The links of a GPU on which a communication kernel was measured."""

    nic: Bandwidth = Field(description="line rate of the GPU's NIC [B/s in one direction]")
    nvlink: Bandwidth = Field(description="NVLink of the GPU [B/s in one direction]")


class CommunicationModel(_Data):
    """What one kind of communication kernel reaches on the links that it crosses."""

    nic: float = Field(gt=0, le=1, description="share of the NIC's line rate")
    nvlink: float = Field(gt=0, le=1, description="share of NVLink's rate in one direction")
    overlap_slowdown: float = Field(
        1.0,
        ge=1,
        description="how much longer it takes while the GPU computes, on the links of measured_on",
    )
    measured_on: MeasuredLinks | None = Field(
        None, description="slower links hide overlap_slowdown, faster do not help"
    )
    setup: Seconds = Field(
        0.0, description="kernels that precede it on its stream: layout, casts; launch [s]"
    )
    nvlink_latency: float = Field(
        1.0, ge=0, description="a round's latency over NVLink, of the topology's for 64 B"
    )
    nic_latency: float = Field(
        1.0, ge=0, description="a round's latency beyond the NIC, of the topology's for 64 B"
    )
    source: str = Field(description="the measurements behind it")


class BesideCommunication(_Data):
    """How much longer kernels take, on average over a chunk whose communication is overlapped."""

    gemm: float = Field(ge=1, description="GEMMs, on the SMs that communication leaves")
    memory: float = Field(
        ge=1, description="memory-bound ops, which share HBM with the communication kernels"
    )


class KernelConfig(_Data):
    """Measured efficiencies of the kernels of one GPU architecture."""

    name: str = Field(description="as datasheets name it")
    gap: Seconds = Field(description="between two kernels of one stream [s]")
    gemm: dict[str, GemmModel] = Field(description="dtype -> forward and input-gradient GEMM")
    wgrad: dict[str, GemmModel] = Field(
        description="dtype -> weight-gradient GEMM, FP32 accumulation into HBM"
    )
    attention: dict[str, AttentionModel] = Field(
        description="implementation of fused attention -> its measured rates"
    )
    default_attention: str = Field(
        description="the implementation that Transformer Engine takes on this architecture"
    )
    memory: dict[str, float] = Field(
        description="op class -> share of HBM's peak bandwidth, beside communication"
    )
    beside_communication: BesideCommunication = Field(
        description="how much longer kernels take beside communication"
    )
    communication: dict[str, CommunicationModel] = Field(
        description="kind of kernel -> what it reaches"
    )
    sources: dict[str, str] = Field(description="key -> where its value was published")

    @model_validator(mode="after")
    def _shares(self) -> KernelConfig:
        for kind, share in self.memory.items():
            if not 0 < share <= 1:
                raise InputError("must lie in (0, 1]", key=f"memory.{kind}", value=share)
        if self.default_attention not in self.attention:
            raise InputError(
                "is no implementation in `attention`",
                key="default_attention",
                value=self.default_attention,
                remedy=f"Known: {', '.join(self.attention)}.",
            )
        return self

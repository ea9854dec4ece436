"""A GPU's datasheet: `simulator/data/gpus/<name>.yaml`."""

from __future__ import annotations

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Bandwidth, Bytes, FlopRate, Integer, MemoryBandwidth, Power


class Memory(Data):
    """High-bandwidth memory of a GPU."""

    capacity: Bytes = Field(description="Usable size [B].", examples=["80 GB"])
    bandwidth: MemoryBandwidth = Field(
        description="Peak bandwidth of reads and writes together [B/s].", examples=["3.35 TB/s"]
    )


class GpuConfig(Data):
    """A GPU's datasheet."""

    name: str = Field(description="Name of the GPU, as topologies write it.", examples=["h800"])
    sms: Integer = Field(gt=0, description="Number of streaming multiprocessors.")
    memory: Memory = Field(description="Size and bandwidth of its memory.")
    peak: dict[str, FlopRate] = Field(
        description="Number format -> dense peak, without sparsity [FLOP/s].",
        examples=[{"bf16": "989.4 TFLOP/s", "fp8": "1978.9 TFLOP/s"}],
    )
    power: Power = Field(
        gt=0, description="Power limit that it comes with, its TDP [W].", examples=["700 W"]
    )
    host_link: Bandwidth = Field(
        gt=0,
        description=(
            "Bandwidth of its link to the memory of its host [B/s in one direction]: PCIe, or "
            "NVLink-C2C of a Grace."
        ),
        examples=["128 GB/s bidirectional"],
    )
    kernels: str = Field(
        description="Name of the kernel table of its architecture.", examples=["hopper"]
    )
    relative: str = Field(
        "",
        description=(
            "GPU of the same architecture whose measured GEMMs and attention stand for its own, of "
            'which none were measured; "": its own are in the kernel table, or the architecture\'s '
            "constants stand for them."
        ),
        examples=["h100"],
    )
    sources: dict[str, str] = Field(
        description="Key of this file -> where its value was published.",
        examples=[{"memory": "NVIDIA H100 SXM datasheet"}],
    )

    @property
    def peak_of_sm(self) -> float:
        """Return the BF16 peak of one SM [FLOP/s]."""
        return self.peak["bf16"] / self.sms

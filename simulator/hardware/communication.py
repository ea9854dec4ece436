"""What a kernel table says of communication kernels."""

from __future__ import annotations

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Bandwidth, MemoryBandwidth, Number, Seconds


class MeasuredLinks(Data):
    """The links of a GPU on which a communication kernel was measured."""

    nic: Bandwidth = Field(
        description="Line rate of the GPU's NIC [B/s in one direction].",
        examples=["50 GB/s per direction"],
    )
    nvlink: Bandwidth = Field(
        description="NVLink bandwidth of the GPU [B/s in one direction].",
        examples=["400 GB/s bidirectional"],
    )


class CommunicationModel(Data):
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
    own_part: MemoryBandwidth = Field(
        0.0,
        description=(
            "Rate at which a GPU copies the part of a gather or scatter that it keeps, which "
            "crosses no link [B/s]; 0: it is there already."
        ),
        examples=["795 GB/s"],
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

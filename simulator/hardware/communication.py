"""What a kernel table says of communication kernels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Bandwidth, Bytes, Integer, MemoryBandwidth, Number, Seconds


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


class SmCopies(Data):
    """What the SMs of an exchange of tokens reach, and how long the exchange takes to fill."""

    sm: MemoryBandwidth = Field(
        description="What one SM copies, `overhead` included [B/s].", examples=["21.2 GB/s"]
    )
    overhead: Bytes = Field(
        0.0,
        description="What a copy of a token costs an SM besides its bytes [B].",
        examples=["1803 B"],
    )
    fill: Seconds = Field(
        description="From the kernel's start until its links are busy, and its drain [s].",
        examples=["38.9 us"],
    )
    fill_token: Bytes = Field(
        0.0,
        description=(
            "Size of the token for which `fill` holds, in proportion to others' [B]; 0: alike for "
            "all."
        ),
        examples=["14336 B"],
    )

    def filling(self, token: float) -> float:
        """Return how long the exchange takes to fill and drain [s]. token: its size [B]."""
        return self.fill * token / self.fill_token if self.fill_token else self.fill


class CopyModel(Data):
    """How fast SMs copy tokens: two kernels, one for groups on a node, one for groups on several."""

    inside: SmCopies = Field(description="Of a group on one node.")
    across: SmCopies = Field(description="Of a group on several nodes.")


class Ramp(Data):
    """How long a pipeline takes to fill whose chunks grow with the buffer until they are whole."""

    share: Number = Field(
        gt=0,
        description="Time to fill over the time of the transfer, while chunks grow.",
        examples=[0.58],
    )
    most: Seconds = Field(description="Time to fill with whole chunks [s].", examples=["46 us"])


class RankSetups(Data):
    """What precedes a kernel on its stream, by ranks of the group; between them in proportion."""

    inside: dict[int, Seconds] = Field(
        description="Ranks of a group on one node -> time [s].", examples=[{8: "72 us"}]
    )
    across: dict[int, Seconds] = Field(
        description="Ranks of a group on several nodes -> time [s].", examples=[{64: "916 us"}]
    )

    def seconds(self, ranks: int, *, across: bool) -> float:
        """Return the time for a group [s]; beyond what was measured that of the nearest size."""
        measured = self.across if across else self.inside
        least, most = min(measured), max(measured)
        ranks = min(max(ranks, least), most)
        for (below, first), (above, second) in pairwise(sorted(measured.items())):
            if ranks <= above:
                return first + (second - first) * (ranks - below) / (above - below)
        return measured[most]


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
    gemm_slowdown: Number = Field(
        1.0,
        ge=1,
        description=(
            "Time of a GEMM while it lasts relative to its time alone on the same SMs: both move "
            "bytes through HBM and L2, and share the power limit."
        ),
        examples=[1.2],
    )
    measured_on: MeasuredLinks | None = Field(
        None,
        description=(
            "Links on which overlap_slowdown was measured: slower links hide it, and faster ones "
            "do not help."
        ),
    )
    ctas: Integer = Field(
        0,
        ge=0,
        description=(
            "SMs that it holds while it runs, one per CTA; 0 of copy engines, and of kernels "
            "whose SMs something else says."
        ),
        examples=[24],
    )
    rail_ctas: Integer = Field(
        0,
        ge=0,
        description=(
            "The same of a group that spans nodes, for each NIC that it uses in a node, 16 at most; "
            "0: as inside a node."
        ),
        examples=[4],
    )
    hbm: Number = Field(
        0.0,
        ge=0,
        description="Bytes that it moves through a GPU's HBM for each byte that the GPU sends.",
        examples=[2.5],
    )
    setup: Seconds = Field(
        0.0,
        description=(
            "Time of the kernels that precede it on its stream, such as layout, and of its launch "
            "[s]."
        ),
        examples=["74 us"],
    )
    setups: RankSetups | None = Field(
        None, description="The same of kernels whose preparation was measured by ranks, on top."
    )
    cast: MemoryBandwidth = Field(
        0.0,
        description=(
            "Rate at which a kernel before it casts tokens that travel in FP8 and were not cast "
            "before, bytes read and written [B/s]; 0: there is none."
        ),
        examples=["1711 GB/s"],
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
    nic_overhead: Seconds = Field(
        0.0,
        description=(
            "What a round beyond the NIC takes besides the topology's latency: proxies, "
            "completions, flushes [s]."
        ),
        examples=["10.3 us"],
    )
    hidden: Number = Field(
        0.0,
        ge=0,
        description=(
            "Share of the transfer behind which the latency of rounds is hidden: parts of a chunk "
            "move on while the rest of it arrives."
        ),
        examples=[0.49],
    )
    ramp: Ramp | None = Field(
        None, description="Time to fill its pipeline, where that grows with the buffer."
    )
    channel: MemoryBandwidth = Field(
        0.0,
        description=(
            "Most that a channel of a send between nodes carries, of which NCCL gives a pair two at "
            "most [B/s]; 0: as much as the NIC."
        ),
        examples=["18 GB/s"],
    )
    copies: CopyModel | None = Field(
        None, description="What its SMs reach, of kernels that were measured over SM counts."
    )
    source: str = Field(
        description="The measurements behind the constants.",
        examples=["ring all-reduce on 4 GB200: 679.6 of 900 GB/s"],
    )

    def waiting(self, rounds: float, transfer: float) -> float:
        """Return what a collective takes besides its transfer and its setup [s].

        rounds: latency of its rounds [s]. transfer: of its bytes alone [s].
        """
        exposed = max(0.0, rounds - self.hidden * transfer)
        if self.ramp is None:
            return exposed
        return exposed + min(self.ramp.share * transfer, self.ramp.most)

    def waiting_each(
        self, rounds: NDArray[np.float64], transfer: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return `waiting` of many collectives [collective] s."""
        exposed: NDArray[np.float64] = np.maximum(0.0, rounds - self.hidden * transfer)
        if self.ramp is None:
            return exposed
        return exposed + np.minimum(self.ramp.share * transfer, self.ramp.most)

    def alone(self) -> CommunicationModel:
        """Return the kernel without what precedes it on its stream."""
        return self.model_copy(update={"setup": 0.0, "setups": None, "cast": 0.0})

    def started(self, ranks: int, *, across: bool, cast_bytes: float = 0.0) -> CommunicationModel:
        """Return the kernel with all that precedes it in a group in one setup.

        ranks: of the group. across: whether it spans nodes. cast_bytes: what a cast before it
        reads and writes [B].
        """
        setup = self.setup
        if self.setups:
            setup += self.setups.seconds(ranks, across=across)
        if cast_bytes and self.cast:
            setup += cast_bytes / self.cast
        return self.model_copy(update={"setup": setup, "setups": None, "cast": 0.0})

"""NCCL's own estimate of its collectives, by which it chooses: `simulator/data/nccl/tuner.yaml`."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Bytes, Integer, MemoryBandwidth, Number, Seconds

PROTOCOLS = ("LL", "LL128", "Simple")
"""NCCL's protocols, in its order."""

Latencies: TypeAlias = dict[str, tuple[Seconds, Seconds, Seconds]]
"""Algorithm -> latency with each protocol [s]."""
Rates: TypeAlias = tuple[MemoryBandwidth, MemoryBandwidth, MemoryBandwidth]
"""On 1, 2 and more nodes [B/s]."""


class TunerLimits(Data):
    """What NCCL takes the GPUs of one architecture to be capable of."""

    ring: Number = Field(
        gt=0,
        le=1,
        description="Share of NVLink's bandwidth that its search gives to rings.",
        examples=[0.8],
    )
    channels: Integer = Field(gt=0, description="Channels of a ring over 8 GPUs.", examples=[12])
    ll: MemoryBandwidth = Field(
        description="Most that LL reaches inside a node [B/s].", examples=["141 GB/s"]
    )
    ll128: MemoryBandwidth = Field(
        description="Most that a channel of a ring reaches with LL128 [B/s].",
        examples=["36.7 GB/s"],
    )
    tree: Rates = Field(
        description="Most that a channel of a tree reaches on 1, 2 and more nodes [B/s].",
        examples=[["38.7 GB/s", "41.4 GB/s", "36 GB/s"]],
    )
    nvls: Number = Field(
        0.0, ge=0, description="Efficiency of NVLink SHARP; 0: the GPU has none.", examples=[0.85]
    )


class Tuner(Data):
    """The constants of NCCL's estimate that all GPUs share."""

    base: Latencies = Field(description="Algorithm -> latency of a call [s].")
    nvlink: Latencies = Field(description="Algorithm -> latency of a round inside a node [s].")
    network: Latencies = Field(description="Algorithm -> latency of a round between nodes [s].")
    overhead: Seconds = Field(
        description="Least latency of a ring's rounds over several nodes, by LL and LL128 [s]."
    )
    ll_across: tuple[MemoryBandwidth, MemoryBandwidth] = Field(
        description="Most that LL reaches on 2 and on more nodes [B/s]."
    )
    nvls_tree_channel: tuple[MemoryBandwidth, MemoryBandwidth] = Field(
        description="Most that a channel of NVLSTree reaches on 2 and on more nodes [B/s]."
    )
    nvls_channels: Integer = Field(description="Channels of NVLS.")
    send_ll: Bytes = Field(description="Largest message to a peer that goes by LL [B].")
    tree_correction: dict[str, tuple[Number, ...]] = Field(
        description="Protocol -> share of a tree's bandwidth, for each doubling from 64 B on."
    )
    source: str = Field(description="Where the constants are published.")

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
    rail_channels: Integer = Field(
        2,
        gt=0,
        description="Channels of a group between nodes for each NIC beyond `wide_nic`, else two.",
        examples=[4],
    )
    wide_nic: MemoryBandwidth = Field(
        45e9,
        description="Rate of a NIC beyond which it gets `rail_channels` [B/s].",
        examples=["45 GB/s"],
    )
    nvls: Number = Field(
        0.0, ge=0, description="Efficiency of NVLink SHARP; 0: the GPU has none.", examples=[0.85]
    )


class Pat(Data):
    """What NCCL expects of its parallel aggregated trees."""

    base: Seconds = Field(description="Latency of a call [s].", examples=["8 us"])
    rank: Seconds = Field(description="Latency for each rank [s].", examples=["2.8 us"])
    hidden: Number = Field(
        gt=0,
        description="Latency of a tree's round between nodes over that of a round here.",
        examples=[3.5],
    )
    rate: Number = Field(gt=0, le=1, description="Share of a ring's bandwidth.", examples=[0.75])


class Tuner(Data):
    """The constants of NCCL's estimate that all GPUs share."""

    base: Latencies = Field(
        description="Algorithm -> latency of a call [s].",
        examples=[{"ring": ["6.6 us", "14 us", "8.4 us"]}],
    )
    nvlink: Latencies = Field(
        description="Algorithm -> latency of a round inside a node [s].",
        examples=[{"ring": ["0.6 us", "1.9 us", "3.4 us"]}],
    )
    network: Latencies = Field(
        description="Algorithm -> latency of a round between nodes [s].",
        examples=[{"ring": ["2.7 us", "4 us", "14 us"]}],
    )
    overhead: Seconds = Field(
        description="Least latency of a ring's rounds over several nodes, by LL and LL128 [s].",
        examples=["1 us"],
    )
    plateau: Number = Field(
        gt=0,
        description=(
            "Factor on the latencies of all-reduces in rings over several nodes with Simple."
        ),
        examples=[1.4],
    )
    ll_across: tuple[MemoryBandwidth, MemoryBandwidth] = Field(
        description="Most that LL reaches on 2 and on more nodes [B/s].",
        examples=[["39 GB/s", "20.4 GB/s"]],
    )
    nvls_tree_channel: tuple[MemoryBandwidth, MemoryBandwidth] = Field(
        description="Most that a channel of NVLSTree reaches on 2 and on more nodes [B/s].",
        examples=[["57.7 GB/s", "45.5 GB/s"]],
    )
    nvls_channels: Integer = Field(description="Channels of NVLS.")
    nvls_from: Integer = Field(
        gt=0, description="GPUs of a node from which NVLS is taken.", examples=[5]
    )
    channels_across: Integer = Field(
        gt=0,
        description="Channels to which those of a group that spans nodes are doubled at most.",
        examples=[16],
    )
    nic_share: Number = Field(
        gt=0,
        le=1,
        description="Share of NICs' line rate that NCCL's search gives to channels.",
        examples=[0.96],
    )
    pat: Pat = Field(
        description="Gathers and scatters in parallel aggregated trees, of one GPU on each node."
    )
    send_ll: Bytes = Field(
        description="Largest message to a peer that goes by LL [B].", examples=["16384 B"]
    )
    tree_correction: dict[str, tuple[Number, ...]] = Field(
        description="Protocol -> share of a tree's bandwidth, for each doubling from 64 B on.",
        examples=[{"LL": [1.0, 1.0, 0.9]}],
    )
    source: str = Field(
        description="Where the constants are published.",
        examples=["NVIDIA NCCL 2.28, src/graph/tuning.cc"],
    )

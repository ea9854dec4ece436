"""What carries messages between NICs: `simulator/data/fabrics/<name>.yaml`."""

from __future__ import annotations

from pydantic import Field

from simulator.hardware.data import Data
from simulator.units import Seconds


class Transport(Data):
    """A kind of network, as NCCL meets it."""

    name: str = Field(
        description="Name, as topologies write it.", examples=["infiniband", "roce", "efa"]
    )
    latency: Seconds = Field(
        description="Latency of 64 B from NIC to NIC under different leaves [s].",
        examples=["3.7 us"],
    )
    nic_overhead: Seconds | None = Field(
        None,
        description=(
            "What a round of NCCL takes besides that latency, in place of what kernel tables say "
            "[s]."
        ),
        examples=["3 us"],
    )
    source: str = Field(
        description="Where the figures were published.", examples=["arXiv 2505.09343, table 5"]
    )

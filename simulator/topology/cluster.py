"""What a topology file says of one server, of the fabric between servers, and of prices."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from simulator import inputs
from simulator.errors import InputError
from simulator.frozen import FROZEN
from simulator.hardware import Transport
from simulator.units import (
    Bandwidth,
    Dollars,
    Integer,
    MemoryBandwidth,
    Number,
    Power,
    Seconds,
    format_seconds,
)

ROUTINGS = ("adaptive", "ecmp", "shortest", "rail_local")


@cache
def carrier(name: str) -> Transport:
    """Return what is known of a transport."""
    return inputs.validate(inputs.data("fabrics", name), Transport)


def _latency_over(name: str) -> float:
    """Return the latency over a transport [s], 0 over one that is not known, which is said."""
    return carrier(name).latency if name in inputs.data_names("fabrics") else 0.0


class Node(BaseModel):
    """What one server holds."""

    model_config = FROZEN

    gpus: Integer = Field(gt=0, description="Number of GPUs per node.")
    nvlink: Bandwidth = Field(
        gt=0,
        description="NVLink bandwidth of one GPU [B/s in one direction].",
        examples=["400 GB/s bidirectional", "200 GB/s per direction"],
    )
    nics: Integer = Field(
        gt=0,
        description=(
            "Number of NICs per node; neighbouring GPUs share one where there are fewer NICs than "
            "GPUs."
        ),
    )
    nic: Bandwidth = Field(
        gt=0,
        description="Line rate of one NIC [B/s in one direction].",
        examples=["50 GB/s per direction", "400 Gb/s per direction"],
    )
    pcie: Bandwidth | None = Field(
        None,
        gt=0,
        description=(
            "Bandwidth of the PCIe slot of one GPU and of one NIC [B/s in one direction]; without "
            "it, slots are never a bottleneck."
        ),
        examples=["64 GB/s per direction"],
    )
    nvlink_latency: Seconds = Field(
        default="3.33 us",
        validate_default=True,
        description=(
            "Latency from GPU to GPU over NVLink [s]; the default is that of 64 B on H800 "
            "(DeepSeek, arXiv 2505.09343, table 5)."
        ),
        examples=["3.33 us"],
    )

    power_limit: Power | None = Field(
        None,
        gt=0,
        description=(
            "Power limit of one GPU [W], which takes the clock of its SMs down; default: the TDP of "
            "its hardware profile."
        ),
        examples=["500 W"],
    )
    host_memory: MemoryBandwidth = Field(
        default="614.4 GB/s",
        validate_default=True,
        gt=0,
        description=(
            "Bandwidth of the memory of the node's hosts, all together [B/s], at which they update "
            "parameters (training.offload.optimizer); the default is that of a DGX H100's two Xeon "
            "8480C, 16 channels of DDR5-4800."
        ),
        examples=["614.4 GB/s"],
    )

    @field_validator("nics")
    @classmethod
    def _nics_are_shared_evenly(cls, nics: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", nics)
        if gpus % nics:
            divisors = [n for n in range(1, gpus + 1) if gpus % n == 0]
            known = ", ".join(map(str, divisors))
            raise InputError(
                f"NICs cannot be shared evenly by {gpus} GPUs",
                value=nics,
                remedy=f"Choose from: {known}.",
            )
        return nics


class Fabric(BaseModel):
    """What connects the NICs.

    The keys after `seed` belong to single families; FABRICS says which family takes which.

    Every cable runs at the NIC's line rate. A cable between switches takes half of what `latency`
    exceeds `leaf_latency` by, so that two of them, up and down, give `latency`.
    """

    model_config = FROZEN

    kind: str = Field(
        description="Family of the fabric.",
        examples=["rail_optimised", "fat_tree_2", "clos_3", "dragonfly"],
    )
    switch_ports: Integer = Field(
        ge=2,
        description="Number of ports of one switch, each at the NIC's line rate; an even number.",
    )
    transport: str = Field(
        default="infiniband",
        description=(
            "What carries messages between NICs: infiniband, roce or efa (AWS). It says what "
            "NCCL's rounds take, and gives latency its default."
        ),
        examples=["efa"],
    )
    latency: Seconds = Field(
        default_factory=lambda data: _latency_over(data.get("transport", "")),
        description=(
            "Latency of 64 B from NIC to NIC under different leaves, two cables between switches "
            "included [s]; default: the transport's."
        ),
        examples=["3.7 us"],
    )
    leaf_latency: Seconds = Field(
        default_factory=lambda data: data.get("latency", 0.0),
        description="Latency of 64 B from NIC to NIC under one leaf [s]; default: latency.",
        examples=["2.7 us"],
    )
    routing: str = Field(
        default="",
        description=(
            f"How traffic is spread over the paths, one of {', '.join(ROUTINGS)}; default: "
            "rail_local where the family has rails, otherwise adaptive."
        ),
        examples=["ecmp"],
    )
    seed: Integer = Field(
        default=0, ge=0, description="Seed of the hash with which routing ecmp picks paths."
    )
    planes: Integer = Field(
        default=0,
        ge=0,
        description="Number of planes of multi_plane; default: one for each NIC of a node.",
    )
    rails: Integer = Field(
        default=0,
        ge=0,
        description=(
            "Number of rails of nvl72's scale-out network; default: 4, one for each GPU of a "
            "compute tray."
        ),
    )
    leaf_gpus: Integer = Field(
        default=0,
        ge=0,
        description="Number of GPUs under one leaf of clos_3; default: as many as its down ports.",
    )
    pod_gpus: Integer = Field(default=0, ge=0, description="Number of GPUs of one pod of clos_3.")
    spine_ports: Integer = Field(
        default=0,
        ge=0,
        description="Number of ports of a switch above clos_3's leaves; default: switch_ports.",
    )
    oversubscription: tuple[Number, ...] = Field(
        default=(),
        description=(
            "Oversubscription of clos_3, at the leaf and at the pod: bandwidth below over "
            "bandwidth above."
        ),
        examples=[[1, 7]],
    )
    group_routers: Integer = Field(
        default=0, ge=0, description="Number of routers of one group of dragonfly (a)."
    )
    global_ports: Integer = Field(
        default=0,
        ge=0,
        description="Ports of one dragonfly router to other groups (h); default: a / 2.",
    )
    router_nics: Integer = Field(
        default=0,
        ge=0,
        description=(
            "Number of NICs on one router (p) of dragonfly (default: a / 2) and of slim_fly "
            "(default: half of its network ports)."
        ),
    )
    groups: Integer = Field(
        default=0,
        ge=0,
        description="Number of groups of dragonfly; default: as few as hold the nodes.",
    )
    q: Integer = Field(
        default=0, ge=0, description="Prime power of slim_fly, which has 2 q^2 routers."
    )
    dims: tuple[Integer, ...] = Field(
        default=(),
        description="Number of switches of torus_3d in each dimension.",
        examples=[[4, 4, 4]],
    )
    cables: Integer = Field(
        default=1, gt=0, description="Number of cables between two neighbours of torus_3d."
    )
    file: str = Field(
        default="",
        description=(
            "Graph of a custom fabric, .graphml or node-link .json; the path is relative to the "
            "topology file."
        ),
        examples=["my-fabric.graphml"],
    )

    @field_validator("transport")
    @classmethod
    def _transport_is_known(cls, transport: str) -> str:
        known = inputs.data_names("fabrics")
        if transport not in known:
            raise InputError(
                "is not a known transport",
                value=transport,
                remedy=f"Choose from: {', '.join(known)}.",
            )
        return transport

    @field_validator("switch_ports")
    @classmethod
    def _ports_are_even(cls, ports: int) -> int:
        if ports % 2:
            raise InputError(
                "ports cannot be halved into down and up",
                value=ports,
                remedy=f"Write {ports - 1} or {ports + 1}.",
            )
        return ports

    @field_validator("leaf_latency")
    @classmethod
    def _leaf_is_nearer(cls, leaf_latency: float, info: ValidationInfo) -> float:
        latency = info.data.get("latency", math.inf)  # missing where it is wrong itself
        if leaf_latency > latency:
            raise InputError(
                f"within a leaf exceeds the latency across leaves, {format_seconds(latency)}",
                value=format_seconds(leaf_latency),
                remedy="Write at most fabric.latency, or leave leaf_latency out.",
            )
        return leaf_latency

    @field_validator("routing")
    @classmethod
    def _routing_is_known(cls, routing: str) -> str:
        if routing and routing not in ROUTINGS:
            raise InputError(
                "is not a known routing",
                value=routing,
                remedy=f"Choose from: {', '.join(ROUTINGS)}.",
            )
        return routing

    @field_validator("oversubscription")
    @classmethod
    def _two_tiers(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if len(ratios) != 2 or min(ratios) < 1:
            raise InputError(
                "is not one ratio of at least 1 for the leaf and one for the pod",
                value=list(ratios),
                remedy="Write for example [1, 7].",
            )
        return ratios

    @field_validator("dims")
    @classmethod
    def _three_dimensions(cls, dims: tuple[int, ...]) -> tuple[int, ...]:
        if len(dims) != 3 or min(dims) < 1:
            raise InputError(
                "are not three numbers of switches",
                value=list(dims),
                remedy="Write for example [4, 4, 4].",
            )
        return dims

    @field_validator("file")
    @classmethod
    def _seen_from_the_topology_file(cls, file: str, info: ValidationInfo) -> str:
        context = info.context or {}
        owner = context.get("file", "")
        if not owner:  # the configuration was made in Python
            return file
        return str(Path(owner).parent / file)

    @property
    def carrier(self) -> Transport:
        """Return what is known of the transport."""
        return carrier(self.transport)

    @property
    def hop(self) -> float:
        """Return the latency of one cable between switches [s]."""
        return (self.latency - self.leaf_latency) / 2  # one cable up and one down


class Prices(BaseModel):
    """What the parts of a network cost."""

    model_config = FROZEN

    switch: Dollars = Field(description="Price of one switch [USD].", examples=["20 kUSD"])
    cable: Dollars = Field(
        description=(
            "Price of one cable with its transceivers, between switches or to a NIC [USD]."
        ),
        examples=["1000 USD"],
    )
    nic: Dollars = Field(description="Price of one NIC [USD].", examples=["1500 USD"])


class Cluster(BaseModel):
    """Equal nodes and the fabric between them: what a family builds from."""

    model_config = FROZEN

    name: str = Field(description="Name of the cluster in reports.", examples=["h800-2048"])
    gpu: str = Field(
        description="Hardware profile of every GPU.", examples=["a100", "h100", "h800", "b200"]
    )
    nodes: Integer = Field(gt=0, description="Number of nodes (servers, or racks of NVL72).")
    node: Node = Field(description="What one node holds.")
    fabric: Fabric = Field(description="The network between nodes.")

    @property
    def gpus(self) -> int:
        """Return the number of GPUs of the cluster."""
        return self.nodes * self.node.gpus

    @property
    def nics(self) -> int:
        """Return the number of NICs of the cluster."""
        return self.nodes * self.node.nics

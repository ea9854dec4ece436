"""What a topology file says of one server, of the fabric between servers, and of prices."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from simulator.errors import InputError
from simulator.units import Bandwidth, Seconds, format_seconds, parse

FROZEN = ConfigDict(frozen=True, extra="forbid")
ROUTINGS = ("adaptive", "ecmp", "shortest", "rail_local")


def _dollars(value: object) -> float:
    return parse(value, {"USD": 1.0, "kUSD": 1e3}, "20000 USD")


Dollars = Annotated[float, BeforeValidator(_dollars)]


def _whole(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    remedy = "Write a number without quotes, for example 8."
    if isinstance(value, float):
        remedy = f"Write {value:.0f}." if value.is_integer() else "Write a number without decimals."
    elif str(value).strip().isdigit():
        remedy = f"Write {str(value).strip()} without quotes."
    raise InputError("is no whole number", value=value, remedy=remedy)


Whole = Annotated[int, BeforeValidator(_whole)]
"""A whole number as such: no text, no true or false, no 8.0."""


class Node(BaseModel):
    """What one server holds."""

    model_config = FROZEN

    gpus: Whole = Field(gt=0, description="GPUs per node")
    nvlink: Bandwidth = Field(gt=0, description="NVLink of one GPU [B/s in one direction]")
    nics: Whole = Field(
        gt=0,
        description="NICs per node; neighbouring GPUs share one where there are fewer than GPUs",
    )
    nic: Bandwidth = Field(gt=0, description="line rate of one NIC [B/s in one direction]")
    pcie: Bandwidth | None = Field(
        None,
        gt=0,
        description="PCIe slot of one GPU, and of one NIC [B/s in one direction]; left out, no slot is a bottleneck",
    )
    nvlink_latency: Seconds = Field(
        default="3.33 us",
        validate_default=True,
        description="GPU to GPU over NVLink [s]; default: 64 B on H800, DeepSeek, arXiv 2505.09343 table 5",
    )

    @field_validator("nics")
    @classmethod
    def _nics_are_shared_evenly(cls, nics: int, info: ValidationInfo) -> int:
        gpus = info.data.get("gpus", nics)
        if gpus % nics:
            divisors = ", ".join(str(n) for n in range(1, gpus + 1) if gpus % n == 0)
            raise InputError(
                f"NICs cannot be shared evenly by {gpus} GPUs",
                value=nics,
                remedy=f"Write one of {divisors}.",
            )
        return nics


class Fabric(BaseModel):
    """What connects the NICs. The keys after `seed` belong to single families; FABRICS says which family takes which.

    Every cable runs at the NIC's line rate. A cable between switches takes half of what `latency`
    exceeds `leaf_latency` by, so that two of them, up and down, give `latency`.
    """

    model_config = FROZEN

    kind: str = Field(description="family, a row of FABRICS")
    switch_ports: Whole = Field(
        ge=2, description="ports of one switch, each at the NIC's line rate; even"
    )
    latency: Seconds = Field(
        description="NIC to NIC across leaves, two cables between switches, 64 B [s]"
    )
    leaf_latency: Seconds = Field(
        default_factory=lambda data: data.get("latency", 0.0),
        description="NIC to NIC within one leaf, 64 B [s]; default: latency",
    )
    routing: str = Field(
        default="",
        description=f"one of {', '.join(ROUTINGS)}; default: rail_local where the family has rails, else adaptive",
    )
    seed: Whole = Field(default=0, ge=0, description="of the hash of routing ecmp")
    planes: Whole = Field(
        default=0, ge=0, description="planes of multi_plane; default: one per NIC of a node"
    )
    rails: Whole = Field(
        default=0,
        ge=0,
        description="rails of nvl72's scale-out network; default: 4, one per GPU of a compute tray",
    )
    leaf_gpus: Whole = Field(
        default=0, ge=0, description="GPUs under one leaf of clos_3; default: all its down ports"
    )
    pod_gpus: Whole = Field(default=0, ge=0, description="GPUs of one pod of clos_3")
    spine_ports: Whole = Field(
        default=0, ge=0, description="ports of a switch above clos_3's leaves; default: as leaves"
    )
    oversubscription: tuple[Annotated[float, Field(strict=True)], ...] = Field(
        default=(),
        description="of clos_3: bandwidth below over bandwidth above, at the leaf and at the pod",
    )
    group_routers: Whole = Field(
        default=0, ge=0, description="routers of one group of dragonfly, a"
    )
    global_ports: Whole = Field(
        default=0,
        ge=0,
        description="ports of one dragonfly router to other groups, h; default: a / 2",
    )
    router_nics: Whole = Field(
        default=0,
        ge=0,
        description="NICs on one router, p, of dragonfly (default: a / 2) and "
        "slim_fly (default: half of its network ports)",
    )
    groups: Whole = Field(
        default=0, ge=0, description="groups of dragonfly; default: as few as hold the nodes"
    )
    q: Whole = Field(default=0, ge=0, description="slim_fly's prime power; 2 q^2 routers")
    dims: tuple[Whole, ...] = Field(
        default=(), description="switches of torus_3d in each dimension"
    )
    cables: Whole = Field(default=1, gt=0, description="cables between neighbours of torus_3d")
    file: str = Field(
        default="",
        description="graph of a custom fabric: .graphml or node-link .json, as a path seen "
        "from the topology file",
    )

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
        if leaf_latency > info.data.get("latency", math.inf):
            raise InputError(
                f"within a leaf exceeds the latency across leaves, {format_seconds(info.data['latency'])}",
                value=format_seconds(leaf_latency),
                remedy="Write at most fabric.latency, or leave leaf_latency out.",
            )
        return leaf_latency

    @field_validator("routing")
    @classmethod
    def _routing_is_known(cls, routing: str) -> str:
        if routing and routing not in ROUTINGS:
            raise InputError(
                "is no routing known here", value=routing, remedy=f"Known: {', '.join(ROUTINGS)}."
            )
        return routing

    @field_validator("oversubscription")
    @classmethod
    def _two_tiers(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if len(ratios) != 2 or not all(1 <= ratio < math.inf for ratio in ratios):
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
        from pathlib import Path

        owner: Any = (info.context or {}).get("file", "")
        return str(Path(owner).parent / file) if owner else file

    @property
    def hop(self) -> float:
        """Return the latency of one cable between switches [s]."""
        return (self.latency - self.leaf_latency) / 2


class Prices(BaseModel):
    """What the parts of a network cost."""

    model_config = FROZEN

    switch: Dollars = Field(description="one switch [USD]")
    cable: Dollars = Field(
        description="one cable with its transceivers, between switches or to a NIC [USD]"
    )
    nic: Dollars = Field(description="one NIC [USD]")


class Cluster(BaseModel):
    """Equal nodes and the fabric between them: what a family builds from."""

    model_config = FROZEN

    name: str = Field(description="name for reports")
    gpu: str = Field(description="hardware profile of every GPU")
    nodes: Whole = Field(gt=0, description="servers")
    node: Node = Field(description="one server")
    fabric: Fabric = Field(description="the network between servers")

    @property
    def gpus(self) -> int:
        """Return the number of GPUs of the cluster."""
        return self.nodes * self.node.gpus

    @property
    def nics(self) -> int:
        """Return the number of NICs of the cluster."""
        return self.nodes * self.node.nics

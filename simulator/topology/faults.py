"""What is down or unlike the rest: links, switches, NICs, planes and GPUs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, Field, model_validator

from simulator.errors import InputError, LayoutError
from simulator.frozen import FROZEN
from simulator.topology.cabling import Cabling, Vertex
from simulator.topology.cluster import Cluster
from simulator.topology.switches import Switches, text
from simulator.units import Bandwidth, Integer, Number

EFFECTS = {
    "link": {"down", "bandwidth"},
    "switch": {"down"},
    "nic": {"down", "bandwidth"},
    "plane": {"down"},
    "gpu": {"down", "speed", "nvlink"},
}
"""part -> what can be wrong with it."""


class Fault(BaseModel):
    """One part of the cluster and what is wrong with it.

    `{nic: [3, 0], bandwidth: 25 GB/s per direction}`
    """

    model_config = FROZEN

    link: str = Field(
        "",
        description="All cables between two switches, by the names of the switches.",
        examples=["leaf0.1 - spine3"],
    )
    switch: str = Field("", description="A switch, by its name.", examples=["spine3"])
    nic: tuple[Integer, Integer] | None = Field(
        None, description="A NIC, by its node and its index in the node.", examples=[[3, 0]]
    )
    plane: Integer | None = Field(
        None, ge=0, description="A plane of multi_plane with all its switches, by its index."
    )
    gpu: Integer | None = Field(None, ge=0, description="A GPU, by its rank.")
    down: bool = Field(False, description="Whether the part carries or computes nothing at all.")
    bandwidth: Bandwidth | None = Field(
        None,
        gt=0,
        description="What is left of a NIC, or of each cable of a link [B/s in one direction].",
        examples=["25 GB/s per direction"],
    )
    speed: Number | None = Field(
        None,
        gt=0,
        le=1,
        description="Speed of a GPU's kernels relative to those of a healthy GPU.",
        examples=[0.9],
    )
    nvlink: Bandwidth | None = Field(
        None,
        gt=0,
        description="What is left of the NVLink of a GPU [B/s in one direction].",
        examples=["100 GB/s per direction"],
    )

    @model_validator(mode="after")
    def _one_part_one_effect(self) -> Fault:
        # What the file says, not the values: `down: false` names an effect too.
        given = self.model_fields_set
        parts = sorted(given & set(EFFECTS))
        if len(parts) != 1:
            known = ", ".join(EFFECTS)
            raise InputError(f"names {len(parts)} parts", remedy=f"Choose from: {known}.")
        part = parts[0]
        effects = given - {part}
        possible = ", ".join(sorted(EFFECTS[part]))
        wrong = sorted(effects - EFFECTS[part])
        if wrong:
            raise InputError(
                f"is not a fault that a {part} can have",
                value=wrong[0],
                remedy=f"Choose from: {possible}.",
            )
        if not self.down and not effects - {"down"}:
            raise InputError(
                f"is a {part} without a fault",
                value=getattr(self, part),
                remedy=f"Add {possible}.",
            )
        return self


@dataclass(frozen=True, slots=True)
class Damage:
    """What faults leave of the servers."""

    gpu_down: frozenset[int] = frozenset()
    """Ranks of the GPUs that are down."""
    speed: dict[int, float] = field(default_factory=dict)
    """Rank -> speed relative to a healthy GPU's."""
    nvlink: dict[int, float] = field(default_factory=dict)
    """Rank -> bandwidth of its NVLink [B/s in one direction]."""
    nic: dict[int, float] = field(default_factory=dict)
    """Number of a NIC, node * nics + j -> bandwidth [B/s], 0 if it is down."""


def apply(faults: Iterable[Fault], switches: Switches, cluster: Cluster) -> tuple[Switches, Damage]:
    """Return what is left of the switches and of the servers.

    Errors: LayoutError on a part that is not there.
    """
    faulty = _Faulty(cluster, switches, switches.cabling.copy())
    for number, fault in enumerate(faults):
        try:
            faulty.apply(fault)
        except LayoutError as error:
            raise error.at(key=f"faults.{number}") from error
    # A NIC whose switch is down leads nowhere.
    cabling = faulty.cabling
    home = tuple(vertex if vertex in cabling else () for vertex in switches.home)
    left = replace(switches, cabling=cabling, home=home)
    damage = replace(faulty.damage, gpu_down=frozenset(faulty.down))
    return left, damage


class _Faulty:
    """Applies faults one after another. Local state of `apply`."""

    def __init__(self, cluster: Cluster, switches: Switches, cabling: Cabling) -> None:
        self.cluster = cluster
        self.whole = switches.cabling
        self.cabling = cabling  # what faults leave of the whole
        self.names: dict[str, Vertex] = {}
        for vertex in cabling:
            self.names[text(vertex)] = vertex
        self.down: set[int] = set()  # ranks of GPUs
        self.damage = Damage()

    def apply(self, fault: Fault) -> None:
        """Take one fault into account. Errors: LayoutError on a part that is not there."""
        if fault.gpu is not None:
            self._gpu(fault.gpu, fault)
        elif fault.nic is not None:
            node, nic = fault.nic
            number = self._nic(node, nic)
            width = fault.bandwidth or 0.0
            self.damage.nic[number] = 0.0 if fault.down else width
        elif fault.link:
            self._link(fault)
        elif fault.switch:
            self.cabling.remove([self._switch(fault.switch)])
        elif fault.plane is not None:
            self.cabling.remove(self._plane(fault.plane))

    def _gpu(self, gpu: int, fault: Fault) -> None:
        # One fault may say several of these.
        rank = _within(gpu, self.cluster.gpus, "GPU")
        if fault.down:
            self.down.add(rank)
        if fault.speed is not None:
            self.damage.speed[rank] = fault.speed
        if fault.nvlink is not None:
            self.damage.nvlink[rank] = fault.nvlink

    def _nic(self, node: int, nic: int) -> int:
        nics = self.cluster.node.nics
        first = nics * _within(node, self.cluster.nodes, "node")
        return first + _within(nic, nics, "NIC of a node")

    def _link(self, fault: Fault) -> None:
        ends = [end.strip() for end in fault.link.split(" - ")]
        if len(ends) != 2:
            raise LayoutError(
                "does not name two switches",
                value=fault.link,
                remedy="Write for example 'leaf0.1 - spine3'.",
            )
        first, second = (self._switch(end) for end in ends)
        if not self.whole.joined(first, second):
            raise LayoutError("are not joined by a cable", value=fault.link)
        # The whole fabric has the cable, but it went down with one of its switches.
        if not self.cabling.joined(first, second):
            return
        if fault.down:
            self.cabling.part(first, second)
        else:
            trunk = self.cabling.between(first, second)
            self.cabling.join(first, second, trunk._replace(bandwidth=fault.bandwidth or 0.0))

    def _switch(self, name: str) -> Vertex:
        if name in self.names:
            return self.names[name]
        # A typing error, or another family's way to number its switches.
        near = difflib.get_close_matches(name, self.names, n=3)
        remedy = "`simulate topology` names its kinds."
        if near:
            remedy = f"Did you mean {' or '.join(near)}?"
        raise LayoutError("is not a switch of this cluster", value=name, remedy=remedy)

    def _plane(self, plane: int) -> list[Vertex]:
        """Return the switches of a plane, whose first index is the plane's."""
        if self.cluster.fabric.kind != "multi_plane":
            raise LayoutError(
                "is a plane, and this fabric has none",
                value=plane,
                remedy="Only fabric.kind multi_plane has planes.",
            )
        planes = self.cluster.fabric.planes or self.cluster.node.nics
        _within(plane, planes, "plane")
        return [vertex for vertex in self.whole if vertex[1] == plane]


def _within(number: int, count: int, what: str) -> int:
    if not 0 <= number < count:
        raise LayoutError(
            f"is not a {what} of this cluster",
            value=number,
            remedy=f"They go from 0 to {count - 1}.",
        )
    return number

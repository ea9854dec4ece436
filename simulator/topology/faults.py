"""What is broken or unlike the rest: links, switches, NICs, planes and GPUs that are down or slow."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pydantic import BaseModel, Field, model_validator

from simulator.errors import InputError, LayoutError
from simulator.topology.parts import FROZEN, Cluster, Whole
from simulator.topology.switches import Switches, Vertex, text
from simulator.units import Bandwidth

_EFFECTS = {
    "link": {"down", "bandwidth"},
    "switch": {"down"},
    "nic": {"down", "bandwidth"},
    "plane": {"down"},
    "gpu": {"down", "speed", "nvlink"},
}
"""part -> what can be wrong with it."""


class Fault(BaseModel):
    """One part of the cluster and what is wrong with it: `{nic: [3, 0], bandwidth: 25 GB/s per direction}`."""

    model_config = FROZEN

    link: str = Field("", description="all cables between two switches, `leaf0.1 - spine3`")
    switch: str = Field("", description="a switch, `spine3`")
    nic: tuple[Whole, Whole] | None = Field(
        None, description="a NIC: its node and its number there"
    )
    plane: Whole | None = Field(None, ge=0, description="a plane of multi_plane, all its switches")
    gpu: Whole | None = Field(None, ge=0, description="a GPU, by rank")
    down: bool = Field(False, description="carries or computes nothing")
    bandwidth: Bandwidth | None = Field(
        None, gt=0, description="of a NIC, or of each cable of a link [B/s]"
    )
    speed: float | None = Field(
        None, gt=0, le=1, strict=True, description="of a GPU's kernels, 1 for a healthy one's"
    )
    nvlink: Bandwidth | None = Field(None, gt=0, description="of a GPU [B/s in one direction]")

    @model_validator(mode="after")
    def _one_part_one_effect(self) -> Fault:
        given = self.model_fields_set
        parts = sorted(given & set(_EFFECTS))
        if len(parts) != 1:
            raise InputError(
                f"names {len(parts)} parts", remedy=f"Write one of {', '.join(_EFFECTS)}."
            )
        effects = given - set(parts)
        wrong = sorted(effects - _EFFECTS[parts[0]])
        known = ", ".join(sorted(_EFFECTS[parts[0]]))
        if wrong:
            raise InputError(
                f"is nothing that a {parts[0]} has", value=wrong[0], remedy=f"Write one of {known}."
            )
        if not self.down and not effects - {"down"}:
            raise InputError(
                f"of a {parts[0]} says nothing",
                value=getattr(self, parts[0]),
                remedy=f"Add {known}.",
            )
        return self


@dataclass(frozen=True, slots=True)
class Damage:
    """What faults leave of the servers.

    gpu_down: ranks. speed, nvlink: rank -> value. nic: its number -> bandwidth [B/s], 0 if it is
    down.
    """

    gpu_down: frozenset[int] = frozenset()
    speed: dict[int, float] = field(default_factory=dict)
    nvlink: dict[int, float] = field(default_factory=dict)
    nic: dict[int, float] = field(default_factory=dict)


def apply(faults: Iterable[Fault], switches: Switches, cluster: Cluster) -> tuple[Switches, Damage]:
    """Return what is left of the switches and of the servers. Errors: LayoutError on a part that is not there."""
    graph = switches.graph.copy()
    names = {text(vertex): vertex for vertex in graph}
    down: set[int] = set()
    damage = Damage()
    for number, fault in enumerate(faults):
        try:
            if fault.gpu is not None:
                _gpu(fault, cluster, damage, down)
            elif fault.nic is not None:
                node, nic = fault.nic
                _within(node, cluster.nodes, "node")
                _within(nic, cluster.node.nics, "NIC of a node")
                damage.nic[node * cluster.node.nics + nic] = (
                    0.0 if fault.down else (fault.bandwidth or 0.0)
                )
            elif fault.link:
                one, other = _link(fault.link, names, switches.graph.has_edge)
                if not graph.has_edge(one, other):
                    continue  # it went down with a switch
                if fault.down:
                    graph.remove_edge(one, other)
                else:
                    graph.edges[one, other]["bandwidth"] = fault.bandwidth
            elif fault.switch:
                graph.remove_nodes_from([_switch(fault.switch, names)])
            else:
                graph.remove_nodes_from(_plane(fault.plane or 0, list(switches.graph), cluster))
        except LayoutError as error:
            raise error.at(key=f"faults.{number}") from error
    home = tuple(vertex if vertex in graph else () for vertex in switches.home)
    return replace(switches, graph=graph, home=home), replace(damage, gpu_down=frozenset(down))


def _gpu(fault: Fault, cluster: Cluster, damage: Damage, down: set[int]) -> None:
    rank = _within(fault.gpu or 0, cluster.gpus, "GPU")
    if fault.down:
        down.add(rank)
    if fault.speed is not None:
        damage.speed[rank] = fault.speed
    if fault.nvlink is not None:
        damage.nvlink[rank] = fault.nvlink


def _within(number: int, count: int, what: str) -> int:
    if not 0 <= number < count:
        raise LayoutError(
            f"is no {what} of this cluster", value=number, remedy=f"They go from 0 to {count - 1}."
        )
    return number


def _switch(name: str, names: dict[str, Vertex]) -> Vertex:
    if name in names:
        return names[name]
    near = difflib.get_close_matches(name, names, n=3)
    raise LayoutError(
        "is no switch of this cluster",
        value=name,
        remedy=f"Near are {', '.join(near)}." if near else "`simulate topology` names its kinds.",
    )


def _link(name: str, names: dict[str, Vertex], joined: object) -> tuple[Vertex, Vertex]:
    ends = [end.strip() for end in name.split(" - ")]
    if len(ends) != 2:
        raise LayoutError(
            "does not name two switches", value=name, remedy="Write for example 'leaf0.1 - spine3'."
        )
    one, other = (_switch(end, names) for end in ends)
    if not joined(one, other):  # type: ignore[operator]
        raise LayoutError("are not joined by a cable", value=name)
    return one, other


def _plane(plane: int, vertices: list[Vertex], cluster: Cluster) -> list[Vertex]:
    if cluster.fabric.kind != "multi_plane":
        raise LayoutError(
            "is in no fabric of planes",
            value=plane,
            remedy="Only fabric.kind multi_plane has planes.",
        )
    _within(plane, cluster.fabric.planes or cluster.node.nics, "plane")
    return [vertex for vertex in vertices if vertex[1] == plane]

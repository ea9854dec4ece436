"""The links of a cluster as arrays, and the routes over them: what the simulation runs on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.errors import LayoutError
from simulator.topology.config import TopologyConfig
from simulator.topology.families import FABRICS
from simulator.topology.faults import Damage, apply
from simulator.topology.routing import Line, Paths, paths
from simulator.topology.switches import Switches, text

Ids: TypeAlias = NDArray[np.int64]
Leg: TypeAlias = tuple[tuple[int, ...], int, int, tuple[int, ...]]
"""links before the first switch, that switch, the last switch, links after it"""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The links of a cluster and the routes over them.

    capacity: [link] B/s. latency: [link] s. kind: [link] nvlink, nic, fabric, pcie. name: [link],
    `gpu3.7->nvswitch3`. The rank of a GPU is g = node * gpus_per_node + i. gpu_up, gpu_down: [g]
    NVLink link to and from the NVSwitch. nic_up, nic_down: [g] link from and to the NIC that GPU
    uses, -1 where there is none; equal for GPUs that share it. rail: [g] index of that NIC in its
    node, -1. leaf: [g] leaf that it hangs on, -1. leaf_up, leaf_down: [leaf] the bundle to and from
    what is above it, -1 where there is no single one (a lone leaf, routing by single cables,
    fabrics that are no tree): there only `route` and `spread` know the links. speed: [g] of its
    kernels relative to a healthy GPU's, 0 if it is down. switch: [node * nics + j] where a NIC hangs
    in `paths`, -1 if it is down or cut off; part: [node * nics + j] connected part of the fabric,
    -1. pcie: [g] link from a GPU to the PCIe switch of its NIC; slot: [node * nics + j] link from
    there to that NIC; the next one leads back. -1 where the file gives no `node.pcie`.
    """

    capacity: NDArray[np.float64]
    latency: NDArray[np.float64]
    kind: tuple[str, ...]
    name: tuple[str, ...]
    gpus_per_node: int
    gpu_up: Ids
    gpu_down: Ids
    nic_up: Ids
    nic_down: Ids
    rail: Ids
    leaf: Ids
    leaf_up: Ids
    leaf_down: Ids
    speed: NDArray[np.float64]
    nics_per_node: int
    switch: tuple[int, ...]
    part: tuple[int, ...]
    nic_links: tuple[int, ...]
    paths: Paths
    pcie: Ids
    slot: Ids

    def node_of(self, g: int) -> int:
        """Return the node of a GPU."""
        return g // self.gpus_per_node

    def route(self, src: int, dst: int) -> tuple[tuple[int, ...], float]:
        """Return the links from one GPU to another, in order, and the latency of the way [s].

        With rail_local, between rails the way leads over NVLink to the GPU of the destination's
        rail in the own node, and leaves through its NIC (PXN, NCCL 2.12); the same where a GPU's
        own NIC does not reach the destination's. A GPU reaches itself over no link. Errors:
        LayoutError on an unknown rank, one that is down or one cut off.
        """
        self._check(src, dst)
        if self.node_of(src) == self.node_of(dst):
            links = self._within_node(src, dst)
        else:
            before, here, there, after = self._legs(src, dst)
            links = (*before, *self.paths.way(here, there, src, dst), *after)
        return links, sum(float(self.latency[link]) for link in links)

    def spread(self, src: int, dst: int) -> tuple[dict[int, float], float]:
        """Return link -> share of the traffic from one GPU to another, and the latency [s].

        Every share is 1 where there is one way; with ideal spreading over unlike ways they sum to 1
        across each cut. Errors: as `route`.
        """
        links, latency = self.route(src, dst)
        if self.paths.routing in ("ecmp", "shortest") or self.node_of(src) == self.node_of(dst):
            return dict.fromkeys(links, 1.0), latency
        before, here, there, after = self._legs(src, dst)
        return {**dict.fromkeys((*before, *after), 1.0), **self.paths.spread(here, there)}, latency

    def _check(self, *ranks: int) -> None:
        for g in ranks:
            if not 0 <= g < len(self.gpu_up):
                raise LayoutError(
                    "is not a GPU of this cluster",
                    value=g,
                    remedy=f"Ranks go to {len(self.gpu_up) - 1}.",
                )
            if self.gpu_up[g] < 0:
                raise LayoutError(
                    "is a GPU that is down", value=g, remedy="Take it out of the group."
                )

    def _within_node(self, src: int, dst: int) -> tuple[int, ...]:
        return () if src == dst else (int(self.gpu_up[src]), int(self.gpu_down[dst]))

    def _legs(self, src: int, dst: int) -> Leg:
        """Return the way to the fabric and from it, through a NIC at each end that reaches the other."""
        for out, home in self._nics(src, dst):
            if self.part[out] >= 0 and self.part[out] == self.part[home]:
                leave, arrive = self._carrier(out, src, dst), self._carrier(home, dst, dst)
                before = (
                    *self._within_node(src, leave),
                    *self._slots(leave, out),
                    self.nic_links[out],
                )
                back = (link + 1 for link in reversed(self._slots(arrive, home)))
                after = (self.nic_links[home] + 1, *back, *self._within_node(arrive, dst))
                return before, self.switch[out], self.switch[home], after
        raise LayoutError(
            f"is cut off from GPU {dst}: no NIC of its node reaches one of node {self.node_of(dst)}",
            value=src,
            key="faults",
            remedy="Mend a link, switch or NIC between them.",
        )

    def _slots(self, g: int, nic: int) -> tuple[int, ...]:
        """Return the links from a GPU to a NIC of its PCIe switch."""
        return (int(self.pcie[g]), int(self.slot[nic])) if self.pcie[g] >= 0 else ()

    def _nics(self, src: int, dst: int) -> Iterable[tuple[int, int]]:
        """Return pairs of NICs to try, the best first: own, or that of the destination's rail, then any."""
        here, there = self.node_of(src) * self.nics_per_node, self.node_of(dst) * self.nics_per_node
        own, theirs = here + int(self.rail[src]), there + int(self.rail[dst])
        direct, railed = (own, theirs), (here + int(self.rail[dst]), theirs)
        yield from (railed, direct) if self.paths.routing == "rail_local" else (direct, railed)
        yield from ((own, there + j) for j in range(self.nics_per_node))
        yield from (
            (here + i, there + j)
            for i in range(self.nics_per_node)
            for j in range(self.nics_per_node)
        )

    def _carrier(self, nic: int, g: int, dst: int) -> int:
        """Return the GPU through which another of its node uses a NIC: itself, the destination's peer, or the first."""
        share = self.gpus_per_node // self.nics_per_node
        base = self.node_of(g) * self.gpus_per_node
        first = base + nic % self.nics_per_node * share
        sharers = [rank for rank in range(first, first + share) if self.gpu_up[rank] >= 0]
        return next(
            (rank for rank in (g, base + dst % self.gpus_per_node) if rank in sharers), sharers[0]
        )


@lru_cache(maxsize=4)  # alternatives of a run share their cluster
def network(config: TopologyConfig, *, partial: bool = False) -> Network:
    """Return the links of a cluster as arrays.

    partial: also where GPUs are down, for those that are not. Errors: LayoutError if the fabric
    cannot hold these nodes, if faults cut some of them off, or if a GPU is down that a run would
    count on.
    """
    switches, damage = build(config)
    if damage.gpu_down and not partial:
        raise LayoutError(
            "is down, and a run takes all GPUs",
            value=min(damage.gpu_down),
            key="faults",
            remedy="Take it out of `faults`, or leave its node out: lower `nodes`.",
        )
    return _arrays(config, switches, damage)


def build(config: TopologyConfig) -> tuple[Switches, Damage]:
    """Return the switches of a cluster and what faults leave of it. Errors: LayoutError."""
    switches = FABRICS[config.fabric.kind].build(config)
    if not config.faults:
        return switches, Damage()
    return apply(config.faults, switches, config)


def _arrays(config: TopologyConfig, switches: Switches, damage: Damage) -> Network:
    """Return the network: links of NVLink, then NICs, then between switches, then PCIe, each there and back."""
    ranks = np.arange(config.gpus)
    healthy = np.ones(config.gpus, dtype=bool)
    healthy[sorted(damage.gpu_down)] = False
    up = np.where(healthy, 2 * (np.cumsum(healthy) - 1), -1)
    nics, place = _nics(config, switches, damage, healthy), 2 * int(healthy.sum())
    nic_links = [-1] * config.nics if switches.home else []
    for number in nics:
        nic_links[number], place = place, place + 2
    ways = paths(switches, config.routing, config.fabric.seed, place)
    switch = [-1] * len(nic_links)
    part = list(switch)
    for number in nics:
        home = switches.home[number]
        switch[number] = ways.number[home]
        part[number] = ways.part[home]
    _check_whole(config, part)
    uses = _uses(config, part)
    named = _lines(config, switches, damage, ranks[healthy], nics)
    slots, pcie, slot = _pcie(config, ranks[healthy], nics, place + len(ways.lines))
    lines = [*named, *ways.lines, *slots]
    own = np.where(uses >= 0, np.array([*nic_links, -1])[uses], -1)
    net = Network(
        capacity=_frozen([line[1] for line in lines], np.float64),
        latency=_frozen([line[2] for line in lines], np.float64),
        kind=("nvlink",) * (2 * int(healthy.sum()))
        + ("nic",) * (2 * len(nics))
        + ("fabric",) * len(ways.lines)
        + ("pcie",) * len(slots),
        name=tuple(line[0] for line in lines),
        gpus_per_node=config.node.gpus,
        gpu_up=_frozen(up, np.int64),
        gpu_down=_frozen(np.where(healthy, up + 1, -1), np.int64),
        nic_up=_frozen(own, np.int64),
        nic_down=_frozen(np.where(own >= 0, own + 1, -1), np.int64),
        rail=_frozen(np.where(uses >= 0, uses % config.node.nics, -1), np.int64),
        leaf=_frozen(np.full(config.gpus, -1), np.int64),
        leaf_up=_frozen([], np.int64),
        leaf_down=_frozen([], np.int64),
        speed=_frozen(np.where(healthy, _speeds(config, damage), 0.0), np.float64),
        nics_per_node=config.node.nics,
        switch=tuple(switch),
        part=tuple(part),
        nic_links=tuple(nic_links),
        paths=ways,
        pcie=pcie,
        slot=slot,
    )
    return _with_leaves(net, np.where(uses >= 0, np.array([*switch, -1])[uses], -1))


def _speeds(config: TopologyConfig, damage: Damage) -> NDArray[np.float64]:
    """Return the speed of each GPU [g]: a fault's, times what jitter leaves of it."""
    faulty: NDArray[np.float64] = np.array([damage.speed.get(g, 1.0) for g in range(config.gpus)])
    return faulty * config.jitter.speeds(config.gpus) if config.jitter else faulty


def _with_leaves(net: Network, switch: Ids) -> Network:
    """Return the network with its leaves numbered in the order of the GPUs, and their bundles if they have one each."""
    used = [int(place) for place in dict.fromkeys(switch.tolist()) if place >= 0]
    order = {place: index for index, place in enumerate(used)}
    above = [[ids[0] for ids in net.paths.ahead[place].values() if len(ids) == 1] for place in used]
    bundled = net.paths.routing in ("adaptive", "rail_local") and all(
        len(ids) <= 1 for ids in above
    )
    up = [ids[0] if ids and bundled else -1 for ids in above]
    return replace(
        net,
        leaf=_frozen([order.get(place, -1) for place in switch.tolist()], np.int64),
        leaf_up=_frozen(up, np.int64),
        leaf_down=_frozen([link + 1 if link >= 0 else -1 for link in up], np.int64),
    )


def _nics(
    config: TopologyConfig, switches: Switches, damage: Damage, healthy: NDArray[np.bool_]
) -> list[int]:
    """Return the numbers of the NICs that work: not down, on a switch, and with a GPU."""
    if not switches.home:
        return []
    alive: NDArray[np.bool_] = np.any(healthy.reshape(config.nics, -1), axis=1)
    return [
        k for k, home in enumerate(switches.home) if home and alive[k] and damage.nic.get(k, 1.0)
    ]


def _uses(config: TopologyConfig, part: list[int]) -> Ids:
    """Return the NIC of every GPU [g]: its own, or if that is down the next one in the node that works, -1 if none."""
    each, nics = config.node.gpus // config.node.nics, config.node.nics
    uses = np.full(config.gpus, -1)
    if not part:
        return uses
    for number in range(config.nics):
        node = number // nics * nics
        nearest = (node + (number - node + step) % nics for step in range(nics))
        uses[number * each : (number + 1) * each] = next((k for k in nearest if part[k] >= 0), -1)
    return uses


def _check_whole(config: TopologyConfig, part: list[int]) -> None:
    """Refuse a cluster of which some nodes cannot reach the rest, over NICs and NVLink. Errors: LayoutError."""
    if config.nodes == 1 or not (config.faults or config.fabric.kind == "custom"):
        return
    root: dict[int, int] = {}

    def find(item: int) -> int:
        while root.setdefault(item, item) != item:
            item = root[item]
        return item

    for number, component in enumerate(
        part
    ):  # nodes are -1, -2, ..., parts of the fabric 0, 1, ...
        if component >= 0:
            root[find(component)] = find(-1 - number // config.node.nics)
    sides: dict[int, list[int]] = {}
    for node in range(config.nodes):
        sides.setdefault(find(-1 - node), []).append(node)
    if len(sides) > 1:
        small = min(sides.values(), key=len)
        shown = ", ".join(str(node) for node in small[:8]) + (", ..." if len(small) > 8 else "")
        raise LayoutError(
            f"cut off node{'s' if len(small) > 1 else ''} {shown} from the rest",
            key="faults",
            remedy="Mend a link, switch or NIC on the way to them, or lower `nodes`.",
        )


def _lines(
    config: TopologyConfig, switches: Switches, damage: Damage, ranks: Ids, nics: list[int]
) -> list[Line]:
    """Return name, capacity [B/s] and latency [s] of the NVLink and NIC links."""
    lines: list[Line] = []
    half = config.node.nvlink_latency / 2
    for rank in ranks.tolist():
        node, i = divmod(rank, config.node.gpus)
        width = damage.nvlink.get(rank, config.node.nvlink)
        lines += [
            (f"gpu{node}.{i}->nvswitch{node}", width, half),
            (f"nvswitch{node}->gpu{node}.{i}", width, half),
        ]
    names = {home: text(home) for home in dict.fromkeys(switches.home) if home}
    for number in nics:
        node, j = divmod(number, config.node.nics)
        width, delay = (
            switches.nic[number]
            if switches.nic
            else (config.node.nic, config.fabric.leaf_latency / 2)
        )
        width = damage.nic.get(number, width)
        leaf = names[switches.home[number]]
        lines += [
            (f"nic{node}.{j}->{leaf}", width, delay),
            (f"{leaf}->nic{node}.{j}", width, delay),
        ]
    return lines


def _pcie(
    config: TopologyConfig, ranks: Ids, nics: list[int], first: int
) -> tuple[list[Line], Ids, Ids]:
    """Return name, capacity and latency of the PCIe links, numbered from `first`, and `Network.pcie` and `.slot`.

    A NIC and the GPUs that use it hang on one PCIe switch. The latency is within the NIC's,
    measured end to end.
    """
    pcie, slot = np.full(config.gpus, -1), np.full(config.nics, -1)
    lines: list[Line] = []
    width, share = config.node.pcie, config.node.gpus // config.node.nics
    if width is not None and nics:
        ends = [(pcie, g, "gpu", config.node.gpus, g // share) for g in ranks.tolist()]
        ends += [(slot, k, "nic", config.node.nics, k) for k in nics]
        for ids, number, kind, each, k in ends:
            ids[number] = first + len(lines)
            end = f"{kind}{number // each}.{number % each}"
            switch = f"pcie{k // config.node.nics}.{k % config.node.nics}"
            there, back = (end, switch) if kind == "gpu" else (switch, end)
            lines += [(f"{there}->{back}", width, 0.0), (f"{back}->{there}", width, 0.0)]
    return lines, _frozen(pcie, np.int64), _frozen(slot, np.int64)


def _frozen(values: Any, kind: type) -> NDArray[Any]:
    array: NDArray[Any] = np.array(values, dtype=kind)
    array.flags.writeable = False
    return array

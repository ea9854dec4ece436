"""The links of a cluster as arrays, and the routes over them: what the simulation runs on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.errors import LayoutError
from simulator.topology.labels import KINDS, Labels, Run
from simulator.topology.link_kind import LinkKind
from simulator.topology.routing import SINGLE_CABLES, Paths

Ids: TypeAlias = NDArray[np.int64]


class Nics(NamedTuple):
    """The NICs between which traffic between two nodes travels."""

    out: int
    """Number of the NIC through which it leaves."""
    home: int
    """Number of the NIC through which it arrives."""


class Legs(NamedTuple):
    """The way from one GPU to another in another node, but for the part between switches."""

    before: tuple[int, ...]
    """Links from the source to the first switch."""
    first: int
    """Index of the first switch in `Network.paths`."""
    last: int
    """Index of the last switch."""
    after: tuple[int, ...]
    """Links from the last switch to the destination."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The links of a cluster and the routes over them.

    The rank of a GPU is node * gpus_per_node + i, the number of a NIC node * nics_per_node + j. A
    link that leads back has the id after the one that leads there.
    """

    capacity: NDArray[np.float64]
    """Bandwidth of each link in its direction [link] B/s."""
    latency: NDArray[np.float64]
    """Latency of each link [link] s."""
    kind_code: NDArray[np.int8]
    """Place of the kind of each link in `LinkKind` [link]."""
    name: Sequence[str]
    """Name of each link [link], `gpu3.7->nvswitch3`."""
    gpus_per_node: int
    """GPUs of one node."""
    gpu_up: Ids
    """NVLink link from each GPU to its NVSwitch [gpu], -1 if the GPU is down."""
    gpu_down: Ids
    """NVLink link to each GPU from its NVSwitch [gpu], -1 if the GPU is down."""
    nic_up: Ids
    """Link from the NIC that each GPU uses, maybe with others, to its switch [gpu], -1 if none."""
    nic_down: Ids
    """Link to the NIC that each GPU uses from its switch [gpu], -1 where there is none."""
    rail: Ids
    """Index in its node of the NIC that each GPU uses [gpu], -1 where there is none."""
    leaf: Ids
    """Leaf of the NIC that each GPU uses, in the order of the GPUs [gpu], -1 if none."""
    leaf_up: Ids
    """Bundle from each leaf to what is above it [leaf].

    -1 where there is no single one: a lone leaf, routing by single cables, fabrics that are not a
    tree. There only `route` and `spread` know the links.
    """
    leaf_down: Ids
    """Bundle to each leaf from what is above it [leaf], -1 as in `leaf_up`."""
    speed: NDArray[np.float64]
    """Speed of each GPU's kernels relative to a healthy GPU's [gpu], 0 if it is down."""
    nics_per_node: int
    """NICs of one node."""
    switch: tuple[int, ...]
    """Index in `paths` of the switch of each NIC [nic], -1 if the NIC is down or cut off."""
    part: tuple[int, ...]
    """Connected part of the fabric of each NIC [nic], -1 if it is down or cut off."""
    nic_links: tuple[int, ...]
    """Link from each NIC to its switch [nic], -1 if it is down or cut off."""
    paths: Paths
    """Links between switches and the ways over them."""
    pcie: Ids
    """Link from each GPU to the PCIe switch of its NIC [gpu], -1 without `node.pcie`."""
    slot: Ids
    """Link from a PCIe switch to its NIC [nic], -1 without `node.pcie`."""

    @property
    def kind(self) -> Sequence[LinkKind]:
        """Return the kind of each link [link]: nvlink, nic, fabric or pcie."""
        codes = self.kind_code
        return Labels((Run(len(codes), lambda link: KINDS[codes[link]]),))

    def is_kind(self, kind: LinkKind) -> NDArray[np.bool_]:
        """Tell which links are of a kind [link]."""
        of_kind: NDArray[np.bool_] = self.kind_code == KINDS.index(kind)
        return of_kind

    def node_of(self, gpu: int) -> int:
        """Return the node of a GPU."""
        return gpu // self.gpus_per_node

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
            legs = self._legs(src, dst)
            between = self.paths.way(legs.first, legs.last, src, dst)
            links = (*legs.before, *between, *legs.after)
        latency = sum(float(self.latency[link]) for link in links)
        return links, latency

    def spread(self, src: int, dst: int) -> tuple[dict[int, float], float]:
        """Return link -> share of the traffic from one GPU to another, and the latency [s].

        Every share is 1 where there is one way; with ideal spreading over unlike ways they sum to 1
        across each cut. Errors: as `route`.
        """
        links, latency = self.route(src, dst)
        # The latency is that of one way: the others cross as many cables.
        within_node = self.node_of(src) == self.node_of(dst)
        if within_node or self.paths.routing in SINGLE_CABLES:
            return dict.fromkeys(links, 1.0), latency
        legs = self._legs(src, dst)
        shares = dict.fromkeys((*legs.before, *legs.after), 1.0)
        shares |= self.paths.spread(legs.first, legs.last)
        return shares, latency

    def _check(self, *ranks: int) -> None:
        """Refuse ranks that do not exist or are down. Errors: LayoutError."""
        for gpu in ranks:
            if not 0 <= gpu < len(self.gpu_up):
                raise LayoutError(
                    "is not a GPU of this cluster",
                    value=gpu,
                    remedy=f"Ranks go to {len(self.gpu_up) - 1}.",
                )
            if self.gpu_up[gpu] < 0:
                raise LayoutError(
                    "is a GPU that is down", value=gpu, remedy="Take it out of the group."
                )

    def _within_node(self, src: int, dst: int) -> tuple[int, ...]:
        """Return the NVLink links between two GPUs of a node."""
        if src == dst:
            return ()
        return int(self.gpu_up[src]), int(self.gpu_down[dst])

    def _legs(self, src: int, dst: int) -> Legs:
        """Return the way to the fabric and from it, through NICs that reach each other."""
        for out, home in self._nics(src, dst):
            part = self.part[out]  # of the fabric
            if part < 0 or part != self.part[home]:
                continue
            # On either side over NVLink to a GPU that has the NIC, unless it is the GPU itself.
            leave = self._carrier(out, src, dst)
            arrive = self._carrier(home, dst, dst)
            slots_back = [link + 1 for link in reversed(self._slots(arrive, home))]
            return Legs(
                before=(
                    *self._within_node(src, leave),
                    *self._slots(leave, out),
                    self.nic_links[out],
                ),
                first=self.switch[out],
                last=self.switch[home],
                after=(
                    self.nic_links[home] + 1,
                    *slots_back,
                    *self._within_node(arrive, dst),
                ),
            )
        raise LayoutError(
            f"is cut off from GPU {dst}: no NIC of its node reaches one of node "
            f"{self.node_of(dst)}",
            value=src,
            key="faults",
            remedy="Mend a link, switch or NIC between them.",
        )

    def _slots(self, gpu: int, nic: int) -> tuple[int, ...]:
        """Return the links from a GPU to a NIC of its PCIe switch."""
        if self.pcie[gpu] < 0:
            return ()
        return int(self.pcie[gpu]), int(self.slot[nic])

    def _nics(self, src: int, dst: int) -> Iterable[Nics]:
        """Yield pairs of NICs to try: own ones or the destination's rail first, then any."""
        # Rail-optimised fabrics keep traffic on one rail, over NVLink if need be: a leaf away
        # instead of a spine. Elsewhere the own NIC is as good as any and needs no NVLink.
        here = self.node_of(src) * self.nics_per_node  # the node's first NIC
        there = self.node_of(dst) * self.nics_per_node
        own = here + int(self.rail[src])
        theirs = there + int(self.rail[dst])
        direct = Nics(own, theirs)
        on_their_rail = Nics(here + int(self.rail[dst]), theirs)
        if self.paths.routing == "rail_local":
            yield from (on_their_rail, direct)
        else:
            yield from (direct, on_their_rail)
        # What faults leave: first another NIC over there, as the own one costs no NVLink hop here.
        outs = range(here, here + self.nics_per_node)
        homes = range(there, there + self.nics_per_node)
        for home in homes:
            yield Nics(own, home)
        for out, home in itertools.product(outs, homes):
            yield Nics(out, home)

    def _carrier(self, nic: int, gpu: int, dst: int) -> int:
        """Return the GPU through which another of its node uses a NIC.

        Itself, the destination's peer, or the first that hangs on the NIC.
        """
        share = self.gpus_per_node // self.nics_per_node  # GPUs of one NIC
        base = self.node_of(gpu) * self.gpus_per_node
        first = base + nic % self.nics_per_node * share
        sharers = range(first, first + share)
        healthy = [rank for rank in sharers if self.gpu_up[rank] >= 0]
        # Its own way if it can; otherwise as PXN, over the GPU at the destination's place.
        peer = base + dst % self.gpus_per_node
        for rank in (gpu, peer):
            if rank in healthy:
                return rank
        return healthy[0]

"""Regular clusters, part by part: what lies alike everywhere is written down once and counted.

Ranks of a pipeline index in order are cut into tiles of equal numbers, the n-th tiles of all
indices together being one part of the cluster. Where the tiles lie alike on a tree of switches, any
two parts of a pod can change places, and so can pods: the first part stands for all. Its transfers
are listed, those of the others counted; groups that reach over all parts must load each alike,
which is verified link by link.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.layout import GROUPS, Layout
from simulator.topology import SINGLE_CABLES, Network

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


class UnevenError(Exception):
    """What should load all tiles alike does not: the cluster has to be listed as a whole."""


class Share(NamedTuple):
    """What a group of ranks has in the first part of the cluster."""

    links: Ids
    """Links there that it crosses [link]."""
    bytes: Floats
    """On each [link] B."""


@dataclass(frozen=True)
class Tiles:
    """A cluster cut into parts that are alike. The first stands for all."""

    count: int
    """Number of parts; 1: the cluster is listed as a whole."""
    of_rank: Ids
    """Number of the part that each rank is in [rank]."""
    image: Ids
    """Link of the first part that stands for each link [link], -1 of links that are in no part."""
    copies: Ids
    """How many links each link of the first part stands for [link], 0 of others."""
    _scratch: list[Floats] = field(default_factory=list)

    @property
    def ranks(self) -> Ids:
        """Return the ranks of the first part, rising."""
        return np.flatnonzero(self.of_rank == 0)

    def sharers(self, link: int) -> int:
        """Return how many parts share a link of the first part."""
        return self.count // int(self.copies[link])

    def inside(self, groups: Ids) -> bool:
        """Tell whether no group leaves its part. groups: ranks [group, member]. Errors: UnevenError.

        Otherwise every group has as many members in each part.
        """
        part = self.of_rank[groups]  # [group, member]
        if (part == part[:, :1]).all():
            return True
        members = groups.shape[1]
        if members % self.count:
            raise UnevenError
        expected = np.repeat(np.arange(self.count), members // self.count)
        if not (np.sort(part, axis=1) == expected).all():
            raise UnevenError
        return False

    def share(self, links: Ids, sizes: Floats) -> Share:
        """Return what a demand on all parts asks of the first one. Errors: UnevenError.

        links: each once. sizes: bytes on them [link] B.
        """
        image = self.image[links]
        if (image < 0).any():
            raise UnevenError
        if not self._scratch:
            self._scratch.append(np.full(len(self.image), np.nan))
        carried = self._scratch[0]  # [link] B
        carried[links] = sizes
        alike = bool((carried[image] == sizes).all())
        carried[links] = np.nan
        first = image == links
        listed = links[first]
        # Every link is one of the copies of its image; so if all images together have as many
        # copies as there are links, none is missing.
        if not alike or self.copies[listed].sum() != len(links):
            raise UnevenError
        return Share(listed, sizes[first])


def whole(network: Network, layout: Layout) -> Tiles:
    """Return a cluster as one tile."""
    links = np.arange(len(network.capacity))
    return Tiles(1, np.zeros(layout.gpus, dtype=np.int64), links, np.ones_like(links))


def tiles(network: Network, layout: Layout) -> Tiles:
    """Return the smallest tiles of a cluster that lie alike, or the whole."""
    switches = _Tree.of(network)
    if switches is None:
        return whole(network, layout)
    for size in _sizes(network, layout):
        if found := _cut(network, layout, switches, size):
            return found
    return whole(network, layout)


def _sizes(network: Network, layout: Layout) -> list[int]:
    """Return the sizes of tiles that hold whole nodes, and each kind of groups or a part of each."""
    ranks = layout.per_stage
    return [
        size
        for size in range(network.gpus_per_node, ranks, network.gpus_per_node)
        if ranks % size == 0 and _groups_fit(layout, size)
    ]


def _groups_fit(layout: Layout, size: int) -> bool:
    """Tell whether each group is in one tile, or but for expert groups evenly in all."""
    count = layout.per_stage // size
    for kind in GROUPS:
        part = layout.groups(kind) // size  # [group, member]
        inside = (part == part[:, :1]).all()
        members = part.shape[1]
        expected = np.repeat(np.arange(count), members // count)
        # Members of an expert group may have unlike loads: each tile must hold all of them.
        if inside:
            continue
        if kind == "expert" or not (
            members % count == 0 and (np.sort(part, axis=1) == expected).all()
        ):
            return False
    return True


class _Tree(NamedTuple):
    """The switches above the NICs, where they are a tree of at most three layers."""

    leaf: Ids
    """Leaf of each GPU's NIC [gpu]."""
    pod: Ids
    """Switch above each leaf [leaf], -1 where there is none."""
    pod_up: dict[int, int]
    """That switch -> link to what is above it; nothing where nothing is."""
    pod_down: dict[int, int]
    """The link back."""

    @classmethod
    def of(cls, network: Network) -> _Tree | None:
        """Return the tree of a healthy network, or None."""
        if network.paths.routing in SINGLE_CABLES or not len(network.leaf_up):
            return None
        healthy = (network.gpu_up >= 0).all() and (network.leaf >= 0).all()
        if not healthy or (len(network.leaf_up) > 1 and (network.leaf_up < 0).any()):
            return None
        return _climb(network)


def _climb(network: Network) -> _Tree | None:
    """Return the switches above the leaves, or None where they are no tree of three layers."""
    ahead = network.paths.ahead
    _, first = np.unique(network.leaf, return_index=True)
    nic = _nic_of(network, first)
    leaves = np.array(network.switch)[nic].tolist()  # [leaf] index of the switch
    pod = [next(iter(ahead[leaf]), -1) for leaf in leaves]
    below = set(leaves)
    pod_up: dict[int, int] = {}
    pod_down: dict[int, int] = {}
    roots = set()
    for middle in dict.fromkeys(pod):
        above = [switch for switch in ahead[middle] if switch not in below] if middle >= 0 else []
        if len(above) > 1 or any(len(ahead[middle][switch]) > 1 for switch in above):
            return None
        for root in above:
            pod_up[middle], pod_down[middle] = ahead[middle][root][0], ahead[root][middle][0]
            roots.add(root)
    # Beyond the third layer nothing may follow, and every pod must meet the others there.
    joined = all(set(ahead[root]) == set(pod_up) == set(pod) for root in roots)
    if len(roots) > 1 or not joined or below & set(pod):
        return None
    return _Tree(network.leaf, np.array(pod, dtype=np.int64), pod_up, pod_down)


def _nic_of(network: Network, gpu: Ids) -> Ids:
    node = gpu // network.gpus_per_node
    nic: Ids = node * network.nics_per_node + network.rail[gpu]
    return nic


def _cut(network: Network, layout: Layout, tree: _Tree, size: int) -> Tiles | None:
    """Return tiles of a size, or None where they do not lie alike."""
    count = layout.per_stage // size
    ranks = _ranks(layout).reshape(layout.pp, count, size)
    # One row for each part of the cluster, all pipeline indices side by side.
    parts = ranks.swapaxes(0, 1).reshape(count, -1)  # [part, rank]
    if not _machines_alike(network, parts):
        return None
    leaf = tree.leaf[parts]  # [part, rank]
    pod = tree.pod[leaf]
    if not _alike(leaf, apart=True) or not _alike(pod, apart=False):
        return None
    return _numbered(network, tree, parts)


def _ranks(layout: Layout) -> Ids:
    """Return all ranks [pipeline index, local rank]."""
    inner = layout.inner()
    high, low = np.divmod(np.arange(layout.per_stage), inner)
    index = np.arange(layout.pp)[:, None]
    ranks: Ids = low + inner * (index + layout.pp * high)
    return ranks


def _machines_alike(network: Network, parts: Ids) -> bool:
    """Tell whether GPUs, NICs and what joins them are alike in all parts. parts: [part, rank]."""
    node = parts // network.gpus_per_node
    if not _alike(node, apart=True):
        return False
    properties = [parts % network.gpus_per_node, network.rail[parts], network.speed[parts]]
    ports = [network.gpu_up, network.gpu_down, network.nic_up, network.nic_down]
    for port in ports:
        properties += [network.capacity[port[parts]], network.latency[port[parts]]]
    return all((column == column[0]).all() for column in properties)


def _alike(place: Ids, *, apart: bool) -> bool:
    """Tell whether ranks share places in all parts as in the first one.

    place: number of what each rank is on [part, rank]. apart: whether no two parts share any;
    otherwise they may share all of theirs, and as many parts must share each.
    """
    # A place is known in each part by the first rank on it.
    _, first, number = np.unique(place[0], return_index=True, return_inverse=True)
    pattern = place[:, first]  # [part, place]
    if not (pattern[:, number] == place).all():
        return False
    ordered = np.sort(pattern, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        return False
    different, shared = np.unique(pattern, axis=0, return_counts=True)
    if len(np.unique(different)) != different.size or (shared != shared[0]).any():
        return False
    return not apart or len(different) == len(pattern)


def _numbered(network: Network, tree: _Tree, parts: Ids) -> Tiles | None:
    """Return the links of tiles that lie alike with their images. parts: [part, rank]."""
    image = np.full(len(network.capacity), -1, dtype=np.int64)
    first = parts[0]
    nic = _nic_of(network, parts)
    lines = [network.gpu_up[parts], network.gpu_down[parts]]
    lines += [network.nic_up[parts], network.nic_down[parts]]
    if (network.pcie >= 0).any():
        lines += [network.pcie[parts], network.pcie[parts] + 1]
        lines += [network.slot[nic], network.slot[nic] + 1]
    leaf = tree.leaf[parts]
    if len(network.leaf_up) > 1:
        lines += [network.leaf_up[leaf], network.leaf_down[leaf]]
    if tree.pod_up:
        pods = tree.pod[leaf]
        for table in (tree.pod_up, tree.pod_down):
            different, number = np.unique(pods, return_inverse=True)
            links = np.array([table[pod] for pod in different.tolist()])
            lines.append(links[number].reshape(pods.shape))
    for line in lines:  # [part, rank] links
        image[line] = np.broadcast_to(line[0], line.shape)
    known = np.flatnonzero(image >= 0)
    copies = np.bincount(image[known], minlength=len(image))
    of_rank = np.empty(parts.size, dtype=np.int64)
    of_rank[parts] = np.arange(len(parts))[:, None]
    found = Tiles(len(parts), of_rank, image, copies)
    return found if len(first) and _told_apart(network, found) else None


def _told_apart(network: Network, found: Tiles) -> bool:
    """Tell whether images carry what their links do, and shared links differ from the others.

    Links that other numbers of parts share must not be taken for one class.
    """
    known = np.flatnonzero(found.image >= 0)
    image = found.image[known]
    capacity, latency = network.capacity, network.latency
    if (capacity[known] != capacity[image]).any() or (latency[known] != latency[image]).any():
        return False
    listed = np.flatnonzero(found.copies)
    shared = found.copies[listed] < found.count
    looks = set(
        zip(capacity[listed[shared]].tolist(), latency[listed[shared]].tolist(), strict=True)
    )
    others = listed[~shared]
    return looks.isdisjoint(zip(capacity[others].tolist(), latency[others].tolist(), strict=True))

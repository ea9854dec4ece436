"""Each rank's coordinates in the grids of parallel dimensions, and the groups that communicate.

Two grids lie over the ranks of a pipeline index, as in Megatron-Core: tp x cp x dp for everything
but routed experts, etp x ep x edp for those (MoE parallel folding, arXiv 2504.14960, section 3). A
rank's local rank is its index among the ranks of its pipeline index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.layout.zero import ZeroStage

Ranks: TypeAlias = NDArray[np.int64]


class Group(NamedTuple):
    """A kind of group: ranks that communicate."""

    grid: str
    """The grid in which its members are neighbours, dense or expert."""
    along: tuple[str, ...]
    """The dimensions along which its members differ."""


class Dimension(NamedTuple):
    """A dimension of a grid."""

    name: str
    """What it is called in that grid."""
    size: int
    """Number of ranks along it."""


GROUPS: dict[str, Group] = {
    "tp": Group("dense", ("tp",)),
    "userbuffers": Group("dense", ("tp",)),
    "cp": Group("dense", ("cp",)),
    "cp_ring": Group("dense", ("cp",)),
    "ulysses": Group("dense", ("cp",)),
    "data": Group("dense", ("cp", "dp")),
    "etp": Group("expert", ("etp",)),
    "expert": Group("expert", ("ep",)),
    "expert_data": Group("expert", ("edp",)),
}
"""kind of group -> the grid and the dimensions along which its members differ."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Degrees that fit a cluster."""

    gpus: int
    """Ranks in all."""
    tp: int
    """Tensor parallel degree."""
    pp: int
    """Pipeline ranks."""
    ep: int
    """Expert parallel degree."""
    dp: int
    """Data parallel degree: replicas of the model, per direction of a bidirectional pipeline."""
    zero: ZeroStage
    """What data parallel ranks shard."""
    cp: int = 1
    """Context parallel degree."""
    vpp: int = 1
    """Virtual stages per pipeline rank."""
    etp: int = 1
    """Tensor parallel degree of the routed experts."""
    shard: int = 0
    """Ranks that hold one copy of the shards (hybrid sharding); 0: all that share parameters."""
    order: tuple[str, ...] = ("tp", "cp", "ep", "dp", "pp")
    """Dimensions from the one whose rank index varies fastest to the slowest."""

    @property
    def per_stage(self) -> int:
        """Return the number of ranks at each pipeline index."""
        return self.tp * self.cp * self.dp

    @property
    def edp(self) -> int:
        """Return the number of ranks that hold the same routed experts at a pipeline index."""
        sharers = self.etp * self.ep  # ranks that hold all routed experts of a layer once
        return self.per_stage // sharers

    def sizes(self, grid: str) -> list[Dimension]:
        """Return the dimensions of a grid (dense or expert) and their sizes, fastest first."""
        # Both grids are in the one order of the file: etp is in the place of tp, edp in that of dp;
        # cp is folded into the experts' dimensions.
        dense = {
            "tp": Dimension("tp", self.tp),
            "cp": Dimension("cp", self.cp),
            "dp": Dimension("dp", self.dp),
            "pp": Dimension("pp", self.pp),
        }
        expert = {
            "tp": Dimension("etp", self.etp),
            "ep": Dimension("ep", self.ep),
            "dp": Dimension("edp", self.edp),
            "pp": Dimension("pp", self.pp),
        }
        table = dense if grid == "dense" else expert
        return [table[name] for name in self.order if name in table]

    def inner(self, grid: str = "dense") -> int:
        """Return how many neighbouring ranks have the same pipeline index."""
        return _inner(self, grid)

    def rank(self, index: int, local_rank: int) -> int:
        """Return the rank at a pipeline index and a local rank."""
        # Dimensions before pp give the low part, those after it the high part, pp the middle one.
        inner = self.inner()
        high, low = divmod(local_rank, inner)
        return low + inner * (index + self.pp * high)

    def pipeline_index(self, rank: int) -> int:
        """Return the pipeline index of a rank."""
        return rank // self.inner() % self.pp

    def local_rank(self, rank: int) -> int:
        """Return the index of a rank among those of its pipeline index."""
        inner = self.inner()
        low = rank % inner
        high = rank // (inner * self.pp)
        return low + inner * high

    def groups(self, kind: str) -> Ranks:
        """Return the groups of a kind in GROUPS as local ranks [group, member], members rising."""
        return _groups(self, kind)

    def ranks(self, index: int, kind: str) -> Ranks:
        """Return the groups of a kind at a pipeline index as ranks [group, member]."""
        # As `rank`, for all members at once.
        inner = self.inner()
        high, low = np.divmod(self.groups(kind), inner)  # [group, member] each
        ranks: Ranks = low + inner * (index + self.pp * high)
        return ranks


@lru_cache(maxsize=64)
def _inner(layout: Layout, grid: str) -> int:
    """Return the product of the dimensions that vary faster than the pipeline index."""
    product = 1
    for name, size in layout.sizes(grid):
        if name == "pp":
            break
        product *= size
    return product


@lru_cache(maxsize=64)
def _groups(layout: Layout, kind: str) -> Ranks:
    grid, along = GROUPS[kind]
    # Local ranks as a grid with the fastest dimension last, as numpy counts; then the dimensions
    # along which members differ are moved to the end and become one.
    slowest_first = list(reversed(layout.sizes(grid)))
    dimensions = [dimension for dimension in slowest_first if dimension.name != "pp"]
    shape = [dimension.size for dimension in dimensions]
    local_ranks = np.arange(layout.per_stage).reshape(shape)  # [dimension, ...]
    axes = [axis for axis, dimension in enumerate(dimensions) if dimension.name in along]
    members = math.prod(shape[axis] for axis in axes)
    last = range(-len(axes), 0)
    moved = np.moveaxis(local_ranks, axes, last)
    groups: Ranks = moved.reshape(-1, members)  # [group, member]
    groups.flags.writeable = False
    return groups

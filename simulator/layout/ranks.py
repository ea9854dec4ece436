"""Each rank's coordinates in the grids of parallel dimensions, and the groups that communicate.

Two grids lie over the ranks of a pipeline index, as in Megatron-Core: tp x cp x dp for everything
but routed experts, etp x ep x edp for those (MoE parallel folding, arXiv 2504.14960, section 3). A
rank's local rank is its index among the ranks of its pipeline index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.layout.zero import ZeroStage

Ranks = NDArray[np.int64]

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tp": ("dense", ("tp",)),
    "cp": ("dense", ("cp",)),
    "data": ("dense", ("cp", "dp")),
    "etp": ("expert", ("etp",)),
    "expert": ("expert", ("ep",)),
    "expert_data": ("expert", ("edp",)),
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
        return self.per_stage // (self.etp * self.ep)

    def sizes(self, grid: str) -> list[tuple[str, int]]:
        """Return the dimensions of a grid (dense or expert) and their sizes, fastest first."""
        dense = {
            "tp": ("tp", self.tp),
            "cp": ("cp", self.cp),
            "dp": ("dp", self.dp),
            "pp": ("pp", self.pp),
        }
        expert = {
            "tp": ("etp", self.etp),
            "ep": ("ep", self.ep),
            "dp": ("edp", self.edp),
            "pp": ("pp", self.pp),
        }
        table = dense if grid == "dense" else expert
        return [table[name] for name in self.order if name in table]

    def inner(self, grid: str = "dense") -> int:
        """Return how many neighbouring ranks have the same pipeline index."""
        return _inner(self, grid)

    def rank(self, index: int, local_rank: int) -> int:
        """Return the rank at a pipeline index and a local rank."""
        high, low = divmod(local_rank, self.inner())
        return low + self.inner() * (index + self.pp * high)

    def pipeline_index(self, rank: int) -> int:
        """Return the pipeline index of a rank."""
        return rank // self.inner() % self.pp

    def local_rank(self, rank: int) -> int:
        """Return the index of a rank among those of its pipeline index."""
        inner = self.inner()
        return rank % inner + inner * (rank // (inner * self.pp))

    def groups(self, kind: str) -> Ranks:
        """Return the groups of a kind in GROUPS as local ranks [group, member], members rising."""
        return _groups(self, kind)

    def ranks(self, index: int, kind: str) -> Ranks:
        """Return the groups of a kind at a pipeline index as ranks [group, member]."""
        high, low = np.divmod(self.groups(kind), self.inner())
        ranks: Ranks = low + self.inner() * (index + self.pp * high)
        return ranks


@lru_cache(maxsize=64)
def _inner(layout: Layout, grid: str) -> int:
    """Return the product of the dimensions that vary faster than the pipeline index."""
    names, sizes = zip(*layout.sizes(grid), strict=True)
    return math.prod(sizes[: names.index("pp")])


@lru_cache(maxsize=64)
def _groups(layout: Layout, kind: str) -> Ranks:
    grid, along = GROUPS[kind]
    # Local ranks as a grid with the fastest dimension last, as numpy counts; then the dimensions
    # along which members differ are moved to the end and become one.
    slowest_first = [(name, size) for name, size in reversed(layout.sizes(grid)) if name != "pp"]
    local_ranks = np.arange(layout.per_stage).reshape([size for _, size in slowest_first])
    axes = [axis for axis, (name, _) in enumerate(slowest_first) if name in along]
    members = math.prod(slowest_first[axis][1] for axis in axes)
    moved = np.moveaxis(local_ranks, axes, range(-len(axes), 0))
    groups: Ranks = moved.reshape(-1, members)  # [group, member]
    groups.flags.writeable = False
    return groups

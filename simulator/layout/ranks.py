"""Where each rank stands in the grid of parallel dimensions, and the groups that talk to each other.

Two grids lie over the ranks of a pipeline index, as in Megatron-Core: tp x cp x dp for everything
but routed experts, etp x ep x edp for those (MoE parallel folding, arXiv 2504.14960, section 3). A
rank's place is its index among the ranks of its pipeline index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator.layout.zero import ZeroStage

Places = NDArray[np.int64]

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
    """Degrees that fit a cluster.

    dp: replicas of the model, per direction of the pipeline. order: see LayoutConfig.
    """

    gpus: int
    tp: int
    pp: int
    ep: int
    dp: int
    zero: ZeroStage
    cp: int = 1
    vpp: int = 1
    etp: int = 1
    shard: int = 0
    order: tuple[str, ...] = ("tp", "cp", "ep", "dp", "pp")

    @property
    def per_stage(self) -> int:
        """Return the number of ranks at each pipeline index."""
        return self.tp * self.cp * self.dp

    @property
    def edp(self) -> int:
        """Return the number of ranks that hold the same routed experts at a pipeline index."""
        return self.per_stage // (self.etp * self.ep)

    def sizes(self, grid: str) -> list[tuple[str, int]]:
        """Return the dimensions of a grid (dense or expert), fastest first, the pipeline's among them."""
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

    def rank(self, index: int, place: int) -> int:
        """Return the rank at a pipeline index and a place."""
        high, low = divmod(place, self.inner())
        return low + self.inner() * (index + self.pp * high)

    def pipeline_index(self, rank: int) -> int:
        """Return the pipeline index of a rank."""
        return rank // self.inner() % self.pp

    def place(self, rank: int) -> int:
        """Return the place of a rank."""
        inner = self.inner()
        return rank % inner + inner * (rank // (inner * self.pp))

    def groups(self, kind: str) -> Places:
        """Return the groups of a kind in GROUPS as places [group, member], members in rising order."""
        return _groups(self, kind)

    def ranks(self, index: int, kind: str) -> Places:
        """Return the groups of a kind at a pipeline index as ranks [group, member]."""
        high, low = np.divmod(self.groups(kind), self.inner())
        result: Places = low + self.inner() * (index + self.pp * high)
        return result


@lru_cache(maxsize=64)
def _inner(layout: Layout, grid: str) -> int:
    names = layout.sizes(grid)
    return math.prod(size for _, size in names[: [name for name, _ in names].index("pp")])


@lru_cache(maxsize=64)
def _groups(layout: Layout, kind: str) -> Places:
    grid, along = GROUPS[kind]
    names = [(name, size) for name, size in layout.sizes(grid) if name != "pp"]
    table = np.arange(layout.per_stage).reshape([size for _, size in reversed(names)])
    axes = [axis for axis, (name, _) in enumerate(reversed(names)) if name in along]
    moved = np.moveaxis(table, axes, range(-len(axes), 0))
    groups: Places = moved.reshape(-1, math.prod(moved.shape[-len(axes) :]))
    groups.flags.writeable = False
    return groups

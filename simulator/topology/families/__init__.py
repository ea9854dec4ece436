"""The families of fabrics: one function and one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from simulator.topology.cluster import Cluster
from simulator.topology.families import clos, custom, dragonfly, slim_fly, torus, trees
from simulator.topology.switches import Switches


@dataclass(frozen=True, slots=True)
class Family:
    """A row of FABRICS."""

    build: Callable[[Cluster], Switches]
    """Cluster -> its switches; LayoutError if the fabric cannot hold the nodes."""
    needs: tuple[str, ...] = ()
    """Keys of `fabric` that it requires, besides those of every family."""
    takes: tuple[str, ...] = ()
    """Keys of `fabric` that it may have."""
    routing: str = "adaptive"
    """How it is routed unless the file says."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys of `fabric` that only some families read, and this one does."""
        return (*self.needs, *self.takes)


FABRICS: Mapping[str, Family] = {
    "rail_optimised": Family(trees.rail_optimised, routing="rail_local"),
    "single_node": Family(trees.single_node),
    "nvl72": Family(trees.nvl72, takes=("rails",), routing="rail_local"),
    "fat_tree_2": Family(trees.fat_tree_2),
    "multi_plane": Family(trees.multi_plane, takes=("planes",), routing="rail_local"),
    "multi_rail": Family(trees.rail_optimised),
    "fat_tree_3": Family(clos.fat_tree_3),
    "clos_3": Family(
        clos.clos_3, needs=("pod_gpus", "oversubscription"), takes=("leaf_gpus", "spine_ports")
    ),
    "dragonfly": Family(
        dragonfly.dragonfly,
        needs=("group_routers",),
        takes=("global_ports", "router_nics", "groups"),
    ),
    "slim_fly": Family(slim_fly.slim_fly, needs=("q",), takes=("router_nics",)),
    "torus_3d": Family(torus.torus_3d, needs=("dims",), takes=("cables",)),
    "custom": Family(custom.custom, needs=("file",)),
}

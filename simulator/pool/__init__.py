"""Many jobs on several processes, or on an existing cluster engine: one signature, one table.

    POOLS[name](function, jobs, size or address) -> outcomes in the order in which they finish

`jobs`: Job, Outcome. `processes`: workers of this machine, replaced when they die. `cluster`: a
Dask scheduler. A function stands at the top level of a module, since workers find it by its name;
what it raises becomes an outcome.
"""

from __future__ import annotations

from simulator.pool.cluster import dask
from simulator.pool.jobs import TRIES, Function, Job, Outcome, Pool
from simulator.pool.processes import cores, processes

POOLS: dict[str, Pool] = {
    "processes": processes,
    "dask": dask,
}
"""name -> pool. Third argument: of `processes` the number of workers, of `dask` an address."""

__all__ = ["POOLS", "TRIES", "Function", "Job", "Outcome", "Pool", "cores", "dask", "processes"]

"""The errors of all published runs: `simulator/data/trust/published.csv`, written by results/make.py."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from simulator import inputs
from simulator.trust.kind import Kind


class Factors(NamedTuple):
    """Between which factors of the simulated step another choice moves it, 1 included."""

    low: float = 1.0
    """The least."""
    high: float = 1.0
    """The largest."""


class PublishedRun(NamedTuple):
    """A published step or run, next to the simulated one."""

    case: str
    """Name of the case."""
    publication: str
    """Who measured it: cases of one publication share what it did not say."""
    twins: str
    """Name of the group of near-twins that counts once."""
    kind: Kind
    """What it is."""
    gpus: int
    """On how many GPUs."""
    topology: str
    """Name of its cluster."""
    workload: str
    """Name of its workload."""
    cost: float
    """Time of one GPU that a token takes as published [s]."""
    ratio: float
    """Simulated time over published time."""
    hosts: Factors
    """Over the measured paces of hosts."""
    assumed: Factors
    """Over the alternatives to what was not published."""


@lru_cache(maxsize=1)
def published_runs() -> tuple[PublishedRun, ...]:
    """Return every published run that counts in the mean error."""
    return tuple(_run(row) for row in inputs.table("published", kind="trust"))


def _run(row: dict[str, str]) -> PublishedRun:
    return PublishedRun(
        case=row["case"],
        publication=row["publication"],
        twins=row["twins"],
        kind=Kind(row["gpu"], row["model"], row["precision"], row["stack"]),
        gpus=int(row["gpus"]),
        topology=row["topology"],
        workload=row["workload"],
        cost=float(row["cost"]),
        ratio=float(row["ratio"]),
        hosts=Factors(float(row["hosts_low"]), float(row["hosts_high"])),
        assumed=Factors(float(row["assumed_low"]), float(row["assumed_high"])),
    )

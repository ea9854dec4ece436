"""What a run itself is unsure of: kernels and links by their share of the step, hosts, assumed settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from simulator import inputs
from simulator.report import Report

EIGHTY = 1.2816
"""Standard deviations of a normal that hold four fifths, on either side."""
KERNELS = {"gemm": "gemm", "attention": "attention", "memory_bound": "memory_bound"}
"""Part of a step -> class of measured kernels."""
LINKS = ("expert_exposed", "tensor_exposed", "context_exposed", "pipeline_exposed", "data_exposed")
"""Parts of a step in which something moves over links."""


class Rms(NamedTuple):
    """How far the kernel table of a class is off on a GPU."""

    rms: float
    """Root of the mean square of relative errors over all measured rows."""
    rows: int
    """Number of these."""


@lru_cache(maxsize=1)
def _errors() -> Mapping[tuple[str, str], Rms]:
    """Return (class, GPU) -> how far its table is off."""
    return {
        (row["class"], row["gpu"]): Rms(float(row["rms"]), int(row["rows"]))
        for row in inputs.table("kernels", kind="trust")
    }


def off(name: str, gpu: str) -> float:
    """Return how far a class is off on a GPU, over all GPUs where nobody measured it on this one."""
    known = _errors()
    if (name, gpu) in known:
        return known[name, gpu].rms
    others = [found for (of_class, _), found in known.items() if of_class == name]
    rows = sum(found.rows for found in others)
    return math.sqrt(sum(found.rows * found.rms**2 for found in others) / rows)


def kernels(report: Report) -> float:
    """Return by how much of the step kernels may be off, relative, at 80%.

    Each class as if all of its kernels were off in one direction; classes do not depend on each
    other. H800 has Hopper's kernels, measured on H100 too.
    """
    parts = [
        _share(report, part) * _off_here(report, name)
        for part, name in KERNELS.items()  # [class]
    ]
    return EIGHTY * math.hypot(*parts)


def links(report: Report) -> float:
    """Return by how much of the step exposed transfers may be off, relative, at 80%."""
    exposed = sum(_share(report, part) for part in LINKS)
    return EIGHTY * exposed * _off_here(report, "links")


def _off_here(report: Report, name: str) -> float:
    return off(name, report.scenario.gpu.name)


def _share(report: Report, part: str) -> float:
    """Return a part's share of the step."""
    return report.breakdown.get(part, 0.0) / report.step_time

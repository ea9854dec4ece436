"""Collectives of tensor parallelism compared with the kernel tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simulator import inputs
from simulator.residuals.rows import Residuals, measured_table, processor

NVLINK_LATENCY = 3.33e-6
"""Of a round [s], as topologies have it by default: arXiv 2505.09343, table 5."""
LARGE = 8e6
"""Collectives of tensor parallelism move at least this [B]."""


def links() -> Iterator[Residuals]:
    """Yield half an all-reduce in a node, as tensor parallelism scatters or gathers."""
    line_rates = {}  # of NVLink [B/s in one direction]
    for row in measured_table("nccl")["rows"]:
        if row["link"] == "nvlink":
            line_rates[row["gpu"]] = 1e9 * row["line_gb_s"]
    for gpu in ("a100", "h100"):
        model = processor(gpu).kernels.communication["nccl_tensor"]
        rate = line_rates[gpu] * model.nvlink
        for ranks in (4, 8):
            rows = _large_all_reduces(gpu, ranks)
            size = np.array([float(row["bytes"]) for row in rows])  # [row] B
            us = np.array([float(row["us"]) for row in rows])  # [row], of the whole all-reduce
            # A ring: each of ranks - 1 rounds has its latency and moves 1 / ranks of the bytes.
            rounds = ranks - 1
            moving = rounds / ranks * size / rate  # [row] s
            yield Residuals(
                group="link",
                name=f"half an all-reduce on {ranks} GPUs",
                gpu=gpu,
                fitted=True,
                measured=us * 0.5e-6,
                computed=model.setup + rounds * NVLINK_LATENCY + moving,
            )


def _large_all_reduces(gpu: str, ranks: int) -> list[dict[str, str]]:
    """Return the rows of vidur's all-reduces on some GPUs that bandwidth bounds, not latency."""
    large = []
    for row in inputs.table("vidur_collectives"):
        collective = (row["gpu"], row["op"], int(row["ranks"]))
        if collective == (gpu, "all_reduce", ranks) and float(row["bytes"]) > LARGE:
            large.append(row)
    return large

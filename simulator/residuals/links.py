"""Collectives of tensor parallelism compared with the kernel tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from simulator import inputs
from simulator.hardware import CommunicationModel
from simulator.residuals.rows import Floats, Residuals, column, processor

NVLINK_LATENCY = 3.33e-6
"""Of a round [s], as topologies have it by default: arXiv 2505.09343, table 5."""
LARGE = 8e6
"""Collectives of tensor parallelism move at least this [B]."""
FITTED = 16e6
"""From this size on [B] one rate describes NCCL's passes; below it, its protocols change."""
LINES = {"a100": 300e9, "h100": 450e9, "h200": 450e9, "b200": 900e9}
"""NVLink of a GPU in one direction [B/s]."""


class Passes(NamedTuple):
    """Passes over buffers in one node: of gathers, scatters and halves of all-reduces."""

    ranks: Floats
    """GPUs that take part [row]."""
    bytes: Floats
    """Of the whole buffer [row] B."""
    measured: Floats
    """Time [row] s."""

    def seconds(self, model: CommunicationModel, line: float) -> Floats:
        """Return the times by the table [row] s. line: NVLink's rate [B/s in one direction]."""
        # A ring: each of ranks - 1 rounds has its latency and moves 1 / ranks of the bytes.
        rounds = self.ranks - 1
        latency = rounds * model.nvlink_latency * NVLINK_LATENCY
        moving = rounds / self.ranks * self.bytes / (line * model.nvlink)
        total: Floats = model.setup + latency + moving
        if model.own_part:
            total = total + self.bytes / self.ranks / model.own_part
        return total


def links() -> Iterator[Residuals]:
    """Yield gathers and scatters in a node, and halves of all-reduces as a check."""
    for gpu in LINES:
        for ranks in (2, 4, 8):
            yield _compared(
                f"all-gather or reduce-scatter on {ranks} GPUs", gpu, True, one_node((gpu,), ranks)
            )
    for gpu in ("a100", "h100"):
        for ranks in (4, 8):
            passes = _halves_of_all_reduces(gpu, ranks)
            yield _compared(f"half an all-reduce on {ranks} GPUs", gpu, False, passes)


def _compared(name: str, gpu: str, fitted: bool, passes: Passes) -> Residuals:
    model = processor(gpu).kernels.communication["nccl_tensor"]
    if not fitted:  # in place: nobody copies a part of its own
        model = model.model_copy(update={"own_part": 0.0})
    return Residuals(
        group="link",
        name=name,
        gpu=gpu,
        fitted=fitted,
        measured=passes.measured,
        computed=passes.seconds(model, LINES[gpu]),
    )


def one_node(gpus: Sequence[str], ranks: int = 0) -> Passes:
    """Return the passes to which the tables are fitted. ranks: 0 for all."""
    rows = [
        row
        for row in inputs.table("nccl_one_node")
        if row["gpu"] in gpus and float(row["bytes"]) >= FITTED
    ]
    some = [row for row in rows if ranks in (0, int(row["ranks"]))]
    return _passes(some)


def _halves_of_all_reduces(gpu: str, ranks: int) -> Passes:
    """Return the rows of vidur's all-reduces on some GPUs that bandwidth bounds, not latency."""
    large = []
    for row in inputs.table("vidur_collectives"):
        collective = (row["gpu"], row["op"], int(row["ranks"]))
        if collective == (gpu, "all_reduce", ranks) and float(row["bytes"]) > LARGE:
            large.append(row)
    passes = _passes(large)
    return passes._replace(measured=passes.measured / 2.0)


def _passes(rows: Sequence[dict[str, str]]) -> Passes:
    return Passes(
        ranks=column(rows, "ranks", unit=1.0),
        bytes=column(rows, "bytes", unit=1.0),
        measured=column(rows, "us"),
    )

"""Measured kernels compared with the kernel tables: how well each class of op is described.

Benchmarks ran alone and in a loop, so GEMMs are compared before the clock gives way to the power
limit, and no communication is in flight. The measurements are those of `simulator/data/measured`;
no training step is among them. `overlaps` has tensor parallel layers with their collectives,
`exchanges` dispatch and combine.
"""

from __future__ import annotations

from simulator.residuals.attention import attention
from simulator.residuals.fp8_training import fp8_training
from simulator.residuals.gemm_grids import gemm_grids
from simulator.residuals.gemms import gemms
from simulator.residuals.grouped import grouped
from simulator.residuals.links import links
from simulator.residuals.memory_bound import memory_bound
from simulator.residuals.rows import Residuals, processor

__all__ = ["Residuals", "processor", "residuals"]


def residuals() -> tuple[Residuals, ...]:
    """Return every class of op that was measured, with its residuals."""
    return (
        *gemm_grids(),
        *gemms(),
        *grouped(),
        *fp8_training(),
        *memory_bound(),
        *attention(),
        *links(),
    )

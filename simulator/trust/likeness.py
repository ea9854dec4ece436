"""How like a run the published ones are: GPU, dense or MoE, precision, stack and scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulator.trust.kind import Kind

Floats = NDArray[np.float64]
APART = {"gpu": 0.5, "model": 1.0, "precision": 0.5, "stack": 1.0}
"""Part of a kind -> how far apart runs are that differ in one thing. Round numbers: what a kernel table, a host or a
dispatcher gets wrong is shared by runs that use it. Not tuned to any error."""
FAMILY = 0.5
"""More, where GPUs are of different generations: other kernels."""
DOUBLING = 1.0 / 6.0
"""For each doubling of the number of GPUs: a factor of 64 is as far as another stack."""
GENERATIONS = {"A": "Ampere", "H": "Hopper", "B": "Blackwell", "G": "Blackwell", "L": "Ada"}
"""First letter of a GPU's name -> its generation."""


class Likeness:
    """Runs by what makes them like each other, as arrays."""

    def __init__(self, kinds: Sequence[Kind], gpus: Sequence[int]) -> None:
        self.parts = {part: np.array([getattr(kind, part) for kind in kinds]) for part in APART}
        self.generations = np.array([generation(kind.gpu) for kind in kinds])
        self.doublings = np.log2(np.array(gpus, dtype=np.float64))  # [run]

    def distances(self, kind: Kind, gpus: int) -> Floats:
        """Return how unlike a run each of these is [run]."""
        far = DOUBLING * np.abs(self.doublings - np.log2(gpus))  # [run]
        for part, apart in APART.items():
            far = far + apart * (self.parts[part] != getattr(kind, part))
        result: Floats = far + FAMILY * (self.generations != generation(kind.gpu))
        return result


def generation(gpu: str) -> str:
    """Return the generation of a GPU, its own name where it is not known."""
    return GENERATIONS.get(gpu[:1], gpu)

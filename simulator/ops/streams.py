"""The streams of a rank: queues of kernels and transfers, each in its own order."""

from __future__ import annotations

from enum import IntEnum


class Stream(IntEnum):
    """A stream, by the number that a Program's column holds and that traces count threads by."""

    COMPUTE = 0
    """Kernels of layers and of the optimizer."""
    SIDE = 1
    """Kernels that share the SMs with COMPUTE's: half of the experts' weight gradients."""
    COMMUNICATION = 2
    """Dispatch and combine; pipeline sends too, where communication has SMs of its own."""
    DATA = 3
    """Gathers of the data-parallel group's parameters."""
    SEND = 4
    """Pipeline sends. Unordered: they share links and wait for nothing but their input."""
    TENSOR = 5
    """Collectives of the tensor- and context-parallel groups."""
    GRADIENT = 6
    """Reductions of gradients, next to DATA's gathers as in FSDP2 (PyTorch, FSDPCommContext)."""

    @property
    def label(self) -> str:
        """Return the name as reports and traces show it."""
        return self.name.lower()

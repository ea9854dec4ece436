"""Kinds of runs: which GPU, dense or a mixture of experts, which precision, which stack.

An error of one kind says little about another: they fail for different reasons.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.precision import Dtype
from simulator.scenario import Scenario


class Kind(NamedTuple):
    """What cases that fail for the same reasons have in common."""

    gpu: str
    """The GPU, such as H100."""
    model: str
    """What the model is: dense or MoE."""
    precision: str
    """Number format of the GEMMs, such as BF16."""
    stack: str
    """The software stack, such as megatron."""

    def __str__(self) -> str:
        """Print as a table's head does: H100 MoE BF16, megatron."""
        return f"{self.gpu} {self.model} {self.precision}, {self.stack}"


PRECISIONS: dict[Dtype, str] = {
    "bf16": "BF16",
    "fp8": "FP8 blocks",
    "fp8_blockwise": "FP8 blocks",
    "fp8_tensor": "FP8",
    "mxfp8": "MXFP8",
    "nvfp4": "NVFP4",
}
"""Number format of the GEMMs -> what a kind calls it; how tensors are scaled is a detail."""


def kind_of(scenario: Scenario) -> Kind:
    """Return the kind of case that a scenario is."""
    return Kind(
        gpu=scenario.gpu.name.upper(),
        model="MoE" if scenario.model.moe_layers else "dense",
        precision=PRECISIONS[scenario.recipe.gemm],
        stack=scenario.stack.name,
    )

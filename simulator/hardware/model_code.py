"""What the code of a stack's models runs around GEMMs and attention: `code` of a stack's file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.hardware.data import Data


class ModelCode(Data):
    """Kernels between GEMMs that stacks run in different ways.

    The defaults are Megatron-LM's with Transformer Engine.
    """

    rotary: Literal["fused", "complex"] = Field(
        "fused",
        description=(
            "Rotary positions: one fused kernel, or a product of complex numbers: casts to FP32 and "
            "back with a kernel of its own in between."
        ),
    )
    repeats_heads: bool = Field(
        False,
        description=(
            "Whether keys and values are copied to a head of each per query head before attention."
        ),
    )
    joined: bool = Field(
        True,
        description=(
            "Whether one GEMM makes queries, keys and values, and one gate and up; False: one each."
        ),
    )
    casts_weights: Literal["step", "pass"] = Field(
        "step",
        description=(
            "When weights of FP8 GEMMs are cast: once per step, with their transposes, or in every "
            "forward pass, recomputed ones too, and transposed in backward passes."
        ),
    )
    context: Literal["fused", "ring"] = Field(
        "fused",
        description=(
            "Context parallel attention: Transformer Engine's, or PyTorch's ring of kernels whose "
            "outputs are merged in FP32, and whose gradients travel in FP32."
        ),
    )


FUSED = ModelCode.model_construct()
"""Megatron-LM's."""

"""Precision recipes: which dtype multiplies, and how many bytes each tensor takes.

fp8_block: DeepSeek-V3, arXiv 2412.19437, section 3.3: E4M3 GEMMs, 1x128 activation tiles with an FP32 scale each,
128x128 weight blocks, FP32 gradients and master weights, BF16 AdamW moments, dispatch in FP8, combine in BF16.
bf16: Megatron-LM's mixed precision, arXiv 2205.05198, section 4: BF16 weights, FP32 gradients, master and moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["bf16", "fp8"]

RECOMPUTE = ("norm", "mla_up_projection", "swiglu", "core_attention", "full")
"""What the backward pass may compute again instead of keeping, by name."""

BYTES: dict[Dtype, float] = {"bf16": 2.0, "fp8": 1.0 + 4.0 / 128.0}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The dtypes of a training run, as bytes per element [B].

    gemm: dtype of the linear layers' GEMMs. saved_attention_output: how the attention output is kept.
    """

    name: str
    gemm: Dtype
    dispatch: Dtype
    parameter: float
    gradient: float
    master: float
    moments: float
    saved_attention_output: float

    @property
    def quantised(self) -> bool:
        """Tell whether GEMM inputs are cast from BF16 first."""
        return self.gemm != "bf16"

    @property
    def activation(self) -> float:
        """Return the bytes of one cached GEMM input [B]."""
        return BYTES[self.gemm]


RECIPES: dict[str, Recipe] = {
    "fp8_block": Recipe(
        name="fp8_block", gemm="fp8", dispatch="fp8", parameter=2, gradient=4, master=4, moments=4,
        saved_attention_output=1.5 + 4 / 128,  # E5M6 in 12 bits: section 3.3.3 of the report
    ),
    "bf16": Recipe(
        name="bf16", gemm="bf16", dispatch="bf16", parameter=2, gradient=4, master=4, moments=8,
        saved_attention_output=2.0,
    ),
}

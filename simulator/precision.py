"""Precision recipes: which dtype multiplies, and how many bytes each tensor takes.

fp8_block: DeepSeek-V3, arXiv 2412.19437, section 3.3: E4M3 GEMMs, 1x128 activation tiles with an
FP32 scale each, 128x128 weight blocks, FP32 gradients and master weights, BF16 AdamW moments,
dispatch in FP8, combine in BF16. bf16: Megatron-LM's mixed precision, arXiv 2205.05198, section 4:
BF16 weights, FP32 gradients, master and moments. fp8_tensor: Transformer Engine's delayed scaling,
one scale per tensor: every GEMM input is cast once, by a kernel that writes its transpose too,
since Hopper's FP8 GEMM reads K-major only (Blackwell's any layout: no transpose is written there);
weights stay BF16, dispatch is BF16. fp8_current: its current scaling: a pass over the tensor finds
its largest value before the cast. fp8_blockwise: its Float8BlockScaling, DeepSeek's scales in
cuBLAS: tiles of 1x128 and blocks of 128x128, found and cast both ways by one kernel; otherwise as
fp8_tensor. mxfp8: its MXFP8BlockScaling, OCP's microscaling, 32 elements to an 8-bit scale, in
hardware from Blackwell on: one kernel casts both ways, one for each way puts the scales in the
order that the GEMM reads. nvfp4: its NVFP4BlockScaling (arXiv 2509.25149), 16 elements to an FP8
scale, those to a scale of the tensor: a pass finds the largest value, one kernel casts by rows,
with stochastic rounding where it casts gradients, one by columns behind a random Hadamard
transform, and the scales are put in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Dtype = Literal["bf16", "fp8", "fp8_blockwise", "fp8_tensor", "mxfp8", "nvfp4"]

BOTH_WAYS = ("cast_transpose", "mx_cast", "nvfp4_cast")
"""Kinds of casts that write what the weight gradient reads as well."""
RECOMPUTE = (
    "norm",
    "mla_up_projection",
    "swiglu",
    "core_attention",
    "moe_act",
    "mlp",
    "shared_experts",
    "moe",
    "full",
)
"""What the backward pass may recompute instead of keeping, by name."""
MEGATRON_RECOMPUTE = {
    "layernorm": "norm",
    "mla_up_proj": "mla_up_projection",
    "core_attn": "core_attention",
}
"""Names of Megatron-LM's --recompute-modules that have another one here; the others are the same."""

BYTES: dict[Dtype, float] = {
    "bf16": 2.0,
    "fp8": 1.0 + 4.0 / 128.0,  # activations: a scale for 128 elements; weights have fewer
    "fp8_blockwise": 1.0 + 4.0 / 128.0,
    "fp8_tensor": 1.0,
    "mxfp8": 1.0 + 1.0 / 32.0,
    "nvfp4": 0.5 + 1.0 / 16.0,
}
"""Number format -> size of an element with its share of the scales [B]."""
PEAK: dict[Dtype, str] = {
    "bf16": "bf16",
    "fp8": "fp8",
    "fp8_blockwise": "fp8",
    "fp8_tensor": "fp8",
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
}
"""dtype of a GEMM -> the datasheet's dtype whose peak bounds it.

Hopper multiplies FP8 but knows no block scales.
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The number formats of a training run."""

    name: str
    """Name of the recipe, as workloads write it."""
    gemm: Dtype
    """Format of the linear layers' GEMMs."""
    dispatch: Dtype
    """Format in which tokens travel to their experts."""
    parameter: float
    """Size of a parameter [B]."""
    gradient: float
    """Size of a gradient [B]."""
    master: float
    """Size of a master weight [B]."""
    moments: float
    """Size of the optimizer's moments of one parameter together [B]."""
    saved_attention_output: float
    """Size of an element of the attention output as it is kept [B]."""
    cast: str = ""
    """Kind of the op that makes a GEMM input of a BF16 tensor; empty where nothing is cast."""
    cast_bytes: float = 0.0
    """What the cast moves per element [B]."""
    cast_kernels: int = 1
    """Kernels of a cast, those included that only put its scales in order."""
    amax_bytes: float = 0.0
    """What a pass before the cast reads per element to find the largest value [B].

    0 where the scale is known before, or follows from what one kernel sees.
    """
    transposed: bool = True
    """Whether GEMMs read one layout only, so that what a weight gradient reads is transposed."""

    def in_any_layout(self) -> Recipe:
        """Return the recipe on a GPU that multiplies FP8 with a scale per tensor in any layout.

        Its casts write one copy, which all GEMMs read.
        """
        if self.gemm != "fp8_tensor":
            return self
        return replace(self, cast_bytes=2.0 + BYTES[self.gemm], transposed=False)

    @property
    def quantised(self) -> bool:
        """Tell whether GEMM inputs are cast from BF16 first."""
        return bool(self.cast)

    @property
    def casts_once(self) -> bool:
        """Tell whether one cast serves every GEMM that reads the tensor.

        It does where it writes the transpose too, or no GEMM needs that.
        """
        return self.cast in BOTH_WAYS

    @property
    def gathers_both(self) -> bool:
        """Tell whether what both GEMMs of a gradient read is gathered twice, cast along either axis.

        Scales of blocks belong to one axis; one scale per tensor serves both.
        """
        return self.casts_once and self.gemm != "fp8_tensor"

    @property
    def transposes_gathered(self) -> bool:
        """Tell whether what was gathered in FP8 is transposed for the weight gradient."""
        return self.casts_once and self.transposed

    @property
    def keeps_coded(self) -> bool:
        """Tell whether activations are kept in fewer bits, as DeepSeek-V3 keeps them."""
        return self.saved_attention_output < BYTES["bf16"]

    @property
    def peak(self) -> str:
        """Return the datasheet's dtype whose peak bounds the GEMMs."""
        return PEAK[self.gemm]

    @property
    def activation(self) -> float:
        """Return the bytes of one cached GEMM input [B]."""
        return BYTES[self.gemm]


_MIXED = Recipe(
    name="bf16",
    gemm="bf16",
    dispatch="bf16",
    parameter=2,
    gradient=4,
    master=4,
    moments=8,
    saved_attention_output=2.0,
)
"""Megatron-LM's mixed precision, which Transformer Engine's recipes change in GEMMs and casts alone."""
_CAST_ONCE = replace(_MIXED, cast="cast_transpose")

_ROWS = (
    Recipe(
        name="fp8_block",
        gemm="fp8",
        dispatch="fp8",
        parameter=2,
        gradient=4,
        master=4,
        moments=4,
        saved_attention_output=1.5 + 4 / 128,  # E5M6 in 12 bits: section 3.3.3 of the report
        cast="quantise",
        cast_bytes=3.0,
    ),
    _MIXED,
    replace(_CAST_ONCE, name="fp8_tensor", gemm="fp8_tensor", cast_bytes=4.0),
    replace(_CAST_ONCE, name="fp8_current", gemm="fp8_tensor", cast_bytes=4.0, amax_bytes=2.0),
    replace(
        _CAST_ONCE,
        name="fp8_blockwise",
        gemm="fp8_blockwise",
        cast_bytes=2.0 + 2.0 * BYTES["fp8_blockwise"],
    ),
    replace(
        _MIXED,
        name="mxfp8",
        gemm="mxfp8",
        cast="mx_cast",
        cast_bytes=2.0 + 2.0 * BYTES["mxfp8"],
        cast_kernels=3,
        transposed=False,  # it is multiplied in either order
    ),
    replace(
        _MIXED,
        name="nvfp4",
        gemm="nvfp4",
        cast="nvfp4_cast",
        cast_bytes=2.0 * (2.0 + BYTES["nvfp4"]),  # either way reads the tensor
        cast_kernels=4,
        amax_bytes=2.0,
    ),
)
RECIPES: dict[str, Recipe] = {row.name: row for row in _ROWS}

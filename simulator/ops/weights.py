"""How a stack's linear layers read their weights: joined or apart, cast once per step or in every pass.

Megatron-LM joins queries, keys and values, and gate and up, and Transformer Engine casts a weight for
FP8 once per step. Plain PyTorch has a module for each; torchao casts in each forward pass
(float8_linear.py, cast_weight_to_float8_t), and its input gradient reads a transposed copy, since
torch._scaled_mm takes the second matrix by columns.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.ops.op import Op, Ops, Work, gemm, moved, quantise, transpose, wgrad
from simulator.precision import BYTES


def cast(work: Work, *weights: float) -> Ops:
    """Return the casts of weights in front of forward GEMMs; none where they are cast once per step."""
    if work.code.casts_weights == "step" or not work.recipe.casts_once:
        return ()
    # Each is cast by rows alone: read as BF16, written once.
    by_rows = 2.0 + BYTES[work.recipe.gemm]
    # A recipe whose casts are to move nothing has none of either way.
    share = by_rows / work.recipe.cast_bytes if work.recipe.cast_bytes else 1.0
    return tuple(_by_rows(op, share, work.recipe.cast) for op in quantise(work.recipe, *weights))


def _by_rows(op: Op, share: float, kind: str) -> Op:
    """Return a cast of both ways as one of a single way; what finds the scale stays."""
    return op._replace(bytes=op.bytes * share) if op.kind == kind else op


def transposed(work: Work, *weights: float) -> Ops:
    """Return the transposes of FP8 weights before input gradients; none where a cast made them."""
    if not cast(work, *weights):
        return transpose(work.recipe, *weights)
    if not work.recipe.transposed:
        return ()
    return tuple(moved("weight transpose", "transpose", count, 2.0) for count in weights)


class Layers(NamedTuple):
    """Linear layers that read one input."""

    name: str
    """As traces show their GEMMs."""
    rows: float
    """Tokens, of each group."""
    outputs: tuple[int, ...]
    """Of each layer."""
    inputs: int
    """Of all."""
    groups: int = 1
    """Experts with weights of their own."""


def products(work: Work, layers: Layers) -> tuple[Op, ...]:
    """Return the GEMM of each layer."""
    name, rows, outputs, inputs, groups = layers
    dtype = work.recipe.gemm
    return tuple(gemm(name, rows, width, inputs, dtype, groups) for width in outputs)


def input_gradients(work: Work, layers: Layers) -> tuple[Op, ...]:
    """Return the input gradients of the layers, and their sum where they are several."""
    name, rows, outputs, inputs, groups = layers
    dtype = work.recipe.gemm
    each = tuple(gemm(f"{name} dgrad", rows, inputs, width, dtype, groups) for width in outputs)
    if len(each) == 1:
        return each
    # One kernel reads all of them in BF16, and writes the sum.
    elements = rows * groups * inputs
    total = moved("add input gradients", "residual_add", elements, 2.0 * (len(each) + 1))
    return (*each, total)


def gradients(work: Work, layers: Layers) -> tuple[Op, ...]:
    """Return the weight gradients of the layers."""
    name, rows, outputs, inputs, groups = layers
    dtype = work.recipe.gemm
    return tuple(wgrad(f"{name} wgrad", width, inputs, rows, dtype, groups) for width in outputs)

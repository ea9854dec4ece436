"""What linear layers run besides their GEMMs where a stack fuses none of it: biases, sums of gradients.

Megatron-LM's own layers (megatron/core/tensor_parallel/layers.py of 2023, megatron/mpu/layers.py of
2021): PyTorch's elementwise kernels and reductions over FP16 or BF16. Transformer Engine's GEMMs do
the same in their epilogues.
"""

from __future__ import annotations

from simulator.ops.op import Op, Ops, Work, moved

KIND = "residual_add"
"""PyTorch's addition, whose bytes are all counted; the same rate for its sums over rows: estimated."""


def add_bias(work: Work, elements: float, *, biased: bool) -> Ops:
    """Return the addition of a bias to what a GEMM wrote: a read and a write of 2 B."""
    if not (biased and work.layers.biases):
        return ()
    return (moved("add bias", KIND, elements, 4.0),)


def bias_gradient(work: Work, elements: float, *, biased: bool) -> Ops:
    """Return the gradient of a bias, the sum over all rows of a gradient, which is read once."""
    if not (biased and work.layers.sums_biases):
        return ()
    return (moved("bias gradient", KIND, elements, 2.0),)


def added(work: Work, ops: Ops) -> Ops:
    """Return weight gradients, each followed by what adds it to those of the other micro-batches.

    It reads the gradient in 2 B, reads and writes the sum.
    """
    if not work.layers.adds_gradients:
        return ops
    each = 2.0 + 2.0 * work.recipe.gradient
    sums = (
        moved("add gradient", KIND, op.shape.groups * op.shape.m * op.shape.n, each)
        for op in ops
        if isinstance(op, Op) and op.kind == "wgrad"
    )
    return (*ops, *sums)

"""The ops at the end of a step: AdamW, and what a stack does around it."""

from __future__ import annotations

from simulator.hardware import OptimizerKernels
from simulator.ops.op import Op, moved, quantise
from simulator.precision import Recipe

BYTES_FP32 = 4.0
"""Size of a gradient in FP32 [B]."""
FP32_MOMENTS = 8.0
"""Size of both moments of a parameter in FP32 [B]."""

APART = 80.0
"""What AdamW's kernels move per parameter, one for each operation in FP32 [B].

Composer, optim/decoupled_weight_decay.py, adamw: the first moment decays (8) and adds the gradient (12),
the second decays (8) and adds its square (12); root (8), division (8), epsilon (8), and the step, which
reads three tensors (16). Parameters do not decay: llm-foundry's recipes have a weight_decay of 0.
"""


def update(
    recipe: Recipe,
    stack: OptimizerKernels,
    updated: float,
    held: float,
    *,
    gathered: float = 0.0,
) -> tuple[Op, ...]:
    """Return the kernels of an update.

    updated: parameters whose optimizer states the GPU holds. held: parameters whose gradients it
    holds. gathered: those of `updated` that are copied before each gather, not here.
    """
    # Moments in BF16 come with a kernel that reads gradients as they are (Megatron-LM's
    # use_precision_aware_optimizer); else what is updated from may be an FP32 copy, made first.
    casts = stack.casts_moments and recipe.moments < FP32_MOMENTS
    gradient, made = recipe.gradient, 0.0
    if stack.copies_gradients and gradient < BYTES_FP32 and not casts:
        gradient, made = BYTES_FP32, recipe.gradient + BYTES_FP32
    # It reads the gradient, reads and writes master weight and moments.
    adamw = gradient + 2 * recipe.master + 2 * recipe.moments
    if not stack.fused:
        adamw = APART
    # The parameter is written by it, or by a copy that reads the master weight once more.
    copied = 0.0
    if stack.copies:
        copied = recipe.master + recipe.parameter
    else:
        adamw += recipe.parameter
    # Moments in BF16 are read and written in FP32 before the update, and written back behind it.
    cast = 0.0
    if casts:
        cast = 2 * (recipe.moments + FP32_MOMENTS)
        adamw += 2 * (FP32_MOMENTS - recipe.moments)
    ops = (
        moved("scale and zero gradients", "optimizer", held, stack.held_passes * recipe.gradient),
        moved("copy gradients", "optimizer", updated, made),
        moved("clip gradients", "optimizer", updated, stack.shard_passes * gradient),
        moved("cast moments", "optimizer", updated, cast),
        moved("adamw", "optimizer", updated, adamw),
        moved("copy parameters", "optimizer", max(0.0, updated - gathered), copied),
    )
    return tuple(op for op in ops if op.bytes)


def cast_weights(recipe: Recipe, weights: float) -> tuple[Op, ...]:
    """Return the casts of the weights that FP8 GEMMs read, with their transposes, once per step.

    Micro-batches but the first find them cast (Transformer Engine, is_first_microbatch). weights:
    of linear layers that the GPU holds.
    """
    if not recipe.casts_once:
        return ()
    return quantise(recipe, weights)


def temporaries(recipe: Recipe, stack: OptimizerKernels, dense: float, routed: float) -> float:
    """Return what the update needs besides the states, at most [B].

    dense, routed: parameters that it updates. Each kind has an optimizer of its own, and they run
    one after another.
    """
    if stack.casts_moments and recipe.moments < FP32_MOMENTS:
        return max(dense, routed) * FP32_MOMENTS
    if stack.copies_gradients and recipe.gradient < BYTES_FP32:
        # Gradients of both are copied before either is updated.
        return (dense + routed) * BYTES_FP32
    return 0.0

"""The ops at the end of a step: AdamW, and what a stack does around it."""

from __future__ import annotations

from simulator.hardware import OptimizerKernels
from simulator.ops.op import Op, moved, quantise
from simulator.precision import Recipe


def update(recipe: Recipe, stack: OptimizerKernels, updated: float, held: float) -> tuple[Op, ...]:
    """Return the kernels of an update.

    updated: parameters whose optimizer states the GPU holds. held: parameters whose gradients it
    holds.
    """
    # It reads the gradient, reads and writes master weight and moments.
    adamw = recipe.gradient + 2 * recipe.master + 2 * recipe.moments
    # The parameter is written by it, or by a copy that reads the master weight once more.
    copied = 0.0
    if stack.copies:
        copied = recipe.master + recipe.parameter
    else:
        adamw += recipe.parameter
    ops = (
        moved("scale and zero gradients", "optimizer", held, stack.held_passes * recipe.gradient),
        moved("clip gradients", "optimizer", updated, stack.shard_passes * recipe.gradient),
        moved("adamw", "optimizer", updated, adamw),
        moved("copy parameters", "optimizer", updated, copied),
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

"""The copies beside gathers of sharded parameters and reductions of their gradients.

Where each parameter is cut into shards of its own (FSDP2), what a gather brings is laid out by rank
and has to be copied into parameters, and gradients into the buffer that is scattered by rank.
"""

from __future__ import annotations

from simulator.ops.op import Op, moved
from simulator.precision import Recipe

_AUTOGRAD = 2.0
"""Bytes of a gradient as autograd makes it: BF16, whatever it is summed in."""


def cast_shard(recipe: Recipe, parameters: float) -> Op:
    """Return the cast of master weights to what is gathered (MixedPrecision.param_dtype)."""
    return moved("cast shard", "shard_cast", parameters, recipe.master + recipe.parameter)


def copy_out(recipe: Recipe, parameters: float) -> Op:
    """Return the copy of gathered parameters: reads each, and writes it (split_with_sizes_copy)."""
    return moved("copy out", "shard_copy", parameters, 2 * recipe.parameter)


def copy_in(recipe: Recipe, parameters: float, *, casts_apart: bool = False) -> tuple[Op, ...]:
    """Return the copy of gradients: reads BF16, writes what is summed (chunk_cat).

    casts_apart: it writes BF16, and a cast of its own reads that.
    """
    same = moved("copy in", "shard_copy", parameters, 2 * _AUTOGRAD)
    if recipe.gradient == _AUTOGRAD:
        return (same,)
    if casts_apart:
        cast = moved("cast gradients", "shard_cast", parameters, _AUTOGRAD + recipe.gradient)
        return (same, cast)
    return (moved("copy in", "shard_cast", parameters, _AUTOGRAD + recipe.gradient),)


def divide(recipe: Recipe, parameters: float) -> Op:
    """Return the division of gradients before they are reduced, in place."""
    return moved("divide gradients", "elementwise", parameters, 2 * recipe.gradient)

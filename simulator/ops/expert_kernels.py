"""How many kernels a software stack runs for the routed experts of a GPU, and what it pads."""

from __future__ import annotations

from simulator.ops.op import Item, Op, Ops, Work, moved
from simulator.precision import BOTH_WAYS, Recipe

GEMMS = frozenset({"gemm", "wgrad"})
CASTS = frozenset({"quantise", *BOTH_WAYS, "amax"})


def launches(work: Work) -> int:
    """Return the kernels of one GEMM of all experts."""
    return work.local_experts if work.expert_kernels == "per_expert" else 1


def padded_rows(work: Work) -> float:
    """Return the rows that the experts compute, each expert's padded to a multiple."""
    # Any remainder is as likely as another: half of a multiple on average.
    return work.expert_rows + work.local_experts * (work.row_multiple - 1) / 2


def pad(work: Work, name: str) -> Ops:
    """Return the kernel that pads the rows of each expert, or takes the padding away.

    Transformer Engine leaves it out where the rows of every expert are multiples already
    (module/fp8_padding.py). Those of several experts never are: routing decides over them, also
    where Megatron forces balance, for it draws scores at random (moe_utils.py, apply_random_logits).
    """
    if work.row_multiple == 1:
        return ()
    elements = padded_rows(work) * work.model.hidden_size
    return (moved(name, "permute", elements, 4.0),)


def per_expert(work: Work, ops: Ops) -> Ops:
    """Return ops on the rows of all experts, as many kernels as the stack launches for them."""
    return repeated(work.recipe, launches(work), ops)


def repeated(recipe: Recipe, count: int, ops: Ops) -> Ops:
    """Return ops as experts run them: GEMMs of rows that differ, `count` kernels each, and casts."""
    # Delayed scaling knows its scales beforehand, and casts for all experts at once (Transformer
    # Engine, multi_cast_transpose).
    kinds = GEMMS if recipe.name == "fp8_tensor" else GEMMS | CASTS
    return tuple(_repeated(op, kinds, count) for op in ops)


def _repeated(op: Item, kinds: frozenset[str], count: int) -> Item:
    if not isinstance(op, Op) or op.kind not in kinds:
        return op
    # Of a weight gradient rows are summed over, so that they fill no tiles.
    uneven = op.kind == "gemm" and op.shape.groups > 1
    return op._replace(launches=count * op.launches, uneven=uneven)

"""The all-gather dispatcher: every token goes to every GPU of the group, whoever its experts are.

Each GPU then picks the tokens of its own experts, and what they make of all tokens is summed on the
way back: Megatron-LM's `allgather` dispatcher (core/transformer/moe/token_dispatcher.py).
"""

from __future__ import annotations

from simulator.collectives.batch import Batch, TokenKernels
from simulator.collectives.demand import Demand
from simulator.collectives.kinds import EXCHANGES
from simulator.collectives.units import unit
from simulator.hardware import KernelConfig


def kernels(table: KernelConfig) -> TokenKernels:
    """Return NCCL's rings."""
    return TokenKernels(dict.fromkeys(EXCHANGES, table.communication["nccl_simple"]))


def demand(batch: Batch) -> Demand:
    """Return the demand of one byte of each GPU's tokens, gathered everywhere or summed back."""
    op = "reduce_scatter" if batch.kind.returns else "all_gather"
    whole = unit(batch.network, "ring", op, batch.members, batch.kernel)
    # The buffer of a gather holds the tokens of all members.
    return whole.scaled(len(batch.members))

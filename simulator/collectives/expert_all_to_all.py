"""The plain dispatcher: `top_k` copies of each token to the experts' GPUs by an all-to-all.

No copy is spared where several of a token's experts share a node or a GPU, and none stays at home
unless its expert does: what Megatron-LM's `alltoall` dispatcher sends.
"""

from __future__ import annotations

from simulator.collectives.batch import Batch, TokenKernels
from simulator.collectives.demand import Demand
from simulator.collectives.kinds import EXCHANGES
from simulator.collectives.straight import between
from simulator.collectives.units import unit
from simulator.errors import InputError
from simulator.hardware import KernelConfig


def kernels(table: KernelConfig) -> TokenKernels:
    """Return NCCL's grouped sends."""
    return TokenKernels(dict.fromkeys(EXCHANGES, table.communication["all_to_all"]))


def demand(batch: Batch) -> Demand:
    """Return the demand of one byte per copy.

    The buffer of a rank holds `top_k` copies of its tokens, in equal blocks where all GPUs get the
    same or the busiest stands for all. Errors: InputError where GPUs have loads of their own and
    the algorithm is not pairwise: it hands blocks on that are not alike then.
    """
    # The collective's buffer is everything that a rank sends, `rows` copies of each of its tokens;
    # only pairs can send blocks of unlike sizes.
    if not batch.load.per_gpu:
        whole = unit(batch.network, batch.algorithm, "all_to_all", batch.members, batch.kernel)
        return whole.scaled(batch.load.rows)
    if batch.algorithm != "pairwise":
        raise InputError(
            f"needs the pairwise all-to-all, not {batch.algorithm}, which takes blocks of equal "
            "size",
            key="experts.resolve",
            value="each",
            remedy="Write experts.resolve=worst, or communication.expert.algorithm=pairwise.",
        )
    return between(batch, forwarding=True)

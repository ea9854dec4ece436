"""Bruck's all-to-all: ceil(log2 n) rounds of large messages in place of n - 1 small ones.

J. Bruck, C.-T. Ho, S. Kipnis, E. Upfal and D. Weathersby, IEEE Trans. Parallel Distrib. Syst.
8(11), 1997, section 3.1, with radix 2. A block that has to travel d places forward along the ring
of ranks does so by the binary digits of d: in round k every rank hands the blocks whose d has bit k
to the rank 2^k places ahead. For n a power of two these are n/2 blocks in each round, so that
log2(n) / 2 buffers leave each rank where pairs send (n-1)/n of one: fewer latencies for more bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Rounds, a_round, kept
from simulator.topology import Network


def handed_on(count: int, bit: int) -> int:
    """Return how many of a rank's `count` blocks travel in round `bit`: whose distance has it."""
    digits = np.arange(count) >> bit & 1  # [distance]
    return int(digits.sum())


def all_to_all(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return the rounds, of blocks of S/n."""
    ranks = np.array(sorted(members), dtype=np.int64)
    count = len(ranks)
    steps = []
    rounds = (count - 1).bit_length()  # digits of the longest distance, count - 1
    for bit in range(rounds):
        ahead = np.roll(ranks, -(1 << bit))
        sent = handed_on(count, bit) * size / count
        steps.append(a_round(ranks, ahead, sent))
    return Rounds(kept(*steps))

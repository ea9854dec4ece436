"""Sends between neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.collectives.demand import Rounds, a_round, kept
from simulator.topology import Network


def send_recv(network: Network, members: Sequence[int], size: float) -> Rounds:
    """Return S from each rank to the next, the last to the first, all at once.

    As nccl-tests' sendrecv does.
    """
    ranks = np.array(sorted(members), dtype=np.int64)
    following = np.roll(ranks, -1)
    another = ranks != following  # a lone rank follows itself and sends nothing
    step = a_round(ranks[another], following[another], size)
    return Rounds(kept(step))

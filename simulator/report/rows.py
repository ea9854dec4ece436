"""Which rows of a program carry what."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.program import Program

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def inbound_sends(program: Program, sends: Mask) -> list[Ints]:
    """Return the sends that rows of each class of ranks wait for, each once [rank class][row].

    sends: which rows are pipeline sends [op].
    """
    of_send = np.flatnonzero(sends[program.wait])  # [wait for a send] wait
    waiting = np.searchsorted(program.wait_ptr, of_send, side="right") - 1  # [wait for a send] op
    # One number per pair of rank and send, since these sort faster than pairs.
    rows = max(1, len(sends))
    keys = program.rank[waiting] * rows + program.wait[of_send]  # [wait for a send]
    keys.sort()
    fresh = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    pairs = keys[fresh]
    rank, send = np.divmod(pairs, rows)
    counts = np.bincount(rank, minlength=program.ranks)
    ends = np.cumsum(counts)  # [rank class]
    return np.split(send, ends[:-1])


def carries(program: Program, traffic: str) -> Mask:
    """Tell which rows are transfers of a kind of traffic [op]."""
    # The last entry stands for kernels, whose coflow is -1.
    wanted = [flow.traffic == traffic for flow in program.coflows]
    of_coflow = np.array([*wanted, False])
    of_row: Mask = of_coflow[program.coflow]
    return of_row

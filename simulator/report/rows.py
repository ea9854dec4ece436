"""What the rows of each class of ranks do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.ops.streams import Stream
from simulator.program import Program

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RankRows:
    """The rows of one class of ranks, by what they do."""

    kernels: Ints
    """What occupies SMs."""
    exchanges: Ints
    """Dispatch and combine."""
    tensor: Ints
    """Gathers and scatters of tensor parallelism."""
    context: Ints
    """Transfers of context parallelism."""
    inbound: Ints
    """Sends of other ranks that rows of this one wait for."""
    data: Ints
    """Gradients and parameters."""

    @property
    def inside(self) -> Ints:
        """Return the transfers that layers wait for."""
        return np.concatenate([self.exchanges, self.tensor, self.context])


def rank_rows(program: Program) -> list[RankRows]:
    """Return the rows of each class of ranks, by what they do [rank class]."""
    # Masks over the whole program once, not once per rank.
    stream = program.stream
    sends = carries(program, "pipeline")
    of_context = carries(program, "context")
    # Pipeline sends share the communication stream where few SMs serve both, context parallelism the
    # stream of tensor parallelism: a stream alone does not say what moves on it.
    kernels = program.coflow < 0
    exchanges = (stream == Stream.COMMUNICATION) & ~sends
    tensor = (stream == Stream.TENSOR) & ~of_context
    context = (stream == Stream.TENSOR) & of_context
    data = (stream == Stream.DATA) | (stream == Stream.GRADIENT)
    return [
        RankRows(
            kernels=own[kernels[own]],
            exchanges=own[exchanges[own]],
            tensor=own[tensor[own]],
            context=own[context[own]],
            inbound=inbound,
            data=own[data[own]],
        )
        for own, inbound in zip(program.rows_by_rank, inbound_sends(program, sends), strict=True)
    ]


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

"""Waiting for peers before dispatch and combine: an interval, since no constant of a kernel describes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, Field

from simulator import inputs
from simulator.collectives.kinds import EXCHANGES
from simulator.frozen import FROZEN
from simulator.program import Program
from simulator.progress import doing
from simulator.units import Integer, Seconds


class WaitRow(BaseModel):
    """How long an exchange waited for its peers where that was measured."""

    model_config = FROZEN

    nodes: Integer = Field(gt=0, description="Nodes of the expert group, at most.", examples=[4])
    least: Seconds = Field(ge=0, description="Of one exchange [s].", examples=["0 s"])
    most: Seconds = Field(ge=0, description="Of one exchange [s].", examples=["330 us"])
    source: str = Field(description="Where it was measured.", examples=["DeepEP on 4 nodes"])


class WaitTable(BaseModel):
    """Every measured interval, `simulator/data/trust/waits.yaml`."""

    model_config = FROZEN

    rows: tuple[WaitRow, ...] = Field(description="From few nodes to many.")


@dataclass(frozen=True, slots=True)
class Waits:
    """What waiting for peers may add to a step; nothing of it is in the step."""

    exchanges: float
    """Dispatches and combines that a rank takes part in, mean over ranks."""
    nodes: int
    """Of the expert group."""
    least: float
    """Of one exchange [s]."""
    most: float
    """Of one exchange [s]."""
    source: str
    """Where these were measured."""

    @property
    def added(self) -> float:
        """Return what it adds if every exchange waits longest and no compute hides it [s]."""
        return self.exchanges * self.most


@doing("waits at exchanges")
def waits(program: Program) -> Waits | None:
    """Return what waiting at exchanges may add; None where nothing is exchanged or nobody waits."""
    loads = program.costs.loads
    if loads is None:
        return None
    exchanges = _exchanges(program)
    nodes = loads.distinct[0].ep_nodes
    table = inputs.validate(inputs.data("trust", "waits"), WaitTable)
    row = next(row for row in table.rows if nodes <= row.nodes)
    if not exchanges or not row.most:
        return None
    return Waits(exchanges, nodes, row.least, row.most, row.source)


def _exchanges(program: Program) -> float:
    """Return the exchanges that a rank takes part in, mean over ranks."""
    # The last entry stands for kernels, whose coflow is -1.
    kinds = [flow.label[0] in EXCHANGES for flow in program.coflows]
    is_exchange = np.array([*kinds, False])[program.coflow]  # [op]
    counts = np.bincount(program.rank[is_exchange], minlength=program.ranks)  # [rank class]
    return program.mean(counts.astype(np.float64))

"""Collectives, sends, dispatch and combine -> rounds of pairs -> seconds, or demands on links.

`ALGORITHMS` holds the collective algorithms, `DISPATCHERS` what brings tokens to their experts;
steps and `simulate collective` share both. `resolve` runs rounds pair by pair. Inside a step a
collective is a coflow, `demand`: one demand per link, paced by its slowest link, `replicas`: the
same in many groups at once; `Communication` says which row each process group of a scenario runs,
`exchanges` with which kernel under which load.
"""

from __future__ import annotations

from simulator.collectives.algorithms import (
    ALGORITHMS,
    BUS_FACTORS,
    Algorithm,
    of_nccl,
    of_op,
    open_to,
)
from simulator.collectives.batch import Batch, TokenKernels
from simulator.collectives.choose import Choice, Kernels, choices, chosen
from simulator.collectives.communication import (
    Communication,
    Exchange,
    Plan,
)
from simulator.collectives.deepep import exchange
from simulator.collectives.demand import Demand, Pattern, Round, Rounds, demand, send
from simulator.collectives.dispatchers import DISPATCHERS, OF_STACK, Dispatcher, dispatcher_names
from simulator.collectives.kinds import CoflowKind, Traffic
from simulator.collectives.named import dispatcher_of, sms_of
from simulator.collectives.resolve import Cost, cost, resolve
from simulator.collectives.straight import straight, without_forwarding
from simulator.collectives.table import TIMED, Row, Timed, check_ranks, exchange_row, rows
from simulator.collectives.units import unit

__all__ = [
    "ALGORITHMS",
    "BUS_FACTORS",
    "DISPATCHERS",
    "OF_STACK",
    "TIMED",
    "Algorithm",
    "Batch",
    "Choice",
    "CoflowKind",
    "Communication",
    "Cost",
    "Demand",
    "Dispatcher",
    "Exchange",
    "Kernels",
    "Pattern",
    "Plan",
    "Round",
    "Rounds",
    "Row",
    "Timed",
    "TokenKernels",
    "Traffic",
    "check_ranks",
    "choices",
    "chosen",
    "cost",
    "demand",
    "dispatcher_names",
    "dispatcher_of",
    "exchange",
    "exchange_row",
    "of_nccl",
    "of_op",
    "open_to",
    "resolve",
    "rows",
    "send",
    "sms_of",
    "straight",
    "unit",
    "without_forwarding",
]

"""When hosts launch what: what can be added up before anything runs.

A host goes through the rows of its rank in their order. Between two rows that drain it, it is busy
without a break, so that a row's launch lies a fixed time behind the moment at which the host went on.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.program import Program
from simulator.program.program import Floats, Ints, Numbers

NO_ROW = -1
"""Stands for the draining row in front where there is none."""
NO_GATE = np.iinfo(np.int32).max
"""Stands for the next draining row where none is left."""


class Hosts(NamedTuple):
    """What executors need of hosts, by row and by class of ranks."""

    since: Numbers
    """The last draining row in front of the row, or NO_ROW [row]."""
    before: Floats
    """Host seconds from that one's launch, itself included, to the row [row] s."""
    gate: Numbers
    """Of draining rows: the next draining row of the rank, or NO_GATE [row]."""
    begin: Floats
    """When the host of a rank begins [rank class] s."""
    first_gate: Numbers
    """First draining row of a rank, or NO_GATE [rank class]."""


def hosts_of(program: Program) -> Hosts:
    """Return how the hosts of a program go through its rows."""
    rows = len(program.rank)
    hosts = Hosts(
        since=np.full(rows, NO_ROW, dtype=np.int32),
        before=np.zeros(rows),
        gate=np.full(rows, NO_GATE, dtype=np.int32),
        begin=np.zeros(program.ranks),
        first_gate=np.full(program.ranks, NO_GATE, dtype=np.int32),
    )
    for rank, own in enumerate(program.rows_by_rank):
        if len(own):
            _fill(hosts, program, rank, own)
    return hosts


def _fill(hosts: Hosts, program: Program, rank: int, own: Ints) -> None:
    """Fill in what belongs to one rank. own: its rows, in their order."""
    # Sums are taken rank by rank, so that folded and unfolded programs get the same bits.
    ends = np.cumsum(program.host[own])  # [own row] s
    begins = ends - program.host[own]
    drains = program.drains[own]
    # A row may become ready long after the host has gone on behind it, so each row knows from which
    # draining row its own launch counts; of a draining row that is the one before.
    places = np.flatnonzero(drains)
    ahead = np.cumsum(drains, dtype=np.int64) - drains  # draining rows in front [own row]
    last = ahead - 1  # [own row] index into `places`
    known = last >= 0
    hosts.since[own[known]] = own[places[last[known]]]
    origin = np.zeros(len(own))  # [own row] s
    origin[known] = begins[places[last[known]]]
    hosts.before[own] = begins - origin
    gates = own[drains]
    hosts.gate[gates[:-1]] = gates[1:]
    if len(gates):
        hosts.first_gate[rank] = gates[0]
    # A step begins when its first kernels can: their hosts have launched them while the step before
    # updated its parameters.
    hosts.begin[rank] = -program.lead[own[0]]

"""A Program as the columns and records that the compiled executor works on."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.compute.contention import most
from simulator.engine.hosts import hosts_of
from simulator.engine.records import (
    CALL,
    COUNTS,
    CROSSING,
    EVENT,
    KIND,
    LINK,
    NONE,
    PART,
    RANK,
    TIMES,
    Floats,
    Ids,
    Records,
    State,
)
from simulator.program import Program


def state_of(program: Program) -> State:
    """Return the state before anything has begun."""
    kind, part = _kinds(program)
    hosts = hosts_of(program)
    call, crossing = _calls(program, kind)
    # Room for the most that there can be of everything: compiled code never makes an array.
    ranks, rows, links = program.ranks, len(program.rank), len(program.capacity)
    calls = len(call) - 1
    events = ranks + calls + rows
    return State(
        seconds=_column(program.seconds),
        lead=_column(program.lead),
        lag=_column(program.lag),
        sms=_column(program.sms),
        hbm=_column(program.hbm),
        both=_column(program.both),
        before=hosts.before,
        issue=np.zeros(rows),
        due=np.zeros(rows),
        arrive=np.zeros(rows),
        start=np.zeros(rows),
        end=np.full(rows, -1.0),
        slowed=np.zeros(rows),
        owner=program.rank.astype(np.int32),
        member=program.calls.of_row,
        waiting=np.diff(program.wait_ptr).astype(np.int32),
        begin=program.followers.begin,
        since=hosts.since,
        gate=hosts.gate,
        following=_none(rows),
        later=_none(rows),
        earlier=_none(rows),
        follower=program.followers.rows,
        initial=np.flatnonzero(np.diff(program.wait_ptr) == 0).astype(np.int32),
        rank=_fresh(
            RANK,
            ranks,
            host=hosts.begin,
            gate=hosts.first_gate,
            held=NONE,
            sms=NONE,
            queue=NONE,
            moving=NONE,
            last_moving=NONE,
        ),
        kind=kind,
        part=part,
        call=call,
        crossing=crossing,
        link=_fresh(
            LINK,
            links,
            capacity=program.capacity,
            first=NONE,
            last=NONE,
        ),
        event=_fresh(EVENT, events, slot=NONE),
        heap=_room(events),
        instant=_room(events),
        changed=_room(calls),
        sharing=_room(calls),
        frontier=_room(calls),
        rising=_room(calls),
        touched=_room(links),
        # In an instant a rank ends a kernel, and each of its rows may ask for SMs.
        unsettled=_room(ranks + rows),
        disturbed=_room(ranks),
        most=np.array([most()]),
        counts=np.zeros(COUNTS, dtype=np.int64),
    )


def nothing() -> State:
    """Return a state of nothing, which has the types of any other."""
    layouts = {
        "rank": RANK,
        "kind": KIND,
        "part": PART,
        "call": CALL,
        "crossing": CROSSING,
        "link": LINK,
        "event": EVENT,
        "counts": np.dtype(np.int64),
    }
    floats = dict.fromkeys([*TIMES, "most"], np.dtype(np.float64))
    numbers = np.dtype(np.int32)
    known = {**layouts, **floats}
    return State(*(np.zeros(0, known.get(name, numbers)) for name in State._fields))


def _calls(program: Program, kind: Records) -> tuple[Records, Records]:
    """Return the calls, a last one that is none, and their crossings."""
    kinds = program.calls.kind
    lengths = np.diff(kind["begin"])[kinds]  # parts of each [call]
    call = _fresh(
        CALL,
        len(kinds) + 1,
        first=NONE,
        last=NONE,
        begin=_ends(lengths),
        kind=np.append(kinds, NONE),
    )
    crossing = _fresh(CROSSING, lengths.sum(), after=NONE, before=NONE)
    crossing["call"] = np.repeat(np.arange(len(kinds)), lengths)
    return call, crossing


def _kinds(program: Program) -> tuple[Records, Records]:
    """Return the kinds of coflows, with a last one that only ends the list of parts, and their parts."""
    flows = program.coflows
    links = [len(flow.links) for flow in flows]
    lengths = np.array(links, dtype=np.int64)  # [kind]
    kind = _fresh(KIND, len(flows) + 1, begin=_ends(lengths))
    kinds = kind[:-1]  # a view: what is written here is in the records
    kinds["members"] = [len(flow.members) for flow in flows]
    for name in ("size", "rate", "overlap_slowdown", "latency", "sms", "hbm"):
        kinds[name] = [getattr(flow, name) for flow in flows]
    part = _fresh(PART, lengths.sum())
    crossed = list(chain.from_iterable(flow.links for flow in flows))
    part["link"] = [link for link, _ in crossed]
    part["weight"] = [weight for _, weight in crossed]
    # A kind is unhindered if none of its links is too small for its kernel's rate: alone on them
    # it needs no filling.
    owner = np.repeat(np.arange(len(flows)), lengths)  # [part]
    demand = part["weight"] * kind["rate"][owner]  # [part] B/s
    hinders = demand > program.capacity[part["link"]]  # [part]
    hindrances = np.bincount(owner, hinders, len(flows))  # [kind]
    kinds["unhindered"] = hindrances == 0
    return kind, part


def _fresh(layout: np.dtype[np.void], count: int, **fields: Any) -> Records:
    """Return records that are zero but for some fields."""
    records = np.zeros(count, dtype=layout)
    for name, values in fields.items():
        records[name] = values
    return records


def _column(values: Floats) -> Floats:
    """Return a column as compiled code reads it: itself, but where it has gaps."""
    return np.ascontiguousarray(values, dtype=np.float64)


def _none(count: int) -> Ids:
    return np.full(count, NONE, dtype=np.int32)


def _room(count: int) -> Ids:
    return np.zeros(count, dtype=np.int32)


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of some runs begins, and where the last one ends."""
    ends = np.cumsum(lengths)
    return np.concatenate([[0], ends]).astype(np.int64)

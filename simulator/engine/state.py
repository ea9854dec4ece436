"""What the compiled executor works on: a Program as records, one array for each kind of thing."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from simulator.program import Program

Ids: TypeAlias = NDArray[np.int32]
Records: TypeAlias = NDArray[Any]

NONE = -1
"""ends a chain"""


def _record(integers: str, floats: str = "") -> np.dtype[np.void]:
    # Floats first: then all fields lie where a processor reads them at once.
    return np.dtype(
        [(name, "f8") for name in floats.split()] + [(name, "i4") for name in integers.split()],
        align=True,
    )


_ROW = _record("rank call first waiting following later earlier", "seconds arrive start end")
"""first: of its followers. following: behind it in its rank's queue or its call. later, earlier: see `slowed`."""
_RANK = _record("sms queue queued computing slowed last_slowed")
"""sms: row that has them. queue, queued: first and last row that waits for them. slowed: members of calls that move
bytes and are slower while the rank computes."""
_KIND = _record("begin members lone", "size rate beside latency")
"""begin: of its parts. lone: whether a coflow alone on its links moves as fast as its kernel allows."""
_PART = _record("link", "weight")
_CALL = _record("kind begin first last arrived open mark", "rate left since fresh cap")
"""begin: of its crossings. first, last: member that arrived. mark: number of the last search that met it. left: bytes
at the time since. fresh, cap: see `_fill`."""
_CROSSING = _record("call after before")
_LINK = _record("users last on full seen", "capacity room share")
"""users, last: crossings. on: how many. full, room, share: see `_fill`. seen: number of the last search that met it."""
_EVENT = _record("place", "at order")
"""place: in the heap. order: of the times given, a float because it stands beside one and is exact up to 2^53."""


class State(NamedTuple):
    """All there is. found, todo, rising, touched, unsettled: room to work in."""

    row: Records
    follower: Ids
    rank: Records
    kind: Records
    part: Records
    call: Records
    crossing: Records
    link: Records
    event: Records
    heap: Ids
    found: Ids
    todo: Ids
    rising: Ids
    touched: Ids
    unsettled: Ids
    counts: NDArray[np.int64]


def state_of(program: Program) -> State:
    """Return the state before anything has begun."""
    kind, part = _kinds(program)
    transfer = program.coflow >= 0
    _, first, number = np.unique(program.instance[transfer], return_index=True, return_inverse=True)
    row, follower = _rows(program)
    row["call"][:-1][transfer] = number
    of = program.coflow[transfer][first]
    lengths = np.diff(kind["begin"])[of]
    call = _fresh(
        _CALL, len(first) + 1, first=NONE, last=NONE, begin=_ends(lengths), kind=np.append(of, NONE)
    )
    crossing = _fresh(_CROSSING, lengths.sum(), after=NONE, before=NONE)
    crossing["call"] = np.repeat(np.arange(len(first)), lengths)
    links, ranks, calls = len(program.capacity), program.ranks, len(first)

    def room(count: int) -> Ids:
        return np.zeros(count, dtype=np.int32)

    return State(
        row,
        follower,
        _fresh(_RANK, ranks, sms=NONE, queue=NONE, slowed=NONE, last_slowed=NONE),
        kind,
        part,
        call,
        crossing,
        _fresh(_LINK, links, capacity=program.capacity, users=NONE, last=NONE),
        _fresh(_EVENT, ranks + calls, place=NONE),
        room(ranks + calls),
        room(calls),
        room(calls),
        room(calls),
        room(links),
        room(2 * ranks + 2),  # between two settlements a rank ends a kernel and begins one
        np.zeros(6, dtype=np.int64),
    )


def _rows(program: Program) -> tuple[Records, Ids]:
    """Return the rows, a last one that only ends the list of followers, and the followers, by row in rising order."""
    waits = np.diff(program.wait_ptr)
    waiters = np.repeat(np.arange(len(waits), dtype=np.int32), waits)
    begins = _ends(np.bincount(program.wait, minlength=len(waits)))
    row = _fresh(
        _ROW,
        len(waits) + 1,
        first=begins,
        call=NONE,
        following=NONE,
        later=NONE,
        earlier=NONE,
        end=-1.0,
    )
    for name, values in (("rank", program.rank), ("waiting", waits), ("seconds", program.seconds)):
        row[name][:-1] = values
    return row, waiters[np.argsort(program.wait, kind="stable")]


def _kinds(program: Program) -> tuple[Records, Records]:
    """Return the kinds of coflows, with a last one that only ends the list of parts, and their parts."""
    flows = program.coflows
    lengths = np.array([len(flow.links) for flow in flows], dtype=np.int64)
    kind = _fresh(_KIND, len(flows) + 1, begin=_ends(lengths))
    for name, values in (
        ("members", [len(flow.members) for flow in flows]),
        ("size", [flow.size for flow in flows]),
        ("rate", [flow.rate for flow in flows]),
        ("beside", [flow.overlap_slowdown for flow in flows]),
        ("latency", [flow.latency for flow in flows]),
    ):
        kind[name][:-1] = values
    part = _fresh(_PART, lengths.sum())
    part["link"] = [link for flow in flows for link, _ in flow.links]
    part["weight"] = [weight for flow in flows for _, weight in flow.links]
    owner = np.repeat(np.arange(len(flows)), lengths)
    bound = part["weight"] * kind["rate"][owner] > program.capacity[part["link"]]
    kind["lone"][:-1] = np.bincount(owner, bound, len(flows)) == 0
    return kind, part


def _fresh(layout: np.dtype[np.void], count: int, **fields: Any) -> Records:
    """Return records that are zero but for some fields."""
    made = np.zeros(count, dtype=layout)
    for name, values in fields.items():
        made[name] = values
    return made


def _ends(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of some runs begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)

"""What the compiled executor works on: the records of each kind of thing, and the arrays that hold them.

Things of one kind are the records of one array. Rows alone are columns, as in a program and in a
timeline: there may be millions, and what is a column there already is not copied.

Lists are chains of numbers that end with NONE. A row is in the queue of its rank or among the
members of its call. A crossing, which is a call on one of its links, is among the others on that
link. Both are in the order in which they came.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Ids: TypeAlias = NDArray[np.int32]
Counts: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Records: TypeAlias = NDArray[Any]

NONE = -1
"""Ends a chain."""

HEAP, ORDER, DONE, STAMP, UNSETTLED, CHANGED, DISTURBED, FAILED, BEGUN, COUNTS = range(10)
"""Places in State.counts: events in the heap, times given, rows ended, searches begun, ranks to settle, calls to give
new rates, ranks to give new speeds, whether a rate is unbounded, and whether the step has begun; and how many places
there are."""

TIMES = (
    *("seconds", "lead", "lag", "sms", "hbm", "both", "before"),
    *("issue", "due", "arrive", "start", "end", "slowed"),
)
"""Columns of rows that hold floats: those that are given, and those that are found out."""

OPENING, MOVING, ENDED = range(3)
"""States of a call: before its latency is over, while it moves bytes, and afterwards."""


def _record(*fields: tuple[str, str]) -> np.dtype[np.void]:
    return np.dtype(list(fields), align=True)


# Floats come first in each record: then all fields lie where a processor reads them at once.

RANK = _record(
    ("host", "f8"),  # when its host begins [s]
    ("left", "f8"),  # of the row that has the SMs, at its speed alone, at the time `since` [s]
    ("since", "f8"),
    ("speed", "f8"),  # at which that one has run since, relative to its speed alone
    ("done", "f8"),  # when its kernels are over, were the host quick enough [s]
    ("gate", "i4"),  # next row that drains it
    ("held", "i4"),  # first of the rows behind that one which wait for nothing else
    ("sms", "i4"),  # row that has the SMs
    ("queue", "i4"),  # first row that waits for them
    ("computing", "i4"),  # whether a kernel ran when coflows were last told
    ("moving", "i4"),  # first member of a call that moves bytes, and slows kernels or is slowed
    ("last_moving", "i4"),
    ("versions", "i4"),  # how often the speed has changed
    ("disturbed", "i4"),  # whether it is in State.disturbed
)
KIND = _record(
    ("size", "f8"),  # bytes on its slowest link [B]
    ("rate", "f8"),  # of its kernel [B/s]
    ("overlap_slowdown", "f8"),  # what divides the rate while a member computes
    ("latency", "f8"),  # [s]
    ("sms", "f8"),  # see Coflow
    ("hbm", "f8"),
    ("begin", "i4"),  # of its parts; they end where the next kind's begin
    ("members", "i4"),  # how many
    ("unhindered", "i4"),  # whether alone on its links it moves as fast as its kernel allows
)
PART = _record(
    ("weight", "f8"),  # bytes on this link over those on the slowest
    ("link", "i4"),
)
CALL = _record(
    ("rate", "f8"),  # at which it moves now [B/s]
    ("left", "f8"),  # bytes at the time `since`
    ("since", "f8"),
    ("fresh", "f8"),  # the rate that a filling has found
    ("cap", "f8"),  # the highest that its kernel allows meanwhile
    ("kind", "i4"),
    ("begin", "i4"),  # of its crossings, one for each part of its kind
    ("first", "i4"),  # member that arrived first
    ("last", "i4"),
    ("arrived", "i4"),  # members that have
    ("state", "i4"),  # OPENING, MOVING or ENDED
    ("mark", "i4"),  # number of the last search that met it
    ("changed", "i4"),  # whether it is in State.changed
)
CROSSING = _record(
    ("call", "i4"),
    ("after", "i4"),  # neighbours on the link
    ("before", "i4"),
)
LINK = _record(
    ("capacity", "f8"),  # [B/s]
    ("room", "f8"),  # what flows that have stopped rising leave of it
    ("share", "f8"),  # sum of the weights of some flows
    ("first", "i4"),  # crossing
    ("last", "i4"),
    ("flows", "i4"),  # calls that move bytes over it
    ("full", "i4"),  # whether it is, at the present level of a filling
    ("seen", "i4"),  # number of the last search that met it
)
EVENT = _record(
    ("at", "f8"),  # when it is due [s]
    ("order", "f8"),  # of the times given; a float next to a float, exact up to 2^53
    ("slot", "i4"),  # in the heap, or NONE
)


class State(NamedTuple):
    """All there is, and room to work in."""

    seconds: Floats
    """As the six that follow a column of Program: they are its own, and nobody writes them [row]."""
    lead: Floats
    lag: Floats
    sms: Floats
    hbm: Floats
    both: Floats
    before: Floats
    """See Hosts [row] s."""
    issue: Floats
    """As the five that follow a column of Timeline: what is found out [row] s."""
    due: Floats
    arrive: Floats
    start: Floats
    end: Floats
    slowed: Floats
    owner: Ids
    """Class of ranks that runs it [row]."""
    member: Ids
    """Call that it is a member of, or NONE for a kernel [row]."""
    waiting: Ids
    """Rows that it still waits for [row]."""
    begin: Ids
    """Of its followers in `follower`; they end where the next row's begin [row + 1]."""
    since: Ids
    """See Hosts [row]."""
    gate: Ids
    """See Hosts [row]."""
    following: Ids
    """Row behind it among its rank's held ones, in its queue, or in its call [row]."""
    later: Ids
    """Neighbours in the chain `moving` of its rank [row]."""
    earlier: Ids
    follower: Ids
    """Rows that wait for a row, by that row."""
    initial: Ids
    """Rows that wait for nothing, in the order of the program."""
    rank: Records
    """Classes of ranks."""
    kind: Records
    """Classes of coflows, and a last one that only ends the list of parts."""
    part: Records
    """Links of each kind, with their weights."""
    call: Records
    """Coflows."""
    crossing: Records
    """Coflows on each of their links."""
    link: Records
    """Classes of links."""
    event: Records
    """Rank r ends its kernel: number r. Call c ends its latency or its bytes: ranks + c.

    Row w is launched: ranks + calls + w.
    """
    heap: Ids
    """Events that are due, the first one at 0."""
    instant: Ids
    """Events of this instant."""
    changed: Ids
    """Calls that began, or whose links or ranks did something, in this instant."""
    sharing: Ids
    """Calls whose rates are to be found."""
    frontier: Ids
    """Those whose links have not been looked at."""
    rising: Ids
    """Those whose rate still rises with the level."""
    touched: Ids
    """Links of the calls in `sharing`."""
    unsettled: Ids
    """Ranks whose SMs were asked for or left in this instant."""
    disturbed: Ids
    """Ranks whose transfers did something in this instant."""
    most: Floats
    """See `contention.most`: one number, which compiled code must not keep as a constant."""
    counts: Counts
    """Counters, see HEAP and so on."""

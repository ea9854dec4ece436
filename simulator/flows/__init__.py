"""Flows from start to end: links shared max-min fairly, rates that change only when a flow starts or ends.

`drain` is the verb. Its executors are two, with one signature and in one table: `numpy` fills all
links anew at every event, and is the oracle; `numba` changes only what an event touches, and is for
many flows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.errors import EngineError
from simulator.flows import stepwise
from simulator.flows.problem import Flows
from simulator.progress import doing

__all__ = ["EXECUTORS", "compile_classes", "compile_rates", "drain"]

# Below this many flows numpy has ended in less than the seconds that compiling takes once. By their
# number alone, whatever is on disk: the two agree to 1e-9, not to the last bit.
_MANY = 1000


def _compiled(flows: Flows) -> NDArray[np.float64]:
    from simulator.flows import incremental  # numba: only where it is used

    return incremental.drain(flows)


Executor = Callable[[Flows], NDArray[np.float64]]

EXECUTORS: dict[str, Executor] = {
    "numpy": stepwise.drain,
    "numba": _compiled,
}
"""name -> function from flows to their ends [flow] s."""


def compile_classes() -> None:
    """Compile what finds flows that are alike, unless it is on disk."""
    from simulator.flows import symmetry

    symmetry.CODE.ready()


def compile_rates() -> None:
    """Compile what moves flows from event to event, unless it is on disk."""
    from simulator.flows import incremental

    incremental.CODE.ready()


@doing("resolving flows")
def drain(
    capacity: ArrayLike,
    flow_ptr: ArrayLike,
    flow_link: ArrayLike,
    size: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    cap: ArrayLike | None = None,
    start: ArrayLike | None = None,
    executor: str = "auto",
) -> NDArray[np.float64]:
    """Return when each flow has moved its bytes, [flow] s; latency is the caller's business.

    capacity: [link] B/s. flow_ptr: [flow + 1], flow f uses the links
    flow_link[flow_ptr[f]:flow_ptr[f + 1]]. size: [flow] B. weight: [entry], of each of flow_link, as
    in `fairshare.max_min`, 1 if not given. cap: [flow] the highest rate allowed [B/s], none if not
    given. start: [flow] s, 0 if not given. executor: a row of EXECUTORS, or `auto`, which goes by
    the number of flows. A flow without bytes ends when it starts. Errors: EngineError if arrays do
    not fit together, or a flow would never end or end at once for want of a limit.
    """
    size = _floats(size)
    if weight is None:
        weight = ()  # every weight is 1
    if start is None:
        start = np.zeros(len(size))
    if cap is None:
        cap = np.full(len(size), np.inf)
    flows = Flows(
        capacity=_floats(capacity),
        ptr=np.ascontiguousarray(flow_ptr, dtype=np.int64),
        link=np.ascontiguousarray(flow_link, dtype=np.int64),
        weight=_floats(weight),
        size=size,
        start=_floats(start),
        cap=_floats(cap),
    )
    # Shapes first: the other checks index by them, and compiled code trusts all of them.
    _check_shapes(flows)
    _check_values(flows)
    _check_ends(flows)
    if executor == "auto":
        many = len(flows.size) >= _MANY
        executor = "numba" if many else "numpy"
    if executor not in EXECUTORS:
        known = ", ".join(EXECUTORS)
        raise EngineError(f"{executor!r} is not an executor of flows. Choose from: auto, {known}.")
    return EXECUTORS[executor](flows)


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    return np.ascontiguousarray(values, dtype=np.float64)


def _check_shapes(flows: Flows) -> None:
    """Refuse arrays that do not fit together."""
    count = len(flows.size)
    entries = len(flows.link)
    lengths = (
        ("flow_ptr", len(flows.ptr), count + 1),
        ("start", len(flows.start), count),
        ("cap", len(flows.cap), count),
        ("weight", len(flows.weight) or entries, entries),
    )
    for name, length, wanted in lengths:
        if length != wanted:
            raise EngineError(
                f"{name} has {length} values for {count} flows over {entries} links. Give {wanted}."
            )
    falls = (np.diff(flows.ptr) < 0).any()
    first, last = flows.ptr[0], flows.ptr[-1]
    if first != 0 or last != entries or falls:
        raise EngineError(
            f"flow_ptr must rise from 0 to the number of entries of flow_link, {entries}."
        )
    if not entries:
        return
    links = len(flows.capacity)
    if flows.link.min() < 0 or flows.link.max() >= links:
        raise EngineError(
            f"flow_link names a link that does not exist. Links go from 0 to {links - 1}."
        )


def _check_values(flows: Flows) -> None:
    """Refuse what is negative or not a number, and endless sizes and starts."""
    for name in ("capacity", "weight", "size", "start", "cap"):
        values = getattr(flows, name)
        if len(values):
            low = values.min()  # nan if there is one
            high = values.max()
            if not low >= 0:
                raise EngineError(f"{name} {low} is not in range. Give a number >= 0.")
            if high == np.inf and name not in ("capacity", "cap"):
                raise EngineError(f"{name} {high} is not in range. Give a finite number >= 0.")


def _check_ends(flows: Flows) -> None:
    """Refuse flows with bytes that nothing moves, and flows that nothing bounds."""
    # Over all links first: flows are many, and links without capacity or without limit few.
    dead = flows.capacity == 0  # [link]
    endless = np.isinf(flows.capacity)  # [link]
    moves = flows.size > 0  # [flow]
    if dead.any() or not flows.cap.all():
        halted = _crosses(flows, dead) | (flows.cap == 0)
        stuck = halted & moves
        if stuck.any():
            raise EngineError(
                f"Flow {stuck.argmax()} would never end: a link on its way, or its cap, is 0 B/s."
            )
    # With weights, or flows over no link, links that all have a limit bound not every flow.
    unbounded = (flows.cap == np.inf) & moves
    crosses_none = (np.diff(flows.ptr) == 0).any()
    if endless.any() or len(flows.weight) or crosses_none:
        unbounded &= ~_crosses(flows, ~endless)
        if unbounded.any():
            raise EngineError(
                f"Flow {unbounded.argmax()} crosses no link of finite capacity and has no cap, so "
                "its rate is unbounded. Give it a cap."
            )


def _crosses(flows: Flows, links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which flows use one of some links [flow]."""
    used = links[flows.link]  # [entry]
    if len(flows.weight):
        used = used & (flows.weight > 0)
    count = len(flows.size)
    lengths = np.diff(flows.ptr)  # [flow]
    owner = np.repeat(np.arange(count), lengths)  # [entry]
    uses = np.bincount(owner, used, count)  # [flow]
    return uses > 0

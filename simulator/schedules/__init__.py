"""Pipeline schedules as data: per rank, a list of actions. To add one, write its file and its row in `SCHEDULES`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypedDict, Unpack

from simulator.errors import ScheduleError
from simulator.progress import doing
from simulator.schedules import (
    custom,
    dualpipe,
    dualpipev,
    gpipe,
    interleaved,
    one_f_one_b,
    zb_auto,
    zb_v,
    zero_bubble,
)
from simulator.schedules.action import Action, Half, Kind
from simulator.schedules.formulas import FORMULAS, Bubble, Formula, bubble
from simulator.schedules.grid import excerpt, grid, read
from simulator.schedules.meetings import check_posts
from simulator.schedules.posting import PipelineOverlap, Posts, posts
from simulator.schedules.schedule import (
    Dependencies,
    Place,
    Schedule,
    check,
    dependencies,
    execution_order,
)
from simulator.schedules.shape import Family, Placement, Shape, check_shape
from simulator.schedules.times import EQUAL, Times, durations
from simulator.schedules.timing import Durations, makespan, peak_in_flight, spans

__all__ = [
    "FORMULAS",
    "SCHEDULES",
    "Action",
    "Bubble",
    "Dependencies",
    "Durations",
    "Family",
    "Formula",
    "Half",
    "Kind",
    "Options",
    "PipelineOverlap",
    "Place",
    "Placement",
    "Posts",
    "Schedule",
    "Shape",
    "Times",
    "bubble",
    "build",
    "check",
    "check_posts",
    "checked",
    "dependencies",
    "durations",
    "excerpt",
    "execution_order",
    "grid",
    "makespan",
    "peak_in_flight",
    "posts",
    "read",
    "shape_of",
    "spans",
]

SCHEDULES: dict[str, Family] = {
    "gpipe": Family(gpipe.build, "all forwards, then all backwards"),
    "1f1b": Family(one_f_one_b.build, "one forward, one backward"),
    "interleaved": Family(interleaved.build, "1F1B with several stages per rank", virtual=0),
    "zb-h1": Family(zero_bubble.build_h1, "zero bubble by hand, in the memory of 1F1B", split=True),
    "zb-h2": Family(zero_bubble.build_h2, "zero bubble by hand, in twice that memory", split=True),
    "zb-1p": Family(
        zb_auto.build_1p, "zero bubble searched for, in the memory of 1F1B", split=True, timed=True
    ),
    "zb-2p": Family(
        zb_auto.build_2p, "zero bubble searched for, in twice that memory", split=True, timed=True
    ),
    "zb-v": Family(
        zb_v.build,
        "zero bubble in a V, in the memory of 1F1B",
        virtual=2,
        placement="v",
        split=True,
    ),
    "dualpipe": Family(
        dualpipe.build, "from both ends, with overlapped pairs", placement="both", split=True
    ),
    "dualpipev": Family(
        dualpipev.build,
        "DualPipe cut in half, in a V",
        virtual=2,
        placement="v",
        split=True,
        ranks_per_stage=0.5,
    ),
    "custom": Family(custom.build, "as a text file says", virtual=0, placement="own"),
}
"""name -> family. What prints, is checked, drawn, executed and tested is every row."""

PAIRING = ("1f1b", "interleaved")
"""Schedules that can run a forward and the backward behind it as a pair."""


class Options(TypedDict, total=False):
    """What `build` takes besides the sizes; meanings as in `Shape`, times also as a table for `Times.of`."""

    virtual: int
    group: int
    overlap_moe_expert_parallel_comm: bool
    times: Durations | None
    limit: float | None
    kept: float
    text: str


@doing("building the schedule")
def build(name: str, ranks: int, micro_batches: int, **options: Unpack[Options]) -> Schedule:
    """Return the named schedule on so many pipeline ranks.

    Errors: ScheduleError for an unknown name, sizes that it cannot be built for, or virtual stages
    that it has none of.
    """
    shape = shape_of(name, ranks, micro_batches, **options)
    with _without_cycles():
        return SCHEDULES[name].build(shape)


def checked(name: str, shape: Shape) -> Schedule:
    """Return a schedule whose faults have been looked for. Errors: ScheduleError."""
    return _checked(SCHEDULES[name], shape)


# By value: points of a sweep that differ in links or kernels share their order, and its columns.
@lru_cache(maxsize=8)
def _checked(family: Family, shape: Shape) -> Schedule:
    with _without_cycles():
        built = family.build(shape)
        check(built)
    return built


def shape_of(name: str, ranks: int, micro_batches: int, **options: Unpack[Options]) -> Shape:
    """Return what `build` builds for. Errors: as `build`."""
    if name not in SCHEDULES:
        raise ScheduleError(
            "is not a schedule",
            value=name,
            remedy=f"Choose from: {', '.join(SCHEDULES)}.",
        )
    shape = Shape(
        ranks,
        micro_batches,
        virtual=options.get("virtual", 1),
        group=options.get("group", 0),
        overlap_moe_expert_parallel_comm=options.get("overlap_moe_expert_parallel_comm", False),
        times=_times(options.get("times")),
        limit=options.get("limit") or 0,
        kept=options.get("kept", 1.0),
        text=options.get("text", ""),
    )
    check_shape(shape)
    family = SCHEDULES[name]
    # 1 is what `Shape` has where nobody chose, so it fits a family of any number.
    if family.virtual and shape.virtual not in (1, family.virtual):
        free = [other for other, row in SCHEDULES.items() if not row.virtual]
        raise ScheduleError(
            f"virtual stages per rank do not fit {name}, which has {family.virtual}",
            value=shape.virtual,
            remedy=f"Leave it out, or use {', '.join(free)}.",
        )
    if shape.overlap_moe_expert_parallel_comm:
        _check_pairs(name, shape)
    return shape


def _check_pairs(name: str, shape: Shape) -> None:
    """Refuse pairs where no order has them. Errors: ScheduleError."""
    key = "overlap_moe_expert_parallel_comm"
    if name not in PAIRING:
        raise ScheduleError(
            f"is nothing that {name} does",
            value=True,
            key=key,
            remedy=f"Use {' or '.join(PAIRING)}.",
        )
    # A pair holds a micro-batch for as long as both halves take: without virtual stages every rank
    # would wait for the one behind it, pair by pair. Megatron-LM refuses it too.
    if shape.ranks > 1 and shape.virtual == 1:
        raise ScheduleError(
            "needs virtual stages where there are several pipeline ranks",
            value=True,
            key=key,
            remedy="Use interleaved with 2 or more virtual stages.",
        )


def _times(times: Durations | None) -> Times:
    if times is None:
        return EQUAL
    if isinstance(times, Times):
        return times
    return Times.of(times)


@contextmanager
def _without_cycles() -> Iterator[None]:
    """Do not look for reference cycles meanwhile: actions are hundreds of thousands of tuples that have none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

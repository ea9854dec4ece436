"""The tables of performance.md that compare: phases, pools, peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from cells import row

Measured = Mapping[str, Mapping[str, Any]]
"""Name of a benchmark -> what pytest-benchmark wrote of it."""
PHASES = ("load", "lower", "run", "summarise")
EARLIER = "5238b667f0"
"""Commit at which most of the work on speed began, which the same benchmarks measured on the same machine."""
_ROWS = {
    "test_first_in_a_process": ("first in a process", (111, 1352, 62, 89)),
    "test_next_point[same]": ("next: the same again", (5, 255, 33, 93)),
    "test_next_point[links]": ("next: another rate of links", (13, 316, 32, 92)),
    "test_next_point[batch]": ("next: another batch", (9, 264, 23, 67)),
    "test_next_point[seed]": ("next: another seed of expert loads", (6, 1244, 34, 94)),
    "test_next_point[schedule]": ("next: another schedule", (8, 347, 70, 187)),
    "test_next_point[layout]": ("next: another layout", (7, 1401, 33, 99)),
}
"""Benchmark -> what it measures, and its phases at EARLIER [ms]."""


def phases(measured: Measured) -> Iterator[str]:
    """Yield CPU time by phase, before and after: where a scenario's time goes."""
    yield from (
        "## Phases of one scenario",
        "",
        f"DeepSeek-V3 on 2,048 GPUs, CPU time, medians [ms]: at commit {EARLIER} -> now. Before that, warm: load 120",
        "to 300, lower 1,000 to 1,700, run 100 (compiled) or 580 (SimPy), summarise 200.",
        "",
        "| | load | lower | run | summarise |",
        "|---|---:|---:|---:|---:|",
    )
    for key, (name, earlier) in _ROWS.items():
        found = _by_phase(measured, key)
        if found:
            cells = (f"{old:,} -> {new:,.3g}" for old, new in zip(earlier, found, strict=True))
            yield row(name, *cells)
    for key, name in {
        "test_executor[simpy]": "the same again, executed by SimPy",
        "test_all_ranks_unfolded": "all 2,048 ranks unfolded, each its own load",
    }.items():
        yield row(name, *(f"{value:,.0f}" for value in _by_phase(measured, key)))
    yield ""


def _by_phase(measured: Measured, key: str) -> list[float]:
    """Return the phases of a benchmark [ms], nothing where it was not measured."""
    found = measured.get(key, {}).get("extra_info", {}).get("phases", {})
    return [found[phase] * 1e3 for phase in PHASES if phase in found]


def sweeps(measured: Measured) -> Iterator[str]:
    """Yield points per second, what a point costs besides its scenario, and what pools cost a job."""
    yield from (
        "## Sweeps",
        "",
        "Points after the first ones. *Besides*: a point's time, times workers, less that of its own call.",
        "",
        "| pool | points/s | CPU of a point | inside its call | besides | start |",
        "|---|---:|---:|---:|---:|---:|",
    )
    for pool, workers in {"1 worker": 1, "2 workers": 2, "dask": 2}.items():
        found = measured.get(f"test_sweep[{pool}]", {}).get("extra_info", {}).get("sweep")
        if found:
            yield _sweep(pool, workers, found)
    yield from ("", "| pool | a job that does nothing | a job of 10 ms |", "|---|---:|---:|")
    for pool in ("1 worker", "2 workers", "dask"):
        cells = [_per_job(measured, pool, work) for work in ("nothing", "ten_milliseconds")]
        yield row(pool, *cells)
    yield from ("", *_cluster(measured), "")


def _cluster(measured: Measured) -> Iterator[str]:
    """Yield what a thousand workers would do, from what one scheduler and one parent take for a point."""
    parent = measured.get("test_parent_alone", {}).get("stats", {}).get("median")
    task = measured.get("test_tasks_of_dask", {}).get("stats", {}).get("median")
    if not parent or not task:
        return
    # Of 1,000 points and of 1,000 tasks.
    points, tasks = 1e3 / parent, 1e3 / task
    idle = {seconds: max(0.0, 1 - points * seconds / 1e3) for seconds in (0.01, 0.1, 1.0)}
    text = (
        f"A task costs Dask's scheduler and its client {task:.2f} ms, however short it is: {tasks:,.0f} tasks a "
        "second. Batches of points that take a second keep so many threads busy, however short a point is. The "
        f"process that lists the points and writes each takes {parent:.2f} ms for one: {points:,.0f} points a second, "
        f"which is where a cluster saturates: with {points * 0.01:,.0f} threads at 10 ms a point, "
        f"{points * 0.1:,.0f} at 100 ms, {points:,.0f} at 1 s. Of a thousand threads {idle[0.01]:.0%} have nothing "
        f"to do at 10 ms a point, {idle[0.1]:.0%} at 100 ms and {idle[1.0]:.0%} at 1 s; a sweep that wants more is "
        "cut into several, each with a folder and a parent of its own. (Extrapolated: measured were two workers on "
        "this machine; a point sends some 20 kB over the network, which is not in it.)"
    )
    yield from wrap(text, 118)


def _sweep(pool: str, workers: int, found: Mapping[str, float]) -> str:
    besides = workers / found["per_second"] - found["inside"]
    times = (found["cpu_per_point"], found["inside"], besides)
    cells = [f"{value * 1e3:.1f} ms" for value in times]
    return row(pool, f"{found['per_second']:.3g}", *cells, f"{found['start']:.2f} s")


def _per_job(measured: Measured, pool: str, work: str) -> str:
    for order in (f"{pool}-{work}", f"{work}-{pool}"):
        found = measured.get(f"test_pool[{order}]")
        if found:
            return f"{found['extra_info']['per_job'] * 1e3:.2f} ms"
    return "not measured"


RATIOS: Sequence[tuple[str, str, str]] = (
    ("SimPy executes the same program of V3", "test_executor[simpy]", "run"),
    ("SimPy, as many bare timeouts as that has rows (42,734)", "test_simpy_timeouts", "run"),
    (
        "llm-analysis 0.2.2, one evaluation of GPT-3 175B on 128 GPUs, closed form",
        "test_llm_analysis_gpt3",
        "all",
    ),
)
"""A peer's row: what it does, its benchmark, and what of ours it is compared with."""


def peers(measured: Measured) -> Iterator[str]:
    """Yield peers measured in the same run, as ratios."""
    yield from (
        "## Peers, in the same run",
        "",
        "| peer | its time | ours | its time over ours |",
        "|---|---:|---:|---:|",
    )
    for what, key, against in RATIOS:
        theirs = _theirs(measured, key)
        ours = _ours(measured, against)
        if theirs and ours:
            yield row(
                what,
                f"{theirs * 1e3:,.3g} ms",
                f"{ours * 1e3:,.3g} ms",
                _ratio(theirs / ours),
            )
        else:
            yield row(what, "not installed", "", "")
    yield from (
        "",
        "Ours: the compiled executor alone for SimPy; for llm-analysis load to summary of the same run and layout at",
        "the next rate of links, every op an event. Calculon, SimuMax, vidur and ASTRA-sim cannot be installed by name",
        "(calculon there is another program, astra-sim-sdk a client of a server) and are not measured.",
        "",
    )


def _ratio(value: float) -> str:
    return f"{value:.3g}" if value >= 1 else f"1/{1 / value:,.3g}"


def _theirs(measured: Measured, key: str) -> float:
    found = measured.get(key)
    if not found:
        return 0.0
    # The executor alone, without loading and lowering.
    by_phase = found["extra_info"].get("phases")
    return float(by_phase["run"] if by_phase else found["stats"]["median"])


def _ours(measured: Measured, against: str) -> float:
    if against == "all":
        found = measured.get("test_gpt3_next_point")
        return float(found["stats"]["median"]) if found else 0.0
    found = measured.get("test_executor[compiled]")
    return float(found["extra_info"]["phases"]["run"]) if found else 0.0

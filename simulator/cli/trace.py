"""`simulate trace`: what a profile says, compared with a simulated step if one is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from simulator.trace import Summary


class Counterpart(NamedTuple):
    """What a published profile can be compared with."""

    simulate: Callable[[], Summary]
    """Runs the simulation and returns its summary."""
    streams: Mapping[str, str]
    """Stream of the published profile -> stream of the simulator."""


def _deepseek_v3_chunk() -> Summary:
    """Simulate the overlapped pair of `simulate validate deepseek-v3-chunk`."""
    from simulator.engine import run
    from simulator.trace import of_timeline, summaries
    from simulator.validate.chunk import pair_program

    timeline = run(pair_program())
    # The profile shows the pair alone, without the passes that complete its micro-batches.
    (summary,) = summaries([of_timeline(timeline, "simulated", "FB")])
    return summary


COUNTERPARTS = {
    "deepseek-v3-chunk": Counterpart(
        simulate=_deepseek_v3_chunk,
        streams={"7": "compute", "23": "side", "27": "communication"},
    ),
}
"""Name -> what a profile is compared with."""


@cli.command()
@click.argument("trace", metavar="TRACE")
@click.option(
    "--compare-with",
    type=click.Choice(sorted(COUNTERPARTS)),
    help="Compare with a simulated profile, by its name.",
)
@click.option("--beside", type=click.Choice(sorted(COUNTERPARTS)), hidden=True)
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the summary as JSON; - writes it to standard output.",
)
def trace(trace: str, compare_with: str | None, beside: str | None, json: Path | None) -> None:
    """Summarise a torch.profiler trace: streams, kernels, overlap.

    TRACE is a .json or .json.gz file.
    """
    from simulator.inputs import read_trace
    from simulator.trace import of_tree, summaries

    # `--beside` is what `--compare-with` was called in 0.1.0.
    counterpart = compare_with or beside
    events = read_trace(Path(trace))
    profile = summaries(of_tree(events, trace))
    simulated: Summary | None = None
    streams: Mapping[str, str] = {}
    if counterpart:
        chosen = COUNTERPARTS[counterpart]
        simulated = chosen.simulate()
        streams = chosen.streams
    tree: dict[str, Any] = {
        "schema_version": 1,
        "processes": [summary.as_dict() for summary in profile],
    }
    if simulated:
        tree["simulated"] = simulated.as_dict()

    def show(console: Console) -> None:
        for summary in profile:
            print_parts(console, _text(summary, simulated, streams))

    emit(lambda: tree, json, show)


def _text(
    summary: Summary, simulated: Summary | None, streams: Mapping[str, str]
) -> Iterator[RenderableType]:
    """Yield the parts of a summary. simulated: what it is compared with. streams: see `Counterpart`."""
    from rich.text import Text

    yield Text(summary.process, style="bold")
    yield _busy(summary, simulated, streams)
    yield Text()
    yield _classes(summary, simulated)
    yield Text()
    yield Text(_overlap(summary, simulated))


def _heads(simulated: Summary | None) -> list[str]:
    return ["simulated", "error"] if simulated else []


def _pair(profiled: float, simulated: float | None) -> list[str]:
    """Return a simulated time and its error, both empty where there is none."""
    from simulator.units import format_seconds

    if simulated is None:
        return ["", ""]
    if not profiled:
        return [format_seconds(simulated), ""]
    error = simulated / profiled - 1
    return [format_seconds(simulated), f"{error:+.1%}"]


def _busy(summary: Summary, simulated: Summary | None, streams: Mapping[str, str]) -> Table:
    """Return how busy each stream is, the busiest first, then all together."""
    from simulator.cli.tables import table
    from simulator.units import format_seconds

    result = table("Busy time", "stream", "kernels", "busy", *_heads(simulated))
    busiest = sorted(summary.streams, key=lambda name: -summary.streams[name].seconds)
    for name in busiest:
        busy = summary.streams[name]
        # A profile numbers its streams; the simulator names them by what they are for.
        known = streams.get(name, "")
        label = f"{name} ({known})" if known else name
        cells = [label, f"{busy.kernels:,}", format_seconds(busy.seconds)]
        if simulated:
            same = simulated.streams.get(known)
            cells += _pair(busy.seconds, same.seconds if same else None)
        result.add_row(*cells)
    totals = {"span": "span", "any compute": "compute"}
    for label, field in totals.items():
        seconds = getattr(summary, field)
        cells = [label, "", format_seconds(seconds)]
        if simulated:
            cells += _pair(seconds, getattr(simulated, field))
        result.add_row(*cells, style="bold")
    return result


def _classes(summary: Summary, simulated: Summary | None) -> Table:
    """Return what the kernels do; in the simulator's groups where one is compared with it."""
    from simulator.cli.tables import table
    from simulator.units import format_seconds

    title = "Kernels by class, durations added up"
    result = table(title, "class", "time", "share", *_heads(simulated))
    # Profiles tell more classes apart than the simulator has: groups are what both know.
    listed = summary.classes
    names = list(listed)
    if simulated:
        listed = summary.groups
        names = sorted(listed, key=lambda name: -listed[name])
    total = sum(summary.classes.values())
    for name in names:
        seconds = listed[name]
        share = seconds / total
        cells = [name, format_seconds(seconds), f"{share:.1%}"]
        if simulated:
            cells += _pair(seconds, simulated.groups.get(name))
        result.add_row(*cells)
    return result


def _overlap(summary: Summary, simulated: Summary | None) -> str:
    from simulator.units import format_seconds

    if summary.overlap is None:
        return "Nothing communicates."
    seconds = format_seconds(summary.communication)
    line = (
        f"Communication runs or waits for peers for {seconds}, "
        f"{summary.overlap:.1%} of it overlapped with compute"
    )
    if simulated is None:
        return line
    # A kernel of the profile waits for its peers while it runs; a simulated transfer starts after.
    overlap = simulated.overlap or 0.0
    return f"{line}; simulated, without waiting: {overlap:.1%}"

"""`simulate trace`: what a profile says, beside a simulated step if one is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from simulator.trace import Summary


def _deepseek_v3_chunk() -> Summary:
    """Simulate the overlapped pair of `simulate validate deepseek-v3-chunk`."""
    from simulator.engine import run
    from simulator.trace import of_timeline, summaries
    from simulator.validate.chunk import pair_program

    return summaries([of_timeline(run(pair_program()), "simulated", "FB")])[0]


BESIDE: Mapping[str, tuple[Callable[[], Summary], Mapping[str, str]]] = {
    "deepseek-v3-chunk": (
        _deepseek_v3_chunk,
        {"7": "compute", "23": "side", "27": "communication"},
    ),
}
"""name -> (its simulation, stream of the published profile -> stream of the simulator)"""


@cli.command()
@click.argument("trace", metavar="TRACE")
@click.option(
    "--beside",
    type=click.Choice(sorted(BESIDE)),
    help="Compare with a simulated profile, by its name.",
)
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the summary as JSON; - writes it to standard output.",
)
def trace(trace: str, beside: str | None, json: Path | None) -> None:
    """Summarise a torch.profiler trace: streams, kernels, overlap.

    TRACE is a .json or .json.gz file.
    """
    from simulator.inputs import read_trace
    from simulator.trace import of_tree, summaries

    found = summaries(of_tree(read_trace(Path(trace)), trace))
    simulated = BESIDE[beside][0]() if beside else None
    streams = BESIDE[beside][1] if beside else {}
    emit(
        lambda: _tree(found, simulated),
        json,
        lambda console: _show(console, found, simulated, streams),
    )


def _tree(found: Sequence[Summary], simulated: Summary | None) -> dict[str, Any]:
    beside = {"simulated": simulated.as_dict()} if simulated else {}
    return {"schema_version": 1, "processes": [summary.as_dict() for summary in found], **beside}


def _show(
    console: Console,
    found: Sequence[Summary],
    simulated: Summary | None,
    streams: Mapping[str, str],
) -> None:
    for summary in found:
        for part in _text(summary, simulated, streams):
            console.print(part)


def _text(
    summary: Summary, simulated: Summary | None, streams: Mapping[str, str]
) -> Iterator[RenderableType]:
    """Return the parts of a summary."""
    from rich.text import Text

    from simulator.cli.tables import table
    from simulator.units import format_seconds

    def pair(value: float, other: float | None) -> list[str]:
        if simulated is None:
            return []
        return (
            ["", ""]
            if other is None
            else [format_seconds(other), f"{other / value - 1:+.1%}" if value else ""]
        )

    beside = ["simulated", "error"] if simulated else []
    yield Text(summary.process, style="bold")
    result = table("Busy time", "stream", "kernels", "busy", *beside)
    mine = simulated.streams if simulated else {}
    for name, (count, busy) in sorted(summary.streams.items(), key=lambda item: -item[1][1]):
        shown = f"{name} ({streams[name]})" if name in streams else name
        result.add_row(
            shown,
            f"{count:,}",
            format_seconds(busy),
            *pair(busy, mine[streams[name]][1] if streams.get(name) in mine else None),
        )
    whole = (
        ("span", summary.span, simulated.span if simulated else None),
        ("any compute", summary.compute, simulated.compute if simulated else None),
    )
    for label, value, other in whole:
        result.add_row(label, "", format_seconds(value), *pair(value, other), style="bold")
    yield result
    yield Text()
    result = table("Kernels by class, durations added up", "class", "time", "share", *beside)
    known = simulated.groups if simulated else {}
    listed = (
        dict(sorted(summary.groups.items(), key=lambda item: -item[1]))
        if simulated
        else summary.classes
    )
    for name, seconds in listed.items():
        result.add_row(
            name,
            format_seconds(seconds),
            f"{seconds / sum(summary.classes.values()):.1%}",
            *pair(seconds, known.get(name)),
        )
    yield result
    yield Text()
    yield Text(_overlap(summary, simulated))


def _overlap(summary: Summary, simulated: Summary | None) -> str:
    from simulator.units import format_seconds

    if summary.overlap is None:
        return "Nothing communicates."
    said = (
        f"Communication runs or waits for peers for {format_seconds(summary.communication)}, "
        f"{summary.overlap:.1%} of it beside compute"
    )
    return (
        f"{said}; simulated, without waiting: {simulated.overlap or 0.0:.1%}" if simulated else said
    )

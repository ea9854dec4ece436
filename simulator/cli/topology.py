"""`simulate topology`: what a cluster is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts
from simulator.cli.options import parse_sets
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simulator.topology import TopologyConfig


class _Row(NamedTuple):
    """A row of the description."""

    label: str
    """What it is."""
    value: str
    """How much, with its unit."""
    note: str = ""
    """What it means."""


_COUNTS = (
    ("GPUs", "gpus"),
    ("GPUs down", "gpus_down"),
    ("nodes", "nodes"),
    ("NICs", "nics"),
    ("PCIe switches", "pcie_switches"),
    ("switches", "switches"),
    ("cables between switches", "links"),
)
"""(label, key of the description) of what is counted."""
_OPTIONAL = ("gpus_down", "pcie_switches")
"""Keys of counts that are shown only where there are any."""


@cli.command()
@click.argument("topology")
@click.option(
    "--set",
    "sets",
    multiple=True,
    callback=parse_sets,
    metavar="KEY=VALUE",
    help="Replace a key of the file, for example fabric.routing=ecmp.",
)
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the figures as JSON; - writes them to standard output.",
)
@click.option(
    "--plot", callback=_output, metavar="FILE", help="Draw the cluster: .png, .svg or .pdf."
)
def topology(topology: str, sets: dict[str, Any], json: Path | None, plot: Path | None) -> None:
    """Describe a cluster: its parts, bisection, diameter and cost."""
    from simulator.topology import describe

    config = _read(topology, sets)
    figures = describe(config)
    if plot:
        from simulator import plot as drawings
        from simulator.store import write

        write(plot, lambda path: drawings.cluster(config, path))
    text = _text(figures)
    emit(lambda: figures, json, lambda console: print_parts(console, text))


def _read(name: str, sets: dict[str, Any]) -> TopologyConfig:
    from simulator import inputs
    from simulator.topology import TopologyConfig

    file = inputs.find(name, "topologies")
    document = inputs.read(file)
    for path, value in sets.items():
        inner = path.removeprefix("topology.")
        document = inputs.override(document, inner, value)
    return inputs.validate(document, TopologyConfig)


def _text(figures: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the parts of a description."""
    from rich.text import Text

    from simulator.cli.tables import table

    name, kind = figures["name"], figures["kind"]
    routing = figures["routing"]
    yield Text(f"{name}: {kind}, routing {routing}", style="bold")
    result = table("", "", "", "", left=1)
    rows = [*_counts(figures), *_properties(figures)]
    for row in rows:
        # As Text, so that rich reads no markup in a name.
        result.add_row(*map(Text, row))
    yield result


def _counts(figures: dict[str, Any]) -> Iterator[_Row]:
    """Yield what the cluster has how many of."""
    layers = figures["switches_by_layer"]
    of_layers = [f"{count:,} {layer}" for layer, count in layers.items()]
    notes = {"switches": ", ".join(of_layers)}
    for label, key in _COUNTS:
        count = figures[key]
        # A cluster without switches says so; one without faults need not.
        if count or key not in _OPTIONAL:
            note = notes.get(key, "")
            yield _Row(label, f"{count:,}", note)


def _properties(figures: dict[str, Any]) -> Iterator[_Row]:
    """Yield bandwidth, distances and cost."""
    from simulator.cli.tables import number
    from simulator.units import format_bandwidth, format_seconds

    bisection = format_bandwidth(figures["bisection_bandwidth"])
    yield _Row("bisection bandwidth", bisection, figures["bisection_note"])
    per_gpu = format_bandwidth(figures["bisection_per_gpu"])
    yield _Row("  per GPU", per_gpu, "of one half of the cluster")
    hops = str(figures["diameter_switch_hops"])
    yield _Row("diameter, switches", hops, "cables between the two furthest apart")
    links = str(figures["diameter_gpu_links"])
    yield _Row("diameter, GPU to GPU", links, "links, including those in servers")
    # 64 B, a cache line: latency without the time that bytes take.
    latency = format_seconds(figures["diameter_latency_s"])
    yield _Row("slowest path, 64 B", latency)
    if figures["cost_usd"] is not None:
        cost = f"{number(figures['cost_usd'])} USD"
        yield _Row("cost", cost, "switches, cables and NICs at the file's prices")

"""`simulate topology`: what a cluster is made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import _emit, _sets, cli
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simulator.topology import TopologyConfig

_ROWS = (
    ("GPUs", "gpus"),
    ("GPUs down", "gpus_down"),
    ("nodes", "nodes"),
    ("NICs", "nics"),
    ("PCIe switches", "pcie_switches"),
    ("switches", "switches"),
    ("cables between switches", "links"),
)


@cli.command()
@click.argument("topology")
@click.option(
    "--set",
    "sets",
    multiple=True,
    callback=_sets,
    metavar="KEY=VALUE",
    help="Replace a key of the file, for example fabric.routing=ecmp.",
)
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the figures as JSON; - for standard output.",
)
@click.option(
    "--plot", callback=_output, metavar="FILE", help="Draw the cluster: .png, .svg or .pdf."
)
def topology(topology: str, sets: dict[str, Any], json: Path | None, plot: Path | None) -> None:
    """Describe a cluster: counts, bisection, diameter, cost; and draw it."""
    from simulator.topology import describe

    config = _read(topology, sets)
    figures = describe(config)
    if plot:
        from simulator import plot as drawings
        from simulator.store import write

        write(plot, lambda path: drawings.cluster(config, path))
    _emit(lambda: figures, json, lambda console: console.print(*_text(figures), sep="\n"))


def _read(name: str, sets: dict[str, Any]) -> TopologyConfig:
    from simulator import inputs
    from simulator.topology import TopologyConfig

    document = inputs.read(inputs.find(name, "topologies"))
    for path, value in sets.items():
        document = inputs.override(document, path.removeprefix("topology."), value)
    return inputs.validate(document, TopologyConfig)


def _text(figures: dict[str, Any]) -> Iterator[RenderableType]:
    """Return the parts of a description."""
    from rich.text import Text

    from simulator.cli.text import _table, number
    from simulator.units import format_bandwidth, format_seconds

    yield Text(f"{figures['name']}: {figures['kind']}, routing {figures['routing']}", style="bold")
    table = _table("", "", "", "", left=1)
    for label, key in _ROWS:
        layers = ", ".join(
            f"{count:,} {layer}" for layer, count in figures["switches_by_layer"].items()
        )
        if figures[key] or key not in ("gpus_down", "pcie_switches"):
            table.add_row(label, f"{figures[key]:,}", layers if key == "switches" else "")
    table.add_row(
        "bisection bandwidth",
        format_bandwidth(figures["bisection_bandwidth"]),
        figures["bisection_note"],
    )
    table.add_row(
        "  of it for each GPU", format_bandwidth(figures["bisection_per_gpu"]), "of one half"
    )
    table.add_row(
        "diameter, switches",
        str(figures["diameter_switch_hops"]),
        "cables between the furthest two",
    )
    table.add_row(
        "diameter, GPU to GPU",
        str(figures["diameter_gpu_links"]),
        "links, those in the servers too",
    )
    table.add_row("slowest way, 64 B", format_seconds(figures["diameter_latency_s"]), "")
    if figures["cost_usd"] is not None:
        table.add_row(
            "cost",
            f"{number(figures['cost_usd'])} USD",
            "switches, cables and NICs at the file's prices",
        )
    yield table

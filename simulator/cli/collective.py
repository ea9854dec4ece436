"""`simulate collective`: one collective alone on a cluster, in the columns of nccl-tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit
from simulator.cli.exchanges import ExchangeOptions, exchange_row
from simulator.cli.options import parse_sets
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simulator.collectives import Row
    from simulator.hardware import KernelConfig
    from simulator.topology import Network, TopologyConfig

OPS = (
    "all_reduce",
    "reduce_scatter",
    "all_gather",
    "broadcast",
    "all_to_all",
    "send_recv",
    "dispatch",
    "combine",
)
ELEMENT = 4
"""Bytes of a float, nccl-tests' type unless told."""


@cli.command()
@click.argument("topology")
@click.option("--op", type=click.Choice(OPS), required=True, help="The op to time.")
@click.option(
    "--bytes",
    "sizes",
    metavar="SIZE[:SIZE]",
    help="Size of the buffer, 1GiB, or a range, 1MiB:8GiB, with every doubling between.",
)
@click.option(
    "--tokens",
    type=int,
    help="Tokens per GPU that dispatch and combine move; default with deepep_low_latency: 128.",
)
@click.option(
    "--ranks", type=int, help="Number of GPUs, counted from the first of the cluster; default: all."
)
@click.option(
    "--algorithm",
    metavar="NAME",
    help="Collective algorithm; default: what NCCL would choose. For dispatch and combine the "
    "dispatcher: deepep (default), deepep_flat, deepep_low_latency or all_to_all.",
)
@click.option(
    "-w",
    "--workload",
    default=None,
    help="Workload whose routing dispatch and combine take; default: V3's sizes, routed as in "
    "DeepEP's benchmark.",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    callback=parse_sets,
    metavar="KEY=VALUE",
    help="Replace a key of the topology, for example fabric.routing=ecmp.",
)
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the rows as JSON; - writes them to standard output.",
)
@click.option(
    "--plot",
    callback=_output,
    metavar="FILE",
    help="Draw bus bandwidth over size into a .png, .svg or .pdf file.",
)
def collective(  # noqa: PLR0913, PLR0917 - one for each option
    topology: str,
    op: str,
    sizes: str | None,
    tokens: int | None,
    ranks: int | None,
    algorithm: str | None,
    workload: str | None,
    sets: dict[str, Any],
    json: Path | None,
    plot: Path | None,
) -> None:
    """Time one collective alone, as nccl-tests would."""
    from simulator.collectives import TIMED
    from simulator.topology import network

    _check_options(op, sizes, tokens, algorithm, plot)
    site, kernels = _cluster(topology, sets)
    net = network(site)
    count = site.gpus if ranks is None else ranks
    if op in TIMED:
        options = ExchangeOptions(op, algorithm or "hierarchical", workload, tokens)
        rows = [exchange_row(net, count, kernels, options)]
    else:
        rows = _rows(net, count, kernels, op, _sizes(sizes or ""), algorithm)
    if plot:
        from simulator import plot as figures
        from simulator.store import write

        write(plot, lambda path: figures.collective(rows, site.name, path))
    tree = {"rows": [row.as_dict() for row in rows]}
    emit(lambda: tree, json, lambda console: console.print(*_text(rows, site), sep="\n"))


def _check_options(
    op: str, sizes: str | None, tokens: int | None, algorithm: str | None, plot: Path | None
) -> None:
    """Refuse options that are missing, or that the op does not take."""
    from simulator.collectives import DISPATCHERS, TIMED, dispatcher_names
    from simulator.errors import InputError

    experts = op in TIMED
    wanted, unwanted = ("--tokens 4096", sizes) if experts else ("--bytes 1MiB:8GiB", tokens)
    if experts and algorithm is not None and algorithm not in dispatcher_names():
        raise InputError(
            f"is not a dispatcher for {op}",
            key="--algorithm",
            value=algorithm,
            remedy=f"Known: {', '.join(DISPATCHERS)}.",
        )
    sized = experts and algorithm is not None and dispatcher_names()[algorithm].sized
    if (tokens if experts else sizes) is None and not sized:
        raise InputError(
            f"is missing, which {op} needs", key=wanted.split()[0], remedy=f"Write {wanted}."
        )
    if unwanted is not None:
        name = "--bytes" if experts else "--tokens"
        raise InputError(
            f"means nothing to {op}", key=name, value=unwanted, remedy=f"Write {wanted} instead."
        )
    if experts and plot is not None:
        raise InputError(
            f"means nothing to {op}", key="--plot", value=str(plot), remedy="Leave it out."
        )
    if tokens is not None and tokens < 1:
        raise InputError(
            "is no number of tokens", key="--tokens", value=tokens, remedy="Write 4096."
        )


def _cluster(name: str, sets: dict[str, Any]) -> tuple[TopologyConfig, KernelConfig]:
    from simulator import inputs
    from simulator.errors import InputError
    from simulator.hardware import GpuConfig, KernelConfig
    from simulator.topology import TopologyConfig

    document = inputs.read(inputs.find(name, "topologies"))
    for path, value in sets.items():
        document = inputs.override(document, path.removeprefix("topology."), value)
    site = inputs.validate(document, TopologyConfig)
    try:
        gpu = inputs.validate(inputs.data("gpus", site.gpu), GpuConfig)
    except InputError as error:
        raise error.at(**document.locate(("gpu",))) from error
    return site, inputs.validate(inputs.data("kernels", gpu.kernels), KernelConfig)


def _sizes(text: str) -> list[float]:
    """Return the sizes of `1GiB`, or of each doubling in `1MiB:8GiB` [B]."""
    from simulator.errors import InputError
    from simulator.units import SIZES, parse

    try:
        ends = [parse(part, SIZES, "1GiB") for part in text.split(":", 1)]
    except InputError as error:
        raise error.at(key="--bytes") from error
    first, last = ends[0], ends[-1]
    if not 0 < first <= last:
        raise InputError(
            "does not go up from a size above zero",
            key="--bytes",
            value=text,
            remedy="Write 1MiB:8GiB.",
        )
    result = [first]
    while result[-1] * 2 <= last:
        result.append(result[-1] * 2)
    return result


def _rows(
    net: Network,
    ranks: int,
    kernels: KernelConfig,
    op: str,
    sizes: Sequence[float],
    algorithm: str | None,
) -> list[Row]:
    from simulator.collectives import BUS_FACTORS, open_to, rows

    timed = rows(net, ranks, kernels.communication, op, sizes, open_to(op, algorithm))
    return [replace(row, bus=BUS_FACTORS[op](ranks)) for row in timed]


def _text(rows: Sequence[Row], site: TopologyConfig) -> Iterator[RenderableType]:
    from rich.text import Text

    from simulator.cli.tables import table
    from simulator.collectives import dispatcher_names

    first = rows[0]
    columns = ["size", "count", "type", "algorithm", "protocol", "time", "algbw", "busbw"]
    units = ["(B)", "(elements)", "", "", "", "(us)", "(GB/s)", "(GB/s)"]
    if first.deepep:
        columns, units = [*columns, "DeepEP", "binds"], [*units, "(GB/s)", ""]
    title = (
        f"{first.op} on {first.ranks} of {site.gpus:,} GPUs of {site.name}, alone on the network"
    )
    result = table(title, *columns, left=0)
    result.add_row(*units, style="dim")
    for row in rows:
        kind = ("", "bytes") if row.deepep else (f"{row.bytes / ELEMENT:.0f}", "float")
        cells = [
            f"{row.bytes:.0f}",
            *kind,
            row.algorithm,
            row.protocol,
            f"{row.seconds * 1e6:.2f}",
            f"{row.algbw / 1e9:.2f}",
            f"{row.busbw / 1e9:.2f}",
        ]
        result.add_row(*cells, *([f"{row.algbw / 1e9:.2f}", row.binds] if row.deepep else []))
    yield result
    if first.deepep:
        counts = dispatcher_names()[first.algorithm].counts
        yield Text(f"{counts} busbw counts what crosses the link.", style="dim")

"""`simulate collective`: one collective alone on a cluster, in the columns of nccl-tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts
from simulator.cli.exchanges import ExchangeOptions, default_dispatcher, exchange_row
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
"""Bytes of a float, the type that nccl-tests times by default."""
COLUMNS = {
    "size": "(B)",
    "count": "(elements)",
    "type": "",
    "algorithm": "",
    "protocol": "",
    "time": "(us)",
    "algbw": "(GB/s)",
    "busbw": "(GB/s)",
}
"""Heading of a column -> its unit."""
DEEPEP_COLUMNS = {"DeepEP": "(GB/s)", "binds": ""}
"""Further columns of dispatch and combine."""


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
    "--sms",
    type=int,
    help="SMs that dispatch and combine get; default: as many as the dispatcher's library takes.",
)
@click.option(
    "--ranks", type=int, help="Number of GPUs, counted from the first of the cluster; default: all."
)
@click.option(
    "--algorithm",
    metavar="NAME",
    help="Collective algorithm; default: what NCCL would choose. For dispatch and combine the "
    "dispatcher: deepep (default, but for GPUs on which nobody measured it: all_to_all), "
    "deepep_flat, deepep_low_latency, hybridep, all_to_all or all_gather.",
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
    sms: int | None,
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
    # Two paths: dispatch and combine move tokens to experts, which takes a routing; the others move
    # a buffer of a size.
    site, kernels = _cluster(topology, sets)
    _check_sms(op, sms, algorithm or default_dispatcher(kernels))
    net = network(site)
    count = site.gpus if ranks is None else ranks
    if op in TIMED:
        dispatcher = algorithm or default_dispatcher(kernels)
        options = ExchangeOptions(op, dispatcher, workload, tokens, sms)
        rows = [exchange_row(net, count, kernels, options)]
    else:
        buffers = _sizes(sizes or "")
        rows = _rows(net, count, kernels, op, buffers, algorithm)
    if plot:
        from simulator import plot as figures
        from simulator.store import write

        write(plot, lambda path: figures.collective(rows, site.name, path))
    tree = {"rows": [row.as_dict() for row in rows]}
    text = _text(rows, site)
    emit(lambda: tree, json, lambda console: print_parts(console, text))


def _check_options(
    op: str,
    sizes: str | None,
    tokens: int | None,
    algorithm: str | None,
    plot: Path | None,
) -> None:
    """Refuse options that are missing, or that the op does not take."""
    from simulator.collectives import DISPATCHERS, TIMED, dispatcher_names
    from simulator.errors import InputError

    if op not in TIMED:
        _check_amount(op, _Amount("--bytes", "1MiB:8GiB", sizes), _Amount("--tokens", "", tokens))
        return
    dispatchers = dispatcher_names()
    if algorithm is not None and algorithm not in dispatchers:
        raise InputError(
            f"is not a dispatcher for {op}",
            key="--algorithm",
            value=algorithm,
            remedy=f"Choose from: {', '.join(DISPATCHERS)}.",
        )
    # Kernels that were published at one size only are timed at that one.
    sized = algorithm is not None and dispatchers[algorithm].sized
    wanted = _Amount("--tokens", "4096", tokens, needed=not sized)
    _check_amount(op, wanted, _Amount("--bytes", "", sizes))
    if plot is not None:
        raise InputError(
            f"means nothing to {op}", key="--plot", value=str(plot), remedy="Leave it out."
        )
    if tokens is not None and tokens < 1:
        raise InputError("must be at least 1", key="--tokens", value=tokens)


def _check_sms(op: str, sms: int | None, dispatcher: str) -> None:
    """Refuse SMs of an op that takes none, and an exchange without any. Errors: InputError."""
    from simulator.collectives import TIMED, dispatcher_names
    from simulator.errors import InputError

    if sms is None:
        return
    if op not in TIMED:
        raise InputError(f"means nothing to {op}", key="--sms", value=sms, remedy="Leave it out.")
    takes = dispatcher_names()[dispatcher].sms
    least = 1 if takes else 0
    if sms < least:
        remedy = f"Write {takes}, as many as its library takes."
        raise InputError(f"must be at least {least}", key="--sms", value=sms, remedy=remedy)


class _Amount(NamedTuple):
    """An option that says how much an op moves."""

    option: str
    """Its name."""
    example: str
    """A value for messages."""
    value: str | int | None
    """What was given; None where it was left out."""
    needed: bool = True
    """Whether the op can do without it."""


def _check_amount(op: str, wanted: _Amount, unwanted: _Amount) -> None:
    """Refuse an op without the amount that it moves, or with the other kind. Errors: InputError."""
    from simulator.errors import InputError

    example = f"{wanted.option} {wanted.example}"
    if wanted.needed and wanted.value is None:
        raise InputError(
            f"is missing, which {op} needs", key=wanted.option, remedy=f"Write {example}."
        )
    if unwanted.value is not None:
        raise InputError(
            f"means nothing to {op}",
            key=unwanted.option,
            value=unwanted.value,
            remedy=f"Write {example} instead.",
        )


def _cluster(name: str, sets: dict[str, Any]) -> tuple[TopologyConfig, KernelConfig]:
    from simulator import inputs
    from simulator.errors import InputError
    from simulator.hardware import GpuConfig, KernelConfig
    from simulator.topology import TopologyConfig

    file = inputs.find(name, "topologies")
    document = inputs.read(file)
    for path, value in sets.items():
        inner = path.removeprefix("topology.")
        document = inputs.override(document, inner, value)
    site = inputs.validate(document, TopologyConfig)
    try:
        datasheet = inputs.data("gpus", site.gpu)
        gpu = inputs.validate(datasheet, GpuConfig)
    except InputError as error:
        raise error.at(**document.locate(("gpu",))) from error
    table = inputs.data("kernels", gpu.kernels)
    kernels = inputs.validate(table, KernelConfig)
    return site, kernels.over(site.fabric.carrier)


def _sizes(text: str) -> list[float]:
    """Return the sizes of `1GiB`, or of each doubling in `1MiB:8GiB` [B]."""
    from simulator.errors import InputError
    from simulator.units import SIZES, parse

    parts = text.split(":", 1)
    try:
        ends = [parse(part, SIZES, "1GiB") for part in parts]
    except InputError as error:
        raise error.at(key="--bytes") from error
    first = ends[0]
    last = ends[-1]
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
    from simulator.collectives import BUS_FACTORS, Kernels, open_to, rows

    algorithms = open_to(op, algorithm)
    timed = rows(net, ranks, Kernels.of(kernels), op, sizes, algorithms)
    # nccl-tests' bus bandwidth: what a link would have to carry whatever the algorithm.
    factor = BUS_FACTORS[op](ranks)
    return [replace(row, bus=factor) for row in timed]


def _text(rows: Sequence[Row], site: TopologyConfig) -> Iterator[RenderableType]:
    from rich.text import Text

    from simulator.cli.tables import table
    from simulator.collectives import dispatcher_names

    first = rows[0]
    # Columns and units as nccl-tests prints them, so that outputs can be laid side by side.
    columns = dict(COLUMNS)
    if first.deepep:
        columns |= DEEPEP_COLUMNS
    gpus = f"{first.ranks} of {site.gpus:,} GPUs of {site.name}"
    result = table(f"{first.op} on {gpus}, alone on the network", *columns, left=0)
    result.add_row(*columns.values(), style="dim")
    for row in rows:
        result.add_row(*_cells(row))
    yield result
    if first.deepep:
        counts = dispatcher_names()[first.algorithm].counts
        yield Text(f"{counts} busbw counts what crosses the link.", style="dim")


def _cells(row: Row) -> list[str]:
    """Return the cells of one size, in the order of the columns."""
    count, kind = f"{row.bytes / ELEMENT:.0f}", "float"
    if row.deepep:
        count, kind = "", "bytes"  # tokens of a width, not floats
    algbw = f"{row.algbw / 1e9:.2f}"
    cells = [
        f"{row.bytes:.0f}",
        count,
        kind,
        row.algorithm,
        row.protocol,
        f"{row.seconds * 1e6:.2f}",
        algbw,
        f"{row.busbw / 1e9:.2f}",
    ]
    if row.deepep:
        cells += [algbw, row.binds]
    return cells

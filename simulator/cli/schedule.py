"""`simulate schedule`: a pipeline schedule by itself: its grid, its bubble, what it holds, its picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import Console

    from simulator.schedules import Bubble, Schedule, Shape


_OPTIONS = {
    "ranks": "--pp",
    "micro_batches": "--micro-batches",
    "virtual": "--virtual",
    "group": "--group",
    "overlap_moe_expert_parallel_comm": "--pairs",
    "times": "--times",
    "limit": "--memory",
    "kept": "--kept",
}
"""field of `Shape` -> the option that gives it"""


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How large a schedule is, as the command line has it."""

    pp: int | None
    """`--pp`: pipeline ranks."""
    stages: int | None
    """`--stages`: the same, but for DualPipeV, whose P stages are two on each rank."""
    micro_batches: int | None
    """`--micro-batches`."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A schedule with all that is shown of it."""

    schedule: Schedule
    """The schedule itself."""
    shape: Shape
    """What it was built for, the times of its chunks among that."""
    bubble: Bubble
    """Its measured idle time, and the published formula's."""


def _times(_: click.Context, __: click.Parameter, text: str) -> dict[str, float]:
    """Read `F=1,I=1,W=1,FB=3`."""
    from simulator.errors import ScheduleError
    from simulator.schedules import durations

    table: dict[str, float] = {}
    try:
        for part in text.split(","):
            if not part.strip():
                continue
            kind, value = part.split("=")
            table[kind.strip()] = float(value)
    except ValueError:
        raise click.BadParameter(
            f"'{text}' is not a list of times. Write for example F=1,I=1,W=1,FB=3."
        ) from None
    # People who give F and B alone mean schedules that do not split B; halves do for the others.
    if {"F", "B"} <= table.keys() and table.keys().isdisjoint({"I", "W"}):
        half = table["B"] / 2
        table |= {"I": half, "W": half}
    try:
        return durations(table)
    except ScheduleError as error:
        raise error.at(key="--times") from error


@cli.command()
@click.argument("name")
@click.option("--pp", type=int, help="Number of pipeline ranks (P).")
@click.option(
    "--stages",
    type=int,
    help="Same as --pp, but for dualpipev: its number of stages, two on each rank.",
)
@click.option("--micro-batches", type=int, help="Number of micro-batches per step (M).")
@click.option(
    "--virtual",
    type=int,
    default=1,
    show_default=True,
    help="Virtual stages on each pipeline rank (V), for interleaved.",
)
@click.option(
    "--group",
    type=int,
    default=0,
    help="Micro-batches that a stage runs in a row, P to M, for interleaved. The default is P.",
)
@click.option(
    "--pairs",
    is_flag=True,
    help="Run a forward and the backward behind it as a pair, for interleaved and 1f1b, as Megatron's "
    "overlap_moe_expert_parallel_comm does.",
)
@click.option(
    "--times",
    default="F=1,I=1,W=1",
    show_default=True,
    callback=_times,
    metavar="F=1,I=1,W=1,FB=3",
    help="Times of one micro-batch on 1/P of the model, in any unit. B is I + W and FB is F + B "
    "unless they are given; comm is the time to the next rank.",
)
@click.option(
    "--memory",
    type=float,
    help="Chunks whose activations a rank may hold, for zb-1p and zb-2p. The default is P or 2P.",
)
@click.option(
    "--kept",
    type=float,
    help="Share of a chunk's activations that its weight gradient still needs, for zb-1p and zb-2p. "
    "The default is 1.",
)
@click.option(
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the grid of a custom schedule from this file.",
)
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the figures as JSON; - writes them to standard output.",
)
@click.option(
    "--plot", callback=_output, metavar="FILE", help="Draw the schedule: .png, .svg or .pdf."
)
def schedule(  # noqa: PLR0913, PLR0917 - one for each option
    name: str,
    pp: int | None,
    stages: int | None,
    micro_batches: int | None,
    virtual: int,
    group: int,
    pairs: bool,
    times: dict[str, float],
    memory: float | None,
    kept: float | None,
    file: Path | None,
    json: Path | None,
    plot: Path | None,
) -> None:
    """Show a pipeline schedule: its grid, idle time and memory.

    NAME is a schedule such as 1f1b, zb-1p or dualpipe, or custom for one of --file; the command
    `simulate keys schedule.name` lists them all.
    """
    from simulator import inputs
    from simulator.errors import ScheduleError

    sizes = _Sizes(pp, stages, micro_batches)
    _check_options(name, sizes, group, file)
    _check_limits(name, memory, kept)
    text = inputs.text(file) if file else ""
    options = {
        "virtual": virtual,
        "group": group,
        "overlap_moe_expert_parallel_comm": pairs,
        "limit": memory,
        "kept": 1.0 if kept is None else kept,
        "text": text,
    }
    try:
        shown = _built(name, sizes, times, options)
    except ScheduleError as error:
        option = _OPTIONS.get(error.key, error.key)
        if option == "--pp" and pp is None:
            option = "--stages"
        error.key = option
        raise
    if plot:
        from simulator import plot as figures
        from simulator.store import write

        built, bubble = shown.schedule, shown.bubble
        chunk_times = shown.shape.times
        write(plot, lambda path: figures.schedule(built, chunk_times, bubble, path))
    emit(lambda: _tree(shown), json, lambda console: _show(console, shown))


def _check_options(name: str, sizes: _Sizes, group: int, file: Path | None) -> None:
    """Refuse options that are missing, or that the schedule does not take."""
    if (name == "custom") != (file is not None):
        raise click.BadParameter(
            "Give --file with custom, and only with custom.", param_hint="--file"
        )
    if group and name != "interleaved":
        raise click.BadParameter(
            "Only interleaved runs micro-batches in groups.", param_hint="--group"
        )
    if sizes.pp is not None and sizes.stages is not None:
        raise click.BadParameter("Give either --pp or --stages.", param_hint="--stages")
    # A custom grid has its own sizes in it.
    ranks = sizes.stages if sizes.pp is None else sizes.pp
    missing = ranks is None or sizes.micro_batches is None
    if missing and name != "custom":
        raise click.BadParameter("Give --pp and --micro-batches.", param_hint="--pp")


def _check_limits(name: str, memory: float | None, kept: float | None) -> None:
    """Refuse limits of memory where no search for an order reads them."""
    from simulator.schedules import SCHEDULES

    searched = [other for other, row in SCHEDULES.items() if row.timed]
    # A misspelt schedule is reported as such, when it is built.
    if name in searched or name not in SCHEDULES:
        return
    for option, value in (("--memory", memory), ("--kept", kept)):
        if value is not None:
            raise click.BadParameter(
                f"Only {' and '.join(searched)} work to a limit of memory.", param_hint=option
            )


def _built(
    name: str,
    sizes: _Sizes,
    times: dict[str, float],
    options: dict[str, Any],
) -> _Shown:
    """Build a schedule and measure it."""
    from simulator.schedules import SCHEDULES, Times, bubble, build, read, shape_of

    ranks = sizes.pp or sizes.stages or 0
    micro_batches = sizes.micro_batches or 0
    factor = 1.0
    if name == "custom":
        drawn = read(options["text"])
        ranks = ranks or len(drawn.ranks)
        micro_batches = micro_batches or drawn.micro_batches
    elif name in SCHEDULES:
        # Times are of 1/P of the model, chunks of 1/stages of it.
        parts = ranks
        if sizes.stages is not None:
            ranks = _ranks(name, sizes.stages)
        virtual = max(options["virtual"], 1)
        stages = SCHEDULES[name].stages(ranks, virtual)
        factor = parts / (stages or 1)
    chunks = Times.of(times).scaled(factor)
    built = build(name, ranks, micro_batches, times=chunks, **options)
    shape = shape_of(name, ranks, micro_batches, times=chunks, **options)
    measured = bubble(built, shape)
    return _Shown(built, shape, measured)


def _ranks(name: str, stages: int) -> int:
    """Return the pipeline ranks of so many stages as `--stages` counts them."""
    from simulator.errors import ScheduleError
    from simulator.schedules import SCHEDULES

    ranks = stages * SCHEDULES[name].ranks_per_stage
    if ranks % 1:
        remedy = f"Use {stages + 1}, or another even number."
        raise ScheduleError(
            f"stages do not fill the ranks of {name}, two on each", value=stages, remedy=remedy
        )
    return int(ranks)


def _tree(shown: _Shown) -> dict[str, Any]:
    from simulator.schedules import FORMULAS, grid, peak_in_flight

    schedule, bubble = shown.schedule, shown.bubble
    times = shown.shape.times
    formula = FORMULAS.get(schedule.name)
    whole = len(bubble.idle) * bubble.makespan
    return {
        "schedule": schedule.name,
        "stages": schedule.stages,
        "micro_batches": schedule.micro_batches,
        "ranks": len(schedule.ranks),
        "chunk_times": dict(times.each) | {"comm": times.comm},
        "makespan": bubble.makespan,
        "bubble": bubble.bubble,
        "bubble_formula": bubble.formula,
        "bubble_formula_text": formula.text if formula else None,
        "bubble_formula_exact": bubble.exact,
        "bubble_fraction": sum(bubble.idle) / whole if whole else 0.0,
        "peak_in_flight": peak_in_flight(schedule),
        "idle": bubble.idle,
        "grid": grid(schedule),
    }


def _show(console: Console, shown: _Shown) -> None:
    from rich.text import Text

    schedule = shown.schedule
    heading = Text(f"{schedule.name}: {schedule.sizes}", style="bold")
    console.print(heading)
    # Not through rich, which would break lines of the grid.
    width = console.width if console.is_terminal else 0
    for line in _grid_lines(shown, width):
        click.echo(line)
    for line in _figures(shown):
        console.print(Text(line))


def _grid_lines(shown: _Shown, width: int) -> Iterator[str]:
    """Yield the grid, in blocks of whole columns where a terminal is too narrow. width: of it, 0 for none."""
    from simulator.schedules import grid

    lines = grid(shown.schedule)
    last = len(lines) - 1
    digits = len(str(last))
    heads = [f"rank {rank:<{digits}} | " for rank in range(len(lines))]
    # All cells of a grid are as wide as its widest one, and a space apart.
    cells = [cell for line in lines for cell in line.split()]
    column = max(map(len, cells)) + 1
    longest = step = max(map(len, lines))
    if width:
        columns = (width - len(heads[0])) // column
        step = max(columns, 1) * column
    for start in range(0, longest, step):
        end = start + step
        for head, line in zip(heads, lines, strict=True):
            block = head + line[start:end]
            yield block.rstrip()
        if end < longest:
            yield ""


def _figures(shown: _Shown) -> Iterator[str]:
    from simulator.cli.tables import number
    from simulator.schedules import FORMULAS, peak_in_flight

    bubble = shown.bubble
    formula = FORMULAS.get(shown.schedule.name)
    end = number(bubble.makespan)
    idle = " ".join(map(number, bubble.idle))
    yield f"ends at {end}; idle until then, by rank: {idle}"
    text = f"bubble {number(bubble.bubble)}"
    # A schedule may have no published formula, and a formula may need times that were not given.
    if formula and bubble.formula is not None:
        published = number(bubble.formula)
        text += f"; published {formula.text} = {published}"
        if not bubble.exact:
            text += f", exact for {formula.where}"
    yield text
    chunks = peak_in_flight(shown.schedule)
    held = " ".join(map(str, chunks))
    yield f"most chunks in flight, by rank: {held}"

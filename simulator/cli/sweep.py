"""`simulate sweep`: many points, each kept as it finishes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import _emit, cli
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simulator.store import Folder
    from simulator.sweep import Finished, Point, Sweep

SHOWN = 40
"""Points up to which all are shown in the terminal."""


@cli.command()
@click.argument("sweep_file", metavar="SWEEP.yaml")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of results; the sweep's name unless given. What it holds already is not repeated.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes; one for each core unless given.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="A Dask scheduler to use instead: tcp://host:8786."
)
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the rows as JSON too; - for standard output.",
)
@click.option(
    "--plot", callback=_output, metavar="FILE", help="Draw the sweep's figures: .png, .svg or .pdf."
)
@click.option(
    "--html", callback=_output, metavar="FILE", help="Write a page with everything, for a browser."
)
@click.pass_context
def sweep(  # noqa: PLR0913, PLR0917 - one for each option
    context: click.Context,
    sweep_file: str,
    output: Path | None,
    workers: int | None,
    scheduler: str | None,
    json: Path | None,
    plot: Path | None,
    html: Path | None,
) -> None:
    """Simulate many points: a grid, a list or random draws over any keys of the two files.

    SWEEP.yaml is a file, or the bare name of a shipped one. Interrupt it at any moment; the same
    command continues.
    """
    if workers and scheduler:
        raise click.BadParameter(
            "Give --workers or --scheduler, not both.", param_hint="--scheduler"
        )
    from simulator.pool import cores
    from simulator.store import Folder
    from simulator.sweep import points, read

    plan = read(sweep_file)
    folder = Folder(output or Path(plan.config.name))
    chosen = points(plan)
    with folder.open():
        how = {"pool": "dask", "where": scheduler} if scheduler else {"where": workers or cores()}
        try:
            finished = _finish(plan, chosen, folder, how)
        except KeyboardInterrupt:
            kept = sum((folder.points / f"{point.name}.json").is_file() for point in chosen)
            click.echo(
                f"interrupted: {kept} of {len(chosen)} points are kept in {folder.root}; the same command "
                "continues",
                err=True,
            )
            context.exit(130)
        columns = _write(plan, finished, folder, plot)
    if html:
        _page(plan, columns, html)
    text = _text(plan, columns, folder.root)
    _emit(lambda: _tree(plan, columns), json, lambda console: console.print(*text, sep="\n"))
    context.exit(1 if "failed" in columns["status"] else 0)


def _finish(
    plan: Sweep, chosen: Sequence[Point], folder: Folder, how: Mapping[str, Any]
) -> list[Finished]:
    """Run what is not finished, beside a bar that lives as long."""
    from contextlib import closing

    from simulator.sweep import derived, run

    found: list[Finished] = []
    checked = False
    with (
        _bar(len(chosen)) as advance,
        closing(run(chosen, folder, penalties=plan.config.penalties, **how)) as events,
    ):
        for one in events:
            if not checked and one.tree["status"] == "ok":
                derived(plan, one)  # a wrong name is told now, not after the last point
                checked = True
            found.append(one)
            advance(one)
    return found


class _bar:  # noqa: N801 - reads as the verb that it is
    """A live bar with rate and time left on standard error; nothing where that is no terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = Console(stderr=True)
        self.total, self.counts = total, Counter[str]()
        self.progress = Progress(
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("points,"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=600.0,
        )
        self.task = self.progress.add_task("", total=total, rate="", note="")

    def __enter__(self) -> Callable[[Finished], None]:
        self.progress.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def _advance(self, one: Finished) -> None:
        self.counts["found finished" if one.reused else one.tree["status"]] += 1
        if one.reused:  # says nothing about the rate
            self.progress.update(
                self.task, total=self.total, completed=self.counts["found finished"]
            )
            self.progress.reset(
                self.task,
                total=self.total,
                completed=self.counts["found finished"],
                rate="",
                note="",
            )
            return
        self.progress.advance(self.task)
        speed = self.progress.tasks[0].speed
        rate = "" if not speed else f"{speed:.2g}/s," if speed >= 1 else f"{1 / speed:.2g} s each,"
        said = ", ".join(
            f"{count} {status}" for status, count in self.counts.items() if status != "ok"
        )
        self.progress.update(self.task, rate=rate, note=f" ({said})" if said else "")


def _write(
    plan: Sweep, finished: Sequence[Finished], folder: Folder, figure: Path | None
) -> dict[str, list[Any]]:
    from simulator.store import write
    from simulator.sweep import table

    columns = table(plan, finished)
    folder.put_results(columns)
    if figure:
        from simulator import plot

        if "ok" in columns["status"]:
            write(
                figure,
                lambda path: plot.sweep(
                    columns, plan.config.figures, _caption(plan, columns), path
                ),
            )
        else:
            click.echo(f"no figure: none of {len(finished)} points is legal", err=True)
    return columns


def _page(plan: Sweep, columns: Mapping[str, Sequence[Any]], path: Path) -> None:
    from simulator import html, inputs
    from simulator.cli.commands import _write_page

    config = plan.config
    named = [
        (kind, str(name))
        for kind, base in (("topology", config.topology), ("workload", config.workload))
        for name in plan.axes.get(kind, [base])
    ]
    files = {"topology": "topologies", "workload": "workloads"}
    documents = [
        plan.document,
        *(inputs.read(plan.file(name, files[kind])) for kind, name in named),
    ]
    title = (
        f"{config.name}: {_caption(plan, columns)}" if "ok" in columns["status"] else config.name
    )
    _write_page(path, lambda given: html.sweep(columns, config.figures, title, given, documents))


def _tree(plan: Sweep, columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"schema_version": 1, "sweep": plan.config.name, "rows": rows}


def _caption(plan: Sweep, columns: Mapping[str, Sequence[Any]]) -> str:
    config = plan.config
    fixed = [f"{path} {value}" for path, value in config.set.items()]
    names = {key: next(filter(None, columns[f"{key}.name"])) for key in ("workload", "topology")}
    base = " on ".join(name for key, name in names.items() if key not in plan.axes)
    return ", ".join([base or config.name, *fixed])


def _text(
    plan: Sweep, columns: Mapping[str, Sequence[Any]], root: Path
) -> Iterator[RenderableType]:
    """Return what became of the points, in the order of the axes."""
    from rich.text import Text

    from simulator.cli.text import _table, number
    from simulator.units import format_seconds

    def shown(name: str, place: int) -> str:
        value = columns[name][place] if name in columns else None
        if value is None:
            return ""
        return (
            value
            if isinstance(value, str)
            else number(value)
            if isinstance(value, int | float)
            else str(value)
        )

    total = len(columns["point"])
    verdicts: dict[Any, str] = {True: "fits", False: "does not fit"}
    if total <= SHOWN:
        made = list(plan.derived)
        table = _table(
            plan.config.name, *plan.axes, "step time", *made, "memory", "", left=len(plan.axes)
        )
        for place in range(total):
            step = columns["step_time_s"][place] if "step_time_s" in columns else None
            fits = columns["memory.fits"][place] if "memory.fits" in columns else None
            table.add_row(
                *(shown(f"axis.{path}", place) for path in plan.axes),
                "" if step is None else format_seconds(step),
                *(shown(name, place) for name in made),
                verdicts.get(fits, ""),
                "" if columns["status"][place] == "ok" else columns["status"][place],
            )
        yield table
        yield Text()
    for error, count in Counter(error for error in columns["error"] if error).most_common(SHOWN):
        yield Text(f"{count} of {total} points: {error}")
    counts = Counter(columns["status"])
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    steps = [
        (step, place)
        for place, step in enumerate(columns.get("step_time_s", ()))
        if step is not None
    ]
    if steps:
        step, place = min(steps)
        where = ", ".join(f"{path} {shown(f'axis.{path}', place)}" for path in plan.axes)
        yield Text(f"shortest step: {format_seconds(step)} with {where}", style="bold")
    yield Text(f"{total} points: {said}; in {root / 'results.parquet'} and {root / 'results.csv'}")

"""`simulate sweep`: many points, each kept as it finishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts, say, write_page
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from simulator.inputs import Document
    from simulator.store import Folder
    from simulator.sweep import Finished, Point, Sweep

Columns = Mapping[str, Sequence[Any]]
"""The table of a sweep, a row a point."""
PAYS = 10
"""Points for which the executor is compiled where it is not on disk."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


@cli.command()
@click.argument("sweep_file", metavar="SWEEP.yaml")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of results; default: the sweep's name. Points that it holds are not repeated.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of processes; default: one for each core.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Dask scheduler to use instead: tcp://host:8786."
)
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the rows as JSON; - writes them to standard output.",
)
@click.option(
    "--plot", callback=_output, metavar="FILE", help="Draw the sweep's figures: .png, .svg or .pdf."
)
@click.option(
    "--html", callback=_output, metavar="FILE", help="Write a self-contained page for a browser."
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
    """Simulate a grid, a list or random draws of scenarios.

    The axes are any keys of the two files. SWEEP.yaml is a file, or the bare name of a shipped one.
    Interrupt it at any moment; the same command continues.
    """
    if workers and scheduler:
        raise click.BadParameter(
            "Give --workers or --scheduler, not both.", param_hint="--scheduler"
        )
    if output == Path("-"):
        raise click.BadParameter(
            "Results are a folder, which cannot go to standard output. Write --json - for the rows.",
            param_hint="--output",
        )
    from simulator.pool import cores
    from simulator.store import Folder
    from simulator.sweep import points, read

    plan = read(sweep_file)
    folder = Folder(output or _named_folder(plan))
    outputs = {"--json": json, "--plot": plot, "--html": html}
    _check_outputs(folder, outputs)
    chosen = points(plan)
    how: dict[str, Any] = {}
    if scheduler:
        how["pool"] = "dask"
    how["where"] = scheduler or workers or cores()
    # The folder is locked as long as its files are written; the page and the text need no lock.
    with folder.open():
        try:
            finished = _finish(plan, chosen, folder, how)
        except KeyboardInterrupt:
            _tell_interrupted(chosen, folder)
            context.exit(INTERRUPTED)
        columns = _write(plan, finished, folder)
        if plot:
            _draw(plan, columns, plot)
    if html:
        _page(plan, columns, html)
    _show(plan, columns, folder, json)
    context.exit(1 if "failed" in columns["status"] else 0)


def _named_folder(plan: Sweep) -> Path:
    """Return the folder that is named after a sweep. Errors: InputError.

    Whoever writes a sweep file chooses its name, and so shall not choose to write through a link.
    """
    from simulator.errors import InputError

    path = Path(plan.config.name)
    if path.is_symlink():
        error = InputError(
            "is a symbolic link here",
            value=plan.config.name,
            remedy="Name the folder that it leads to with -o.",
        )
        raise plan.told(error, "name")
    return path


def _check_outputs(folder: Folder, outputs: Mapping[str, Path | None]) -> None:
    """Refuse outputs in place of the sweep's own files. Errors: InputError."""
    from simulator.errors import InputError

    for option, path in outputs.items():
        if path is not None and folder.owns(path):
            remedy = "Name another file."
            raise InputError(
                "is a file of the sweep's own", key=option, value=str(path), remedy=remedy
            )


def _compile_once(chosen: Sequence[Point], folder: Folder) -> None:
    """Compile the executor of steps where that pays, once for all workers."""
    from simulator.engine import CODE
    from simulator.progress import doing

    missing = {point.name for point in chosen if not folder.has(point.name)}
    # Compiling takes as long as SimPy takes longer over some ten points of a large program.
    if len(missing) >= PAYS and not CODE.on_disk():
        with doing("compiling the executor, once on this machine"):
            CODE.ready()


def _finish(
    plan: Sweep, chosen: Sequence[Point], folder: Folder, how: Mapping[str, Any]
) -> list[Finished]:
    """Run what is not finished, and show how far it is. how: `pool` and `where` of `run`."""
    from contextlib import closing

    from simulator.cli.progress import progress_bar
    from simulator.sweep import derived, run

    results: list[Finished] = []
    checked = False
    if "pool" not in how:  # machines of a cluster have code of their own
        _compile_once(chosen, folder)
    running = run(chosen, folder, penalties=plan.config.penalties, **how)
    with progress_bar(len(chosen)) as bar, closing(running):
        for result in running:
            if not checked and result.tree["status"] == "ok":
                derived(plan, result)  # a wrong name is told now, not after the last point
                checked = True
            results.append(result)
            bar.advance(result)
    return results


def _tell_interrupted(chosen: Sequence[Point], folder: Folder) -> None:
    """Say how many points are finished, and how to go on."""
    finished = [point for point in chosen if folder.has(point.name)]
    counts = f"{len(finished)} of {len(chosen)} points"
    say(f"interrupted: {counts} are kept in {folder.root}; the same command continues")


def _write(plan: Sweep, finished: Sequence[Finished], folder: Folder) -> Columns:
    """Write the table of all points, and return it."""
    from simulator.sweep import table

    columns = table(plan, finished)
    folder.put_results(columns)
    return columns


def _draw(plan: Sweep, columns: Columns, path: Path) -> None:
    from simulator import plot
    from simulator.store import write

    if "ok" not in columns["status"]:
        total = len(columns["status"])
        say(f"no figure: none of {total} points is legal")
        return
    caption = _caption(plan, columns)
    figures = plan.config.figures
    write(path, lambda draft: plot.sweep(columns, figures, caption, draft))


def _page(plan: Sweep, columns: Columns, path: Path) -> None:
    from simulator import html

    config = plan.config
    title = config.name
    if "ok" in columns["status"]:
        caption = _caption(plan, columns)
        title = f"{title}: {caption}"
    documents = _documents(plan)
    figures = config.figures
    write_page(path, lambda given: html.sweep(columns, figures, title, given, documents))


def _documents(plan: Sweep) -> list[Document]:
    """Return the files that it takes to run a sweep again: its own, topologies, workloads."""
    from simulator import inputs

    bases = {"topologies": plan.config.topology, "workloads": plan.config.workload}
    documents = [plan.document]
    for kind, base in bases.items():
        # An axis over whole files replaces the base.
        axis = inputs.SINGULAR[kind]
        for name in plan.axes.get(axis, [base]):
            file = plan.file(str(name), kind)
            documents.append(inputs.read(file))
    return documents


def _show(plan: Sweep, columns: Columns, folder: Folder, json: Path | None) -> None:
    from simulator.cli.points import Outcome, points_text

    outcome = Outcome(plan, columns, folder.root)
    text = points_text(outcome)
    emit(lambda: _tree(plan, columns), json, lambda console: print_parts(console, text))


def _tree(plan: Sweep, columns: Columns) -> dict[str, Any]:
    # Columns lie side by side; JSON has a row a point, which repeats the names.
    names = list(columns)
    lines = zip(*columns.values(), strict=True)
    rows = [dict(zip(names, line, strict=True)) for line in lines]
    return {"schema_version": 1, "sweep": plan.config.name, "rows": rows}


def _caption(plan: Sweep, columns: Columns) -> str:
    """Return what all points share: workload and topology, where no axis varies them, and sets."""
    names = []
    for kind in ("workload", "topology"):
        if kind not in plan.axes:
            # A point whose file is not valid has no name; all others have the same.
            given = filter(None, columns[f"{kind}.name"])
            names.append(next(given))
    parts = [" on ".join(names) or plan.config.name]
    for path, value in plan.config.set.items():
        parts.append(f"{path} {value}")
    return ", ".join(parts)

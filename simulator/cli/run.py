"""`simulate run`: one step, and the run that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts, write_page
from simulator.cli.options import common
from simulator.cli.outputs import output
from simulator.progress import doing

if TYPE_CHECKING:
    from simulator.scenario import Scenario
    from simulator.whatif import Study


def _figure(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse a name that is not a figure; the default needs no look at the table."""
    if value != "step":
        from simulator.plot import check_figure

        check_figure(value)
    return value


@cli.command()
@click.argument("topology")
@click.option("-w", "--workload", default="deepseek-v3", show_default=True, help="What to train.")
@click.option(
    "--alternatives/--no-alternatives",
    default=True,
    show_default=True,
    help="Also simulate the alternatives to what the workload assumes.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help=(
        "Also list the ten constants of profiles on which the step hangs most, each changed by a "
        "tenth: about sixty runs."
    ),
)
@click.option(
    "--trace",
    callback=output,
    metavar="FILE",
    help="Write the step for Perfetto: .json or .json.gz; a folder gets a file per rank class.",
)
@click.option(
    "--figure",
    default="step",
    show_default=True,
    metavar="NAME",
    callback=_figure,
    help="What --plot draws: step, links, memory, traffic or experts.",
)
@common
def run(
    topology: str,
    workload: str,
    alternatives: bool,
    sensitivity: bool,
    trace: Path | None,
    figure: str,
    **outputs: Any,
) -> None:
    """Simulate one training step, and the run that it belongs to."""
    from simulator.cli.text import study_text
    from simulator.scenario import load
    from simulator.whatif import study

    plot, html = outputs["plot"], outputs["html"]
    scenario = load(topology, workload, outputs["sets"])
    _check_figure(figure, plot, scenario)
    result = study(scenario, alternatives=alternatives)
    if sensitivity:
        result = _with_sensitivity(result)
    # matplotlib and the page's charts are imported only where they are asked for.
    if plot:
        _draw(result, figure, plot)
    if trace:
        from simulator.trace import write as write_trace

        with doing("writing the trace"):
            write_trace(result.timeline, trace)
    if html:
        from simulator import html as pages

        write_page(html, lambda given: pages.run(result, given))
    text = study_text(result)
    emit(result.as_dict, outputs["json"], lambda console: print_parts(console, text))


def _with_sensitivity(result: Study) -> Study:
    """Return a study with the constants on which its step hangs, showing how far that is."""
    from dataclasses import replace

    from simulator.whatif import sensitivity

    return replace(result, sensitivity=sensitivity(result.report))


def _check_figure(figure: str, plot: Path | None, scenario: Scenario) -> None:
    """Refuse a figure that nobody draws, or that a scenario lacks, before the work is done."""
    if figure == "step":
        return
    if plot is None:
        from simulator.errors import InputError

        raise InputError(
            "has no effect without --plot",
            key="--figure",
            value=figure,
            remedy="Add --plot FILE.",
        )
    from simulator.plot import check_figure

    check_figure(figure, scenario)


def _draw(result: Study, figure: str, target: Path) -> None:
    from simulator import plot as figures
    from simulator.store import write

    draw = figures.FIGURES[figure]
    write(target, lambda path: draw(result.timeline, result.report, path))

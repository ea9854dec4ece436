"""`simulate compare`: scenarios side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts, write_page
from simulator.cli.options import common
from simulator.progress import counted

if TYPE_CHECKING:
    from simulator.scenario import Scenario


@cli.command()
@click.argument("topologies", nargs=-1, required=True, metavar="TOPOLOGY...")
@click.option(
    "-w",
    "--workload",
    "workloads",
    multiple=True,
    default=("deepseek-v3",),
    show_default=True,
    help="What to train; repeat the option to compare.",
)
@common
def compare(topologies: tuple[str, ...], workloads: tuple[str, ...], **outputs: Any) -> None:
    """Compare scenarios: what changes, by how much, and why.

    Every topology is combined with every workload, and with every item of a --set value that is a
    list.
    """
    from simulator.cli.comparison import comparison_text
    from simulator.compare import as_dict
    from simulator.whatif import study

    # All are read before any is simulated, so that a mistake in the last one costs no time.
    scenarios = list(_scenarios(topologies, workloads, outputs["sets"]))
    studies = [study(scenario) for scenario in counted(scenarios, "comparing scenarios")]
    reports = [study_.report for study_ in studies]
    plot, html = outputs["plot"], outputs["html"]
    # matplotlib and the page's charts are imported only where they are asked for.
    if plot:
        from simulator import plot as figures
        from simulator.store import write

        write(plot, lambda path: figures.comparison(reports, path))
    if html:
        from simulator import html as pages

        write_page(html, lambda given: pages.comparison(studies, given))
    text = comparison_text(studies)
    emit(
        lambda: as_dict(studies),
        outputs["json"],
        lambda console: print_parts(console, text),
    )


def _scenarios(
    topologies: Sequence[str], workloads: Sequence[str], sets: dict[str, Any]
) -> Iterator[Scenario]:
    from simulator.scenario import load

    axes = [_axis(key, value) for key, value in sets.items()]  # [key][value]
    points = list(product(*axes))
    for topology, workload, values in product(topologies, workloads, points):
        changes = dict(zip(sets, values, strict=True))
        yield load(topology, workload, changes)


def _axis(key: str, value: Any) -> list[Any]:
    """Return the values to try for a key: each item of a list, unless the key itself holds one."""
    from simulator.scenario import LIST_KEYS

    inner = key.removeprefix("workload.").removeprefix("topology.")
    if isinstance(value, list) and inner not in LIST_KEYS:
        return value
    return [value]

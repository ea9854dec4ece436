"""The commands of `simulate`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from simulator.cli.outputs import Group
from simulator.cli.outputs import output as _output

if TYPE_CHECKING:
    from rich.console import Console

    from simulator.html import Inputs
    from simulator.report import Report
    from simulator.scenario import Scenario
    from simulator.whatif import Study

Command = TypeVar("Command", bound=Callable[..., Any])


def main() -> None:
    """Run the command line. Exit status: 0 success, 2 bad usage or bad input, 1 anything else."""
    # A program is hundreds of thousands of small objects without cycles; looking for cycles takes
    # 8% of a run.
    gc.set_threshold(500_000, 20, 20)
    sys.exit(_main(sys.argv[1:]))


def _main(arguments: Sequence[str]) -> int:
    from simulator.errors import InputError, SimulateError

    try:
        return int(
            cli.main(
                list(arguments), prog_name="simulate", standalone_mode=False, obj=tuple(arguments)
            )
            or 0
        )
    except click.exceptions.Abort:
        say("interrupted")
        return 130
    except click.ClickException as error:
        return _usage(error)
    except (InputError, SimulateError) as error:
        say(f"simulate: {error}")
        return 2 if isinstance(error, InputError) else 1
    except BrokenPipeError:
        # The reader of our output has gone, as `simulate ... | head` does.
        sys.stderr.close()
        return 1
    except OSError as error:
        say(f"simulate: {error.filename or 'output'}: {error.strerror or error}")
        return 1


def say(text: str) -> None:
    """Write to standard error, with control characters as they are written in source."""
    from simulator.escapes import visible

    click.echo(visible(text, lines=True), err=True)


def _usage(error: click.ClickException) -> int:
    """Say what is wrong with a call in one line."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return 2
    context = getattr(error, "ctx", None)
    hint = f" Try '{context.command_path} --help'." if context else ""
    say(f"simulate: {error.format_message()}{hint}")
    return error.exit_code


@click.group(
    cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="simulate", message="%(prog)s %(version)s")
def cli() -> None:
    """Simulate what a training run costs on a cluster, and why.

    TOPOLOGY and WORKLOAD are YAML files, or bare names of shipped ones.
    """


def _sets(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    from simulator.errors import InputError
    from simulator.inputs import parse_value

    parsed = {}
    for text in values:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise click.BadParameter(f"'{text}' is not KEY=VALUE. Write for example layout.ep=32.")
        try:
            parsed[key.strip()] = parse_value(value)
        except InputError as error:
            raise error.at(file="--set", key=key.strip()) from error
    return parsed


def _figure(_: click.Context, __: click.Parameter, value: str) -> str:
    """Refuse a name that is no figure; the default needs no look at the table."""
    if value != "step":
        from simulator.plot import check_figure

        check_figure(value)
    return value


def _check_figure(figure: str, plot: Path | None, scenario: Scenario) -> None:
    """Refuse a figure that nobody draws, or that a scenario has not, before the work is done."""
    if figure == "step":
        return
    if plot is None:
        from simulator.errors import InputError

        raise InputError(
            "means nothing without --plot", key="--figure", value=figure, remedy="Add --plot FILE."
        )
    from simulator.plot import check_figure

    check_figure(figure, scenario)


def _common(command: Command) -> Command:
    options = (
        click.option(
            "--set",
            "sets",
            multiple=True,
            callback=_sets,
            metavar="KEY=VALUE",
            help="Replace a key of either file, for example layout.ep=32.",
        ),
        click.option(
            "--json",
            callback=_output,
            metavar="FILE",
            help="Write the report as JSON; - for standard output.",
        ),
        click.option(
            "--plot", callback=_output, metavar="FILE", help="Draw a figure: .png, .svg or .pdf."
        ),
        click.option(
            "--html",
            callback=_output,
            metavar="FILE",
            help="Write a page with everything, for a browser.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


@cli.command()
@click.argument("topology")
@click.option("-w", "--workload", default="deepseek-v3", show_default=True, help="What to train.")
@click.option(
    "--alternatives/--no-alternatives",
    default=True,
    show_default=True,
    help="Also run the alternatives of what the workload assumes.",
)
@click.option(
    "--trace",
    callback=_output,
    metavar="FILE",
    help="Write the step for Perfetto: .json or .json.gz; for a folder one file per class of ranks.",
)
@click.option(
    "--figure",
    default="step",
    show_default=True,
    metavar="NAME",
    callback=_figure,
    help="What --plot draws: step, links, memory, traffic or experts.",
)
@_common
def run(
    topology: str, workload: str, alternatives: bool, trace: Path | None, figure: str, **output: Any
) -> None:
    """Simulate one training step on a cluster, and the run that it belongs to."""
    from simulator.scenario import load
    from simulator.whatif import study

    scenario = load(topology, workload, output["sets"])
    _check_figure(figure, output["plot"], scenario)
    result = study(scenario, alternatives=alternatives)
    timeline, report = result.timeline, result.report
    if output["plot"]:
        from simulator import plot as figures
        from simulator.store import write

        write(output["plot"], lambda path: figures.FIGURES[figure](timeline, report, path))
    if trace:
        from simulator.trace import write as write_trace

        write_trace(timeline, trace)
    if output["html"]:
        from simulator import html as pages

        _write_page(output["html"], lambda given: pages.run(result, given))
    _emit(result.as_dict, output["json"], lambda console: _show_study(console, result))


@cli.command()
@click.argument("topologies", nargs=-1, required=True, metavar="TOPOLOGY...")
@click.option(
    "-w",
    "--workload",
    "workloads",
    multiple=True,
    default=("deepseek-v3",),
    show_default=True,
    help="What to train; repeat to compare.",
)
@_common
def compare(topologies: tuple[str, ...], workloads: tuple[str, ...], **output: Any) -> None:
    """Simulate scenarios side by side: what changes, by how much, and why."""
    from simulator.compare import as_dict
    from simulator.whatif import study

    studies = [study(one) for one in _product(topologies, workloads, output["sets"])]
    reports = [one.report for one in studies]
    if output["plot"]:
        from simulator import plot as figures
        from simulator.store import write

        write(output["plot"], lambda path: figures.comparison(reports, path))
    if output["html"]:
        from simulator import html as pages

        _write_page(output["html"], lambda given: pages.comparison(studies, given))
    _emit(
        lambda: as_dict(studies), output["json"], lambda console: _show_comparison(console, reports)
    )


def _write_page(path: Path, page: Callable[[Inputs], str]) -> None:
    """Write a page that says which call made it."""
    import shlex

    from simulator.html import Inputs
    from simulator.store import write_text

    write_text(path, page(Inputs(f"simulate {shlex.join(click.get_current_context().obj)}")))


def _product(
    topologies: Sequence[str], workloads: Sequence[str], sets: dict[str, Any]
) -> Sequence[Scenario]:
    from simulator.scenario import load

    return [
        load(topology, workload, dict(zip(sets, values, strict=True)))
        for topology in topologies
        for workload in workloads
        for values in product(*(_axis(key, value) for key, value in sets.items()))
    ]


def _axis(key: str, value: Any) -> list[Any]:
    """Return the values that `compare` tries for a key: each item of a list, unless the key itself holds a list."""
    from simulator.scenario import LIST_KEYS

    plain = (
        isinstance(value, list)
        and key.removeprefix("workload.").removeprefix("topology.") not in LIST_KEYS
    )
    return value if plain else [value]


@cli.command()
@click.argument("cases", nargs=-1, metavar="[CASE]...")
@click.option(
    "--json",
    callback=_output,
    metavar="FILE",
    help="Write the checks as JSON; - for standard output.",
)
@click.option(
    "--alternatives/--no-alternatives",
    default=False,
    show_default=True,
    help="Also run the other choices for what a source does not say, and give the span over them.",
)
def validate(cases: tuple[str, ...], json: Path | None, alternatives: bool) -> None:
    """Set simulated figures beside published ones.

    CASE: a publication such as megatron_2022, or a row of one; all of them unless told, which takes
    minutes.
    """
    from simulator.cli.terminal import PlainConsole
    from simulator.validate import validate as check

    checks = []
    with PlainConsole(stderr=True).status(
        ""
    ) as status:  # shows nothing where standard error is no terminal
        for row in check(cases, alternatives=alternatives):
            checks.append(row)
            status.update(f"{len(checks)} done, last {row.case}: {row.error:+.1%}")
    _emit(
        lambda: {"checks": [row.as_dict() for row in checks]},
        json,
        lambda console: _show_checks(console, checks),
    )


def _emit(tree: Callable[[], Any], json: Path | None, show: Callable[[Console], None]) -> None:
    """Write JSON where it is wanted, and show the text unless JSON takes standard output."""
    from simulator.store import to_json, write_text

    if json == Path("-"):
        click.echo(to_json(tree()), nl=False)
        return
    if json:
        write_text(json, to_json(tree()))
    from simulator.cli.terminal import PlainConsole

    show(PlainConsole())


def _show_study(console: Console, study: Study) -> None:
    from simulator.cli.text import study_text

    for part in study_text(study):
        console.print(part)


def _show_comparison(console: Console, reports: Sequence[Report]) -> None:
    from simulator.cli.text import comparison_text

    for part in comparison_text(reports):
        console.print(part)


def _show_checks(console: Console, checks: Sequence[Any]) -> None:
    from simulator.cli.text import checks_text

    for part in checks_text(checks):
        console.print(part)

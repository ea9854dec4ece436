"""`simulate compile`: compile everything once, so that later runs find it on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts
from simulator.cli.outputs import output
from simulator.errors import EngineError

if TYPE_CHECKING:
    from rich.console import RenderableType


@cli.command("compile")
@click.option(
    "--json",
    callback=output,
    metavar="FILE",
    help="Write the times as JSON; - writes them to standard output.",
)
def compile_(json: Path | None) -> None:
    """Compile once what makes runs fast, and keep it on disk.

    Nothing needs it: without it small programs run more slowly, and large ones compile as they run.
    """
    from simulator.engine import CODE

    seconds = _seconds()
    folder = CODE.folder()
    tree = {
        "parts": [{"name": name, "seconds": each} for name, each in seconds.items()],
        "folder": str(folder) if folder else None,
    }
    text = _text(seconds, folder)
    emit(lambda: tree, json, lambda console: print_parts(console, text))


def _seconds() -> dict[str, float]:
    """Compile all parts on all cores; return how long each took, in the order of `_parts` [s]."""
    from simulator.pool import Job, cores, processes
    from simulator.progress import counting, doing

    names = list(_parts())
    found: dict[str, float] = {}
    with doing("compiling"):
        tell = counting("parts", of=len(names))
        for outcome in processes(_compiled, [Job(name, name) for name in names], cores()):
            if outcome.error:
                raise EngineError(f"{outcome.job.key}: {outcome.error}")
            found[outcome.job.key] = outcome.seconds
            tell(len(found))
    return {name: found[name] for name in names}


def _compiled(name: str) -> None:
    """Compile one part, in a process of its own."""
    _parts()[name]()


def _parts() -> Mapping[str, Callable[[], object]]:
    """Return what there is to compile, each with what compiles it where it is not on disk yet.

    The longest first, so that all cores end at about the same time.
    """
    from simulator import bounds, engine, flows
    from simulator.schedules import build

    return {
        "executor of steps": engine.CODE.ready,
        "flows": flows.compile_rates,
        "flows that are alike": flows.compile_classes,
        "search of schedules": lambda: build("zb-1p", 4, 2_502),  # so many that it is compiled
        "critical path": bounds.CODE.ready,
    }


def _text(seconds: Mapping[str, float], folder: Path | None) -> Iterator[RenderableType]:
    for name, each in seconds.items():
        yield f"{name}: {each:.1f} s"
    yield f"kept in {folder}" if folder else "kept nowhere: no folder can be written"

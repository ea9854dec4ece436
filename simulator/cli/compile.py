"""`simulate compile`: compile everything once, so that later runs find it on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from simulator.cli.commands import cli
from simulator.cli.emit import emit, print_parts
from simulator.cli.outputs import output

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

    seconds = {name: _timed(act) for name, act in _parts().items()}
    folder = CODE.folder()
    tree = {
        "parts": [{"name": name, "seconds": each} for name, each in seconds.items()],
        "folder": str(folder) if folder else None,
    }
    text = _text(seconds, folder)
    emit(lambda: tree, json, lambda console: print_parts(console, text))


def _parts() -> Mapping[str, Callable[[], object]]:
    """Return what there is to compile, each with what compiles it where it is not on disk yet."""
    from simulator import bounds, engine
    from simulator.flows import drain
    from simulator.schedules import build

    return {
        "executor of steps": engine.CODE.ready,
        "critical path": bounds.CODE.ready,
        "search of schedules": lambda: build("zb-1p", 4, 2_502),  # so many that it is compiled
        "flows": lambda: drain([1.0], [0, 1], [0], [1.0], executor="numba"),
    }


def _timed(act: Callable[[], object]) -> float:
    """Return how long something takes [s]."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _text(seconds: Mapping[str, float], folder: Path | None) -> Iterator[RenderableType]:
    for name, each in seconds.items():
        yield f"{name}: {each:.1f} s"
    yield f"kept in {folder}" if folder else "kept nowhere: no folder can be written"

"""`simulate compile`: compile everything once, so that later runs find it on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from simulator.cli.commands import cli


@cli.command("compile")
def compile_() -> None:
    """Compile what makes runs fast, once, and keep it on disk.

    Without it everything runs as well, large programs after a wait and small ones more slowly.
    """
    from simulator.cli.terminal import PlainConsole
    from simulator.engine import CODE

    console = PlainConsole()
    for name, act in _parts().items():
        started = time.perf_counter()
        act()
        console.print(f"{name}: {time.perf_counter() - started:.1f} s")
    folder = CODE.folder()
    console.print(f"kept in {folder}" if folder else "kept nowhere: no folder can be written")


def _parts() -> Mapping[str, Callable[[], object]]:
    """Return what there is to compile, each with what compiles it where it is not on disk yet."""
    from simulator import bounds, engine
    from simulator.flows import drain
    from simulator.schedules import build

    return {
        "executor of steps": engine.CODE.ready,
        "critical path": bounds.prepare,
        "search of schedules": lambda: build("zb-1p", 4, 2_502),  # so many that it is compiled
        "flows": lambda: drain([1.0], [0, 1], [0], [1.0], executor="numba"),
    }

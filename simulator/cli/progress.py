"""How far a sweep is: a live bar with rate and time left, on standard error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from simulator.cli.status import hidden

if TYPE_CHECKING:
    from rich.progress import Progress

    from simulator.sweep import Finished

WINDOW = 600.0
"""Time over which the rate is averaged [s]: points differ in cost."""


class Bar:
    """The state of a bar over points."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.reused = 0
        self.others = Counter[str]()
        self.progress = _progress()
        self.task = self.progress.add_task("", total=total, rate="", note="")

    def advance(self, result: Finished) -> None:
        """Count one more point."""
        if result.reused:
            # Says nothing about the rate, so the clock starts after the last of them.
            self.reused += 1
            total = self.total
            done = self.reused
            self.progress.update(self.task, total=total, completed=done)
            self.progress.reset(self.task, total=total, completed=done, rate="", note="")
            return
        status = result.tree["status"]
        if status != "ok":
            self.others[status] += 1
        self.progress.advance(self.task)
        # After the advance, so that the rate counts this point too.
        rate = _rate(self.progress.tasks[0].speed)
        self.progress.update(self.task, rate=rate, note=self._note())

    def _note(self) -> str:
        """Return how many points are not like the rest, in brackets."""
        counts = []
        if self.reused:
            counts.append(f"{self.reused} found finished")
        for status, count in self.others.items():
            counts.append(f"{count} {status}")
        if not counts:
            return ""
        listed = ", ".join(counts)
        return f" ({listed})"


@contextmanager
def progress_bar(total: int) -> Iterator[Bar]:
    """Show a bar while the block runs; nothing where standard error is not a terminal."""
    bar = Bar(total)
    with hidden(), bar.progress:
        yield bar


def _rate(speed: float | None) -> str:
    """Return a rate in points per second, or the time of a point where that is longer [s]."""
    if not speed:
        return ""
    if speed >= 1:
        return f"{speed:.2g}/s,"
    return f"{1 / speed:.2g} s each,"


def _progress() -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from simulator.cli.terminal import PlainConsole

    console = PlainConsole(stderr=True)
    return Progress(
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("points,"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left{task.fields[note]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=WINDOW,
    )

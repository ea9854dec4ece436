"""A line on standard error that says what a command is at, for as long as it shows nothing else.

It is there only where standard error is a terminal, and only after a moment: quick commands never
show it. A thread writes it, so that work needs not stop for it; work only leaves notes, see
`simulator.progress`.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TextIO

from simulator.escapes import visible
from simulator.progress import watched_by

DELAY = 0.7
"""How long a command may be silent [s]."""
EVERY = 0.1
"""Time between two pictures of the line [s]."""
EVERY_PLAIN = 2.0
"""The same of a terminal that cannot rewrite a line: it gets a new one for each phase [s]."""
_SPINNER = "|/-\\"
_CLEAR = "\r\x1b[K"


class StatusLine:
    """What a command is at, as phases within phases, and the line that shows it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.rewrites = os.environ.get("TERM", "dumb") != "dumb"
        self.began = time.monotonic()
        self.phases: list[str] = []
        self.counts: list[str] = []  # of each phase
        self.hidden = 0  # blocks that want the terminal for themselves
        self.drawn = ""
        # Whoever draws or hides holds it, so that nothing is drawn into what a block has written.
        self.drawing = threading.Lock()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._draw_on, daemon=True)

    # What work tells, from its own thread

    def begin(self, phase: str) -> None:
        """Note that a phase begins."""
        self.counts.append("")
        self.phases.append(phase)

    def count(self, done: int, of: int, what: str) -> None:
        """Note how much of the innermost phase is done."""
        if self.counts:
            total = f" of {of:,}" if of else ""
            self.counts[-1] = f"{done:,}{total} {what}".rstrip()

    def end(self) -> None:
        """Note that the innermost phase has ended."""
        self.phases.pop()
        self.counts.pop()

    # What is shown of it

    def text(self) -> str:
        """Return the line without time: `lowering: classes of ranks, 3 of 8`."""
        # Copies: work goes on meanwhile.
        parts = zip(self.phases.copy(), self.counts.copy(), strict=False)
        return ": ".join(f"{phase}, {count}" if count else phase for phase, count in parts)

    def hide(self) -> None:
        """Leave the terminal to somebody else, until `show`."""
        with self.drawing:
            self.hidden += 1
            self._erase()

    def show(self) -> None:
        """Draw again."""
        self.hidden -= 1

    def close(self) -> None:
        """Draw no more."""
        self.over.set()
        try:
            self.thread.join()
        finally:  # Ctrl-C while it waits
            self._erase()

    def _draw_on(self) -> None:
        """Draw until the command is over."""
        wait = DELAY if self.rewrites else EVERY_PLAIN
        while not self.over.wait(wait):
            with self.drawing:
                if not self.hidden:
                    self._draw()
            wait = EVERY if self.rewrites else EVERY_PLAIN

    def _draw(self) -> None:
        if not self.rewrites:
            self._draw_phase()
            return
        elapsed = time.monotonic() - self.began
        turn = _SPINNER[int(elapsed / EVERY) % len(_SPINNER)]
        # Read each time, for windows change; a full last column starts a new line in some terminals.
        width = shutil.get_terminal_size().columns - 1
        line = f"{visible(self.text()) or 'working'}, {elapsed:.0f} s"
        room = width - 2  # beside the spinner
        if len(line) > room:
            # The inner phases move, and tell more than the outer ones.
            line = "..." + line[max(0, len(line) - room + 3) :]
        self.drawn = f"{turn} {line}"[:width]
        self._write(_CLEAR + self.drawn)

    def _draw_phase(self) -> None:
        """Write the outermost phase on a line of its own, once."""
        phases = self.phases.copy()
        # Between two phases there is nothing to say that was not said.
        phase = phases[0] if phases else self.drawn or "working"
        if phase != self.drawn:
            self._write(f"{phase}\n")
            self.drawn = phase

    def _erase(self) -> None:
        if self.drawn and self.rewrites:
            self._write(_CLEAR)
            self.drawn = ""

    def _write(self, text: str) -> None:
        # A terminal may be closed under a command that goes on; a closed stream raises ValueError.
        with suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()


_LINE: ContextVar[StatusLine | None] = ContextVar("status line", default=None)


@contextmanager
def status_line() -> Iterator[None]:
    """Say what the block is at, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    line = StatusLine(sys.stderr)
    token = _LINE.set(line)
    line.thread.start()
    try:
        with watched_by(line):
            yield
    finally:
        line.close()
        _LINE.reset(token)


@contextmanager
def hidden() -> Iterator[None]:
    """Leave the terminal to what the block shows."""
    line = _LINE.get()
    if line is None:
        yield
        return
    line.hide()
    try:
        yield
    finally:
        line.show()

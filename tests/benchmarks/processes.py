"""Fresh processes: how long they take, their CPU time and their peak of memory, by what the system counted."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
LIMIT = 120.0
"""Time after which a process is ended [s]: the page says that it takes longer."""


class Ended(NamedTuple):
    """A process that has ended."""

    status: int
    """Exit status; below 0 if a signal ended it."""
    cpu: float
    """Its CPU time, that of its own children included [s]."""
    peak: int
    """Largest resident memory of it or of one of its children [B]."""


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a process that runs this checkout."""
    return {**os.environ, "PYTHONPATH": str(HERE.parent.parent), **changes}


def ended(process: subprocess.Popen[Any]) -> Ended:
    """Wait for a process and return what it took."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # Linux counts KiB, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Ended(process.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss * unit)


class Output(NamedTuple):
    """What a command printed, and what it took."""

    text: str
    """Standard output."""
    seconds: float
    """From start to end [s]."""
    used: Ended
    """CPU time and memory."""


def command(arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Output:
    """Run Python with some arguments, at most LIMIT. Errors: TimeoutError, or what it said."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            # -P: the program of PYTHONPATH, not that of the folder in which the benchmarks run.
            [sys.executable, "-P", *arguments],
            stdout=out,
            stderr=err,
            env=env or environment(),
        )
        guard = threading.Timer(LIMIT, process.kill)
        guard.start()
        used = ended(process)
        seconds = time.perf_counter() - started
        guard.cancel()
        if seconds >= LIMIT:
            raise TimeoutError(f"ended after {LIMIT:.0f} s")
        out.seek(0)
        err.seek(0)
        if used.status:
            raise RuntimeError(f"{arguments}: {used.status}: {err.read()[-2000:]}")
        return Output(out.read(), seconds, used)


def simulate(*arguments: str, env: Mapping[str, str] | None = None) -> Output:
    """Run `simulate` with some arguments."""
    return command(["-m", "simulator", *arguments], env)


class Scenarios:
    """A fresh process that simulates scenarios, one after the other (`child.py`)."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "child.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert self.process.stdin
        assert self.process.stdout
        self.to, self.back = self.process.stdin, self.process.stdout
        assert self.back.readline() == "ready\n"  # all is imported

    def ask(self, sets: Mapping[str, Any], **how: Any) -> dict[str, Any]:
        """Simulate DeepSeek-V3 on 2,048 GPUs with other values, at most LIMIT. Errors: TimeoutError."""
        question = {"topology": "h800-2048", "workload": "deepseek-v3", "sets": sets, **how}
        guard = threading.Timer(LIMIT, self.process.kill)
        guard.start()
        started = time.perf_counter()
        self.to.write(json.dumps(question) + "\n")
        self.to.flush()
        line = self.back.readline()
        guard.cancel()
        if not line:
            if time.perf_counter() - started < LIMIT:
                raise RuntimeError(f"{question}: no answer")
            raise TimeoutError(f"no answer after {LIMIT:.0f} s")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> Ended:
        """Let it end, and return what it took."""
        with contextlib.suppress(BrokenPipeError):  # it was killed
            self.to.close()
        self.back.close()
        return ended(self.process)

"""What long work tells whoever watches, and the line on a terminal that shows it."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from builders import kernel, program

from simulator import engine
from simulator.cli import status
from simulator.cli.emit import say
from simulator.engine import EXECUTORS
from simulator.flows import drain
from simulator.progress import counted, counting, doing, watched_by

ROOT = Path(__file__).resolve().parent.parent
CLEAR = "\r\x1b[K"


class Notes(list):
    """A watcher that writes down what it is told."""

    def begin(self, phase):
        self.append(phase)

    def count(self, done, of, what):
        self.append((done, of, what))

    def end(self):
        self.append("end")


@pytest.fixture
def notes():
    seen = Notes()
    with watched_by(seen):
        yield seen


# What work tells


def test_a_phase_tells_its_begin_its_counts_and_its_end(notes):
    with doing("lowering"):
        assert list(counted(["a", "b"], "ranks")) == ["a", "b"]
    told = ["lowering", "ranks", (1, 2, ""), (2, 2, ""), "end", "end"]
    assert notes == told
    counting("runs")(7)
    assert notes == [*told, (7, 0, "runs")]


def test_a_phase_that_fails_has_ended(notes):
    with pytest.raises(ValueError, match="no"), doing("lowering"):
        raise ValueError("no")
    assert notes == ["lowering", "end"]


def test_work_that_nobody_watches_is_done_all_the_same():
    with doing("lowering"):
        counting("runs", 3)(1)
        assert list(counted([1, 2], "ranks")) == [1, 2]


@pytest.mark.parametrize("name", EXECUTORS)
def test_executors_tell_how_many_rows_have_ended(notes, name):
    engine.run(program([kernel(0, 1.0) for _ in range(3)]), name)
    assert notes[0] == "executing"
    assert notes[-2:] == [(3, 3, "rows"), "end"]


@pytest.mark.slow
def test_machine_code_comes_back_now_and_then(notes):
    # 40,000 kernels of 1 s on one rank, one after the other: the end of each is its number.
    rows = 40_000
    timeline = engine.run(program([kernel(0, 1.0) for _ in range(rows)]), "compiled")
    assert timeline.end.tolist() == list(range(1, rows + 1))
    done = [note[0] for note in notes if note[1:] == (rows, "rows")]
    assert done == [16_384, 2 * 16_384, rows]


@pytest.mark.slow
def test_flows_tell_how_many_have_ended(notes):
    # 1,100 flows of 1, 2, ... bytes over links of their own of 1 B/s: one ends each second. All open at once, the first
    # event; 511 more are the rest of a slice.
    count = 1100
    each = list(range(count))
    ends = drain([1.0] * count, [*each, count], each, [size + 1.0 for size in each])
    assert ends.tolist() == [size + 1.0 for size in each]
    done = [note[0] for note in notes if note[1:] == (count, "flows")]
    assert done == [511, 1023, count]


# The line


@pytest.fixture
def line():
    return status.StatusLine(io.StringIO())


def test_the_line_has_phases_within_phases_and_their_counts(line):
    assert line.text() == ""
    line.begin("lowering")
    line.begin("classes of ranks")
    line.count(3, 1200, "")
    assert line.text() == "lowering: classes of ranks, 3 of 1,200"
    line.end()
    line.count(4, 0, "runs")
    assert line.text() == "lowering, 4 runs"
    line.end()
    assert line.text() == ""


class Terminal(io.StringIO):
    """What a terminal would have been sent."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Return a terminal of 40 columns, on which the line shows at once."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    for name in ("DELAY", "EVERY", "EVERY_PLAIN"):
        monkeypatch.setattr(status, name, 0.001)
    return Terminal()


def wait_for(text, stream):
    for _ in range(5000):
        if text in stream.getvalue():
            return
        time.sleep(0.001)
    raise AssertionError(stream.getvalue())


def test_the_line_is_drawn_anew_and_gone_in_the_end(terminal):
    with redirect_stderr(terminal), status.status_line():
        wait_for("working, 0 s", terminal)
        with doing("executing"):
            counting("rows", 42734)(1000)
            wait_for("executing, 1,000 of 42,734 rows, 0 s", terminal)
    assert terminal.getvalue().startswith(CLEAR)
    assert terminal.getvalue().endswith(CLEAR)
    assert "\n" not in terminal.getvalue()


def test_a_long_line_keeps_its_inner_phases_and_names_steer_no_terminal(terminal):
    with redirect_stderr(terminal), status.status_line(), doing("a" * 40), doing("\x1b[2J"):
        wait_for(r"\x1b[2J, 0 s", terminal)
    lines = [one for one in terminal.getvalue().split(CLEAR) if one.endswith(r"\x1b[2J, 0 s")]
    # 39 columns: the last one stays free.
    assert {one[2:] for one in lines} == {"..." + "a" * 20 + r": \x1b[2J, 0 s"}
    assert {len(one) for one in lines} == {39}


def test_what_is_said_meanwhile_stands_on_a_line_of_its_own(terminal):
    with redirect_stderr(terminal), status.status_line():
        wait_for("working", terminal)
        say("hello")
        with status.hidden():
            before = terminal.getvalue()
            time.sleep(0.02)
            assert terminal.getvalue() == before
    assert f"{CLEAR}hello\n" in terminal.getvalue()


def test_a_terminal_that_rewrites_nothing_gets_a_line_for_each_phase(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with redirect_stderr(terminal), status.status_line():
        wait_for("working\n", terminal)
        with doing("executing"):
            counting("rows", 42734)(1000)
            wait_for("executing\n", terminal)
    assert terminal.getvalue() == "working\nexecuting\n"


def test_a_stream_that_is_closed_ends_no_command():
    stream = io.StringIO()
    line = status.StatusLine(stream)
    line.drawn = "working"
    line.rewrites = True
    line.thread.start()
    stream.close()
    line.close()  # would raise ValueError
    assert not line.drawn


def test_a_file_gets_nothing(monkeypatch):
    monkeypatch.setattr(status, "DELAY", 0.001)
    file = io.StringIO()
    with redirect_stderr(file), status.status_line(), doing("executing"):
        time.sleep(0.02)
    assert file.getvalue() == ""


# Ctrl-C


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has no pseudo-terminals")
def test_ctrl_c_ends_a_run_at_once_and_leaves_nothing(tmp_path):
    import pty

    here, there = pty.openpty()
    # A shell lets what it starts in the background ignore Ctrl-C, and children inherit that.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator", "run", "h800-2048", "--json", "x", "--trace", "y.json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=there,
    )
    signal.signal(signal.SIGINT, handler)
    os.close(there)
    seen = b""
    while b"working" not in seen and b":" not in seen and b"," not in seen:
        seen += os.read(here, 4096)
    os.killpg(process.pid, signal.SIGINT)
    sent = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert time.monotonic() - sent < 5  # 0.2 s; machines are slow at times
    while chunk := _read(here):
        seen += chunk
    os.close(here)
    assert (process.returncode, out) == (130, b"")
    assert seen.decode().endswith(f"{CLEAR}\r\ninterrupted\r\n")
    assert list(tmp_path.iterdir()) == []


def _read(descriptor):
    """Return what a terminal still holds; nothing where its other end is closed."""
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says so instead of returning nothing
        return b""

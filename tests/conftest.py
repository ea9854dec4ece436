"""Settings that all tests share."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine, and no clock in the verdict: these machines are slow at times.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def _compiled():
    """Have the machine code of steps on disk, compiled once for all tests and for the processes that they start."""
    from simulator import bounds, engine

    engine.CODE.ready()
    bounds.CODE.ready()


def port():
    """Return a port of this machine that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory):
    """Run a real Dask scheduler and two real workers, each a process of its own; return the scheduler's address."""
    pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")
    here, number = Path(__file__).resolve().parent, port()
    # What workers import jobs from.
    folders = (here.parent, here, here / "benchmarks")
    address = f"tcp://127.0.0.1:{number}"
    scratch = str(tmp_path_factory.mktemp("dask"))
    calls = [
        [
            "dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(number),
            "--dashboard-address",
            ":0",
        ],
        *[["dask_worker", address, "--no-nanny", "--nthreads", "1", "--local-directory", scratch]]
        * 2,
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{call[0]}", *call[1:]],
            cwd=scratch,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
        )
        for call in calls
    ]
    for _ in range(600):  # [0.2 s] it imports much before it listens
        with socket.socket() as one:
            if not one.connect_ex(("127.0.0.1", number)):
                break
        time.sleep(0.2)
    yield address
    for process in processes:
        process.kill()
        process.wait()

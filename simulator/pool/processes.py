"""A pool of processes on this machine that survives the death of its workers.

`concurrent.futures` gives up all jobs when one worker dies, so each worker here has a pipe of its
own: who died, and over what, is then known.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from simulator.pool.jobs import TRIES, Function, Job, Outcome, called


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(
    function: Function, jobs: Sequence[Job], workers: int
) -> Generator[Outcome, None, None]:
    """Yield the outcome of every job as it finishes, on `workers` processes.

    A worker that dies is replaced and its job begun again, TRIES times in all; then its outcome is
    an error that says so. Closing the generator ends the workers.
    """
    queue = _Queue(jobs)
    crew = [_Worker(function) for _ in range(min(workers, len(jobs)))]
    try:
        for worker in crew:
            worker.take(queue.next(worker.group, _groups(crew)))
        while any(worker.job for worker in crew):
            ready = wait([worker.pipe for worker in crew if worker.job])
            for place in [place for place, worker in enumerate(crew) if worker.pipe in ready]:
                outcome = crew[place].result()
                if outcome is None:  # it died
                    outcome = queue.again(crew[place])
                    crew[place] = _Worker(function)
                if outcome:
                    yield outcome
                if queue.left:
                    crew[place].take(queue.next(crew[place].group, _groups(crew)))
    finally:
        for worker in crew:
            worker.end()


def _groups(crew: Sequence[_Worker]) -> set[str]:
    return {worker.group for worker in crew if worker.job}


class _Queue:
    """Jobs that wait, and how often each was begun."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.left = deque(jobs)
        self.begun: dict[str, int] = {}

    def next(self, group: str, taken: set[str]) -> Job:
        """Take the first job of a worker's group, else the first of a group that nobody works on, else the first."""
        own = (job for job in self.left if job.group == group)
        free = (job for job in self.left if job.group not in taken)
        job = next(own, None) or next(free, self.left[0])
        self.left.remove(job)
        self.begun[job.key] = self.begun.get(job.key, 0) + 1
        return job

    def again(self, worker: _Worker) -> Outcome | None:
        """Put the job of a dead worker back in front; after TRIES, return the outcome that says so."""
        job = worker.job
        if job is None:
            return None
        if self.begun[job.key] < TRIES:
            self.left.appendleft(job)
            return None
        return Outcome(job, error=f"its worker died {TRIES} times, {worker.cause()}", tries=TRIES)


@dataclass
class _Worker:
    """One process and the pipe to it."""

    function: Function
    job: Job | None = None
    group: str = ""

    def __post_init__(self) -> None:
        # Not forked: the parent may hold threads (a progress bar's, numba's), whose locks a fork
        # would freeze.
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_work, args=(self.function, far), daemon=True
        )
        self.process.start()
        far.close()  # so that the pipe ends when the worker does

    def take(self, job: Job) -> None:
        """Begin a job."""
        self.job, self.group = job, job.group
        try:
            self.pipe.send(job.payload)
        except OSError:
            return  # it is dead; `result` will find so

    def result(self) -> Outcome | None:
        """Return the outcome of its job, None if it died over it."""
        job = self.job
        if job is None:
            return None
        try:
            value, error, seconds = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            self.pipe.close()
            return None
        self.job = None
        return Outcome(job, value, error, seconds)

    def cause(self) -> str:
        """Say how it ended."""
        code = self.process.exitcode or 0
        if code >= 0:
            return f"the last time with exit status {code}"
        hint = "; memory may have run out: try fewer workers" if code == -signal.SIGKILL else ""
        return f"the last time by {signal.Signals(-code).name}{hint}"

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def _work(function: Function, pipe: Connection) -> None:
    """Answer calls until the pipe ends."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.set_threshold(
        500_000, 20, 20
    )  # as the command line does: programs are many objects without cycles
    while True:
        try:
            payload = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(called(function, payload))


def _end_with_parent() -> None:
    """End at once when the parent is killed, instead of computing on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

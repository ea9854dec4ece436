"""A pool of processes on this machine that survives the death of its workers.

`concurrent.futures` gives up all jobs when one worker dies, so each worker here has a pipe of its
own: who died, and over what, is then known.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from simulator.pool.jobs import TRIES, Function, Job, Outcome, Outcomes, called

MOST_ON_WINDOWS = 61
"""Workers that can be waited for there, as in `concurrent.futures`."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    count = os.cpu_count() or 1
    return min(count, MOST_ON_WINDOWS) if sys.platform == "win32" else count


def processes(function: Function, jobs: Sequence[Job], workers: int) -> Outcomes:
    """Yield the outcome of every job as it finishes, on `workers` processes.

    A worker that dies is replaced and its job begun again, TRIES times in all; then its outcome is
    an error that says so. Closing the generator ends the workers.
    """
    queue = _Queue(jobs)
    size = min(workers, len(jobs))
    crew = [_Worker(function) for _ in range(size)]
    try:
        for worker in crew:
            worker.take(queue.next(worker.group, _groups(crew)))
        while any(worker.job for worker in crew):
            for index in _ready(crew):
                outcome = crew[index].result()
                if outcome is None:  # it died
                    outcome = queue.retry(crew[index])
                    crew[index] = _Worker(function)
                else:
                    outcome = replace(outcome, tries=queue.begun[outcome.job.key])
                # Before its outcome is handed on: whoever takes that may be busy with it for a while.
                if queue.waiting:
                    worker = crew[index]
                    worker.take(queue.next(worker.group, _groups(crew)))
                if outcome:
                    yield outcome
    finally:
        for worker in crew:
            worker.end()


def _ready(crew: Sequence[_Worker]) -> list[int]:
    """Wait for workers that answer or die, and return their indices."""
    ready = wait([worker.pipe for worker in crew if worker.job])
    return [index for index, worker in enumerate(crew) if worker.pipe in ready]


def _groups(crew: Sequence[_Worker]) -> set[str]:
    return {worker.group for worker in crew if worker.job}


class _Queue:
    """Jobs that wait, and how often each was begun."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.waiting = deque(jobs)
        self.begun = Counter[str]()  # job's key -> how often

    def next(self, group: str, taken: set[str]) -> Job:
        """Take the first job of a worker's group, else of a group without workers, else of all."""
        own = (job for job in self.waiting if job.group == group)
        free = (job for job in self.waiting if job.group not in taken)
        job = next(own, None) or next(free, self.waiting[0])
        self.waiting.remove(job)
        self.begun[job.key] += 1
        return job

    def retry(self, worker: _Worker) -> Outcome | None:
        """Put the job of a dead worker back in front; after TRIES, return an outcome instead."""
        job = worker.job
        if job is None:
            return None
        if self.begun[job.key] < TRIES:
            self.waiting.appendleft(job)
            return None
        error = f"its worker died {TRIES} times, {worker.cause()}"
        return Outcome(job, error=error, tries=TRIES)


class _Worker:
    """One process and the pipe to it."""

    def __init__(self, function: Function) -> None:
        self.job: Job | None = None
        self.group = ""
        # Not forked: the parent may hold threads (a progress bar's, numba's), whose locks a fork
        # would freeze.
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self.process = context.Process(target=_work, args=(function, far), daemon=True)
        self.process.start()
        far.close()  # so that the pipe ends when the worker does

    def take(self, job: Job) -> None:
        """Begin a job."""
        self.job, self.group = job, job.group
        try:
            self.pipe.send(job.payload)
        except OSError:
            return  # it is dead; `result` will notice

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
        name = _signal_name(-code)
        hint = "; memory may have run out: try fewer workers" if name == "SIGKILL" else ""
        return f"the last time by {name}{hint}"

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, or one of another system
        return f"signal {number}"


def _work(function: Function, pipe: Connection) -> None:
    """Answer calls until the pipe ends."""
    # Ctrl-C reaches the whole group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # As the command line does: programs are many objects without cycles.
    gc.set_threshold(500_000, 20, 20)
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

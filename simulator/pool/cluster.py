"""The same jobs on an existing Dask cluster, for which the extra `distributed` is needed.

A scheduler hands out about a thousand tasks a second, however short they are, so that a task is a
batch of jobs that takes about a second: a thousand threads then wait for nobody.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from simulator.errors import InputError
from simulator.pool.jobs import Function, Job, Outcome, Outcomes, called

SECONDS = 1.0
"""Time that a batch should take [s]; when a sweep is interrupted, what has begun is lost."""
AHEAD = 2
"""Batches that a thread has: the one that it runs and the next one."""
TIMEOUT = 30
"""Time for a scheduler to answer [s]."""

Batch = tuple[Job, ...]
"""Jobs that one task runs, one after the other."""


def dask(function: Function, jobs: Sequence[Job], address: str) -> Outcomes:
    """Yield the outcome of every job as it finishes on a cluster.

    address: of its scheduler, `tcp://host:8786`. The scheduler replaces workers and retries by its
    own rule (`distributed.scheduler.allowed-failures`). Workers need this package, of the same
    version. Closing the generator cancels what has not finished. Errors: InputError.
    """
    client, as_completed = _client(address)
    batches, crew = Batches(jobs), _Crew(client)
    running: dict[Any, Batch] = {}  # future -> its jobs

    def submit(batch: Batch) -> Any:
        payloads = [job.payload for job in batch]
        # Not pure: Dask would take two batches of the same payloads for one.
        future = client.submit(_each, function, payloads, pure=False)
        running[future] = batch
        return future

    def more() -> list[Any]:
        threads = crew.threads()
        free = max(0, AHEAD * threads - len(running))
        return [submit(batch) for batch in batches.next(free, threads)]

    try:
        finished = as_completed(more(), loop=client.loop)
        for future in finished:
            batch = running.pop(future)
            if future.status == "error" and len(batch) > 1:
                # One of them may have killed its workers; alone it cannot take others along.
                finished.update([submit((job,)) for job in batch])
                continue
            outcomes = _outcomes(batch, future)
            batches.learn(outcomes)
            # Before these are handed on: whoever takes them may be busy with them for a while.
            finished.update(more())
            yield from outcomes
    finally:
        client.cancel(list(running), force=True)
        client.close()


class Batches:
    """Jobs that wait, cut into batches by how long jobs have taken lately."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.waiting = deque(jobs)
        self.seconds = SECONDS

    def next(self, free: int, threads: int) -> Iterator[Batch]:
        """Yield as many batches as are free to run, as long as there are jobs."""
        for _ in range(free):
            if not self.waiting:
                return
            # Of what is left every thread gets a share, so that all end at about the same time.
            share = len(self.waiting) // (AHEAD * threads)
            size = max(1, min(share, int(SECONDS / max(self.seconds, 1e-6))))
            yield tuple(self.waiting.popleft() for _ in range(min(size, len(self.waiting))))

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Take the time of a job from those of the last batch."""
        # A job that killed its worker, or was cancelled, has an error and no time: the next ones are no shorter for it.
        known = [one.seconds for one in outcomes if one.seconds or not one.error]
        if known:
            self.seconds = sum(known) / len(known)


class _Count(NamedTuple):
    """How many threads a cluster had."""

    threads: int
    """At least one: workers may be on their way."""
    at: float
    """When it was asked [s]."""


class _Crew:
    """The threads of a cluster, which may grow and shrink."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.known = self._asked()

    def threads(self) -> int:
        """Return how many there are, asked at most once a second."""
        if time.monotonic() - self.known.at > 1.0:
            self.known = self._asked()
        return self.known.threads

    def _asked(self) -> _Count:
        threads = sum(self.client.nthreads().values())
        return _Count(max(1, threads), time.monotonic())


def _each(function: Function, payloads: Sequence[Any]) -> list[tuple[Any, str, float]]:
    """Run the jobs of a batch, on a worker."""
    return [called(function, payload) for payload in payloads]


def _outcomes(batch: Batch, future: Any) -> list[Outcome]:
    if future.status == "finished":
        answers = zip(batch, future.result(), strict=True)
        return [Outcome(job, *answer) for job, answer in answers]
    fault = "cancelled by the scheduler"
    if future.status == "error":
        fault = str(future.exception())
    error = " ".join(fault.split())
    return [Outcome(job, error=error) for job in batch]


def _client(address: str) -> tuple[Any, Any]:
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise InputError(
            "needs the package distributed",
            key="--scheduler",
            value=address,
            remedy="Install it: pip install 'simulate[distributed]'.",
        ) from error
    try:
        client: Any = Client
        return client(address, timeout=TIMEOUT, set_as_default=False), as_completed
    except (OSError, ValueError) as error:
        raise InputError(
            "is not a Dask scheduler that answers",
            key="--scheduler",
            value=address,
            remedy="Write for example tcp://127.0.0.1:8786.",
        ) from error

"""The same jobs on an existing Dask cluster, for which the extra `distributed` is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from simulator.errors import InputError
from simulator.pool.jobs import Function, Job, Outcome, Outcomes, called

AHEAD = 256
"""Jobs that the scheduler knows at a time: enough for any crew, and few to cancel."""
TIMEOUT = 30
"""Time for a scheduler to answer [s]."""


def dask(function: Function, jobs: Sequence[Job], address: str) -> Outcomes:
    """Yield the outcome of every job as it finishes on a cluster.

    address: of its scheduler, `tcp://host:8786`. The scheduler replaces workers and retries by its
    own rule (`distributed.scheduler.allowed-failures`). Workers need this package, of the same
    version. Closing the generator cancels what has not finished. Errors: InputError.
    """
    client, as_completed = _client(address)
    waiting = iter(jobs)
    running: dict[Any, Job] = {}  # future -> its job

    def submit(job: Job) -> Any:
        # Not pure: Dask would take two jobs of one payload for one.
        future = client.submit(called, function, job.payload, pure=False)
        running[future] = job
        return future

    try:
        first = [submit(job) for job in islice(waiting, AHEAD)]
        finished = as_completed(first, loop=client.loop)
        for future in finished:
            yield _outcome(running.pop(future), future)
            for job in islice(waiting, 1):
                finished.add(submit(job))
    finally:
        client.cancel(list(running), force=True)
        client.close()


def _outcome(job: Job, future: Any) -> Outcome:
    if future.status == "finished":
        value, error, seconds = future.result()
        return Outcome(job, value, error, seconds)
    fault = "cancelled by the scheduler"
    if future.status == "error":
        fault = str(future.exception())
    return Outcome(job, error=" ".join(fault.split()))


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

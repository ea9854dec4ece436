"""The same jobs on an existing Dask cluster. Needs the package `distributed`, the extra of that name."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice
from typing import Any

from simulator.errors import InputError
from simulator.pool.jobs import Function, Job, Outcome, called

AHEAD = 256
"""Jobs that the scheduler knows at a time: enough for any crew, and few to cancel."""
TIMEOUT = 30  # [s] for a scheduler to answer


def dask(function: Function, jobs: Sequence[Job], address: str) -> Generator[Outcome, None, None]:
    """Yield the outcome of every job as it finishes on the workers of the scheduler at an address, `tcp://host:8786`.

    The scheduler replaces workers and retries by its own rule
    (`distributed.scheduler.allowed-failures`). Workers need this package, of the same version.
    Closing the generator cancels what has not finished. Errors: InputError.
    """
    client, as_completed = _client(address)
    waiting = iter(jobs)
    of: dict[Any, Job] = {}

    def submit(job: Job) -> Any:
        future = client.submit(called, function, job.payload, pure=False)
        of[future] = job
        return future

    try:
        running = as_completed([submit(job) for job in islice(waiting, AHEAD)], loop=client.loop)
        for future in running:
            job = of.pop(future)
            yield _outcome(job, future)
            for another in islice(waiting, 1):
                running.add(submit(another))
    finally:
        client.cancel(list(of), force=True)
        client.close()


def _outcome(job: Job, future: Any) -> Outcome:
    if future.status == "finished":
        value, error, seconds = future.result()
        return Outcome(job, value, error, seconds)
    fault = future.exception() if future.status == "error" else "cancelled by the scheduler"
    return Outcome(job, error=" ".join(str(fault).split()))


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
            "is no Dask scheduler that answers",
            key="--scheduler",
            value=address,
            remedy="Write for example tcp://127.0.0.1:8786.",
        ) from error

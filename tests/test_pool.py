"""Pools: every job has one outcome, whatever happens to its worker; processes here, and on a real Dask cluster."""

import math
import os
import signal
import sys
import time
import types
from pathlib import Path

import pytest
from conftest import port

from simulator.errors import InputError
from simulator.pool import POOLS, TRIES, Job, Outcome
from simulator.pool.cluster import Batches
from simulator.pool.processes import _Queue, _Worker

ON_POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")


def twice(number):
    return 2 * number


def dies_once(marker):
    if Path(marker).exists():
        return "alive"
    Path(marker).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def jobs(*payloads):
    return [Job(str(number), payload) for number, payload in enumerate(payloads)]


@pytest.fixture(params=POOLS)
def pool(request):
    """Return each pool as a function of a function and jobs."""
    where = request.getfixturevalue("scheduler") if request.param == "dask" else 2
    return lambda function, some: list(POOLS[request.param](function, some, where))


@pytest.mark.slow
def test_every_job_has_one_outcome(pool):
    outcomes = pool(twice, jobs(*range(20)))
    assert sorted((int(one.job.key), one.value) for one in outcomes) == [
        (n, 2 * n) for n in range(20)
    ]
    assert all(not one.error and one.seconds >= 0 for one in outcomes)


@pytest.mark.slow
def test_what_a_function_raises_is_the_outcome_of_its_job_alone(pool):
    outcomes = {one.job.key: one for one in pool(math.sqrt, jobs(4.0, -1.0, 9.0))}
    assert [outcomes[key].value for key in "012"] == [2.0, None, 3.0]
    assert outcomes["1"].error.startswith("ValueError: ")


def test_no_jobs_need_no_worker():
    assert list(POOLS["processes"](twice, [], 2)) == []


@pytest.mark.slow
@ON_POSIX
def test_a_worker_that_dies_is_replaced_and_its_job_begun_again(tmp_path):
    outcomes = list(
        POOLS["processes"](dies_once, jobs(*(str(tmp_path / str(n)) for n in range(3))), 2)
    )
    assert [one.value for one in outcomes] == ["alive"] * 3
    assert all(not one.error for one in outcomes)
    assert [one.tries for one in outcomes] == [2] * 3  # each killed the worker that began it first


def test_a_job_whose_workers_all_die_says_so_and_the_others_go_on():
    # os._exit(3) ends the process at once; 3 tries, then the row. The job after it runs on the
    # fourth process.
    (outcome,) = POOLS["processes"](os._exit, jobs(3), 1)
    assert outcome.tries == TRIES
    assert outcome.error == "its worker died 3 times, the last time with exit status 3"


@ON_POSIX
def test_a_worker_that_ends_by_any_signal_is_told():
    # 35 is a real-time signal of Linux, which Python has no name for; systems without SIGKILL
    # have neither.
    worker = types.SimpleNamespace(process=types.SimpleNamespace(exitcode=-9))
    assert _Worker.cause(worker).startswith("the last time by SIGKILL; memory may have run out")
    worker.process.exitcode = -35
    assert _Worker.cause(worker) == "the last time by signal 35"


@ON_POSIX
@pytest.mark.slow
def test_closing_a_pool_ends_its_workers():
    running = POOLS["processes"](pid_then_sleep, jobs(0, 30.0), 2)
    worker = next(running).value
    running.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def pid_then_sleep(seconds):
    time.sleep(seconds)
    return os.getpid()


def test_workers_keep_to_their_group_and_then_take_one_that_nobody_has():
    queue = _Queue(
        [
            Job(key, None, group)
            for key, group in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"))
        ]
    )
    assert queue.next("", set()).key == "a1"
    assert queue.next("", {"a"}).key == "b1"
    assert queue.next("b", {"a", "b"}).key == "b2"
    assert queue.next("b", {"a", "b"}).key == "a2"


@pytest.mark.slow
def test_a_worker_has_its_next_job_before_its_outcome_is_handed_on():
    # Two jobs of 0.3 s on one worker, and somebody who is busy with the first outcome for 0.3 s: the
    # second ends meanwhile, so that its outcome is there at once.
    outcomes = POOLS["processes"](time.sleep, jobs(0.3, 0.3), 1)
    next(outcomes)
    time.sleep(0.35)
    started = time.perf_counter()
    next(outcomes)
    assert time.perf_counter() - started < 0.2


def sizes(batches, free, threads):
    return [len(batch) for batch in batches.next(free, threads)]


def test_batches_grow_to_a_second_and_shrink_towards_the_end():
    batches = Batches(jobs(*range(1000)))
    assert sizes(batches, 4, 2) == [1] * 4  # nobody knows yet how long a job takes
    batches.learn([Outcome(Job("0", 0), seconds=0.01)])
    assert sizes(batches, 3, 2) == [100] * 3
    batches.learn([Outcome(Job("0", 0), seconds=0.3), Outcome(Job("1", 1), seconds=0.1)])
    assert sizes(batches, 2, 2) == [5, 5]
    batches.learn([Outcome(Job("0", 0), seconds=0.0)])
    # Of 686 each of two threads gets two shares of 171; of the 2 that are left at last one each.
    assert sizes(batches, 1, 2) == [171]
    assert sum(sizes(batches, 10**6, 2)) == 515
    assert sizes(batches, 1, 2) == []


def test_a_job_that_killed_its_worker_makes_no_batch_larger():
    batches = Batches(jobs(*range(1000)))
    batches.learn([Outcome(Job("0", 0), seconds=0.1)])
    batches.learn([Outcome(Job("1", 1), error="its worker died")])  # nobody knows after how long
    assert sizes(batches, 1, 2) == [10]
    # What a job that raises took is measured.
    batches.learn([Outcome(Job("2", 2), error="ValueError: no", seconds=0.2)])
    assert sizes(batches, 1, 2) == [5]


@pytest.mark.slow
def test_a_cluster_gets_few_tasks_for_many_short_jobs(scheduler, monkeypatch):
    distributed = pytest.importorskip("distributed")
    tasks = []
    submit = distributed.Client.submit

    def counted(client, *given, **named):
        tasks.append(given[-1])
        return submit(client, *given, **named)

    monkeypatch.setattr(distributed.Client, "submit", counted)
    outcomes = list(POOLS["dask"](math.sqrt, jobs(-1.0, *range(2000)), scheduler))
    assert sorted(int(one.job.key) for one in outcomes) == list(range(2001))
    assert [one.job.key for one in outcomes if one.error] == ["0"]
    assert len(tasks) < 200


@pytest.mark.slow
def test_a_task_that_fails_as_a_whole_is_begun_again_job_by_job(scheduler):
    # The second payload cannot be read by a worker, which fails its whole batch.
    few = [Job(str(number), float(number)) for number in range(600)]
    few[400] = Job("400", Unreadable())
    outcomes = list(POOLS["dask"](math.sqrt, few, scheduler))
    assert sorted(int(one.job.key) for one in outcomes) == list(range(600))
    assert [one.job.key for one in outcomes if one.error] == ["400"]


class Unreadable:
    """What can be sent and not be read."""

    def __reduce__(self):
        return math.sqrt, (-1.0,)


def test_a_scheduler_that_does_not_answer_is_bad_input(monkeypatch):
    pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")
    monkeypatch.setattr("simulator.pool.cluster.TIMEOUT", 1)
    with pytest.raises(InputError, match="is not a Dask scheduler that answers"):
        list(POOLS["dask"](twice, jobs(1), f"tcp://127.0.0.1:{port()}"))
    with pytest.raises(InputError, match="is not a Dask scheduler that answers"):
        list(POOLS["dask"](twice, jobs(1), "nonsense://here"))


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"simulate\[distributed\]"):
        list(POOLS["dask"](twice, jobs(1), "tcp://127.0.0.1:8786"))

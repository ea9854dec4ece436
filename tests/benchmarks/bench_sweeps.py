"""How many points a sweep finishes in a second, and what a point costs besides its scenario.

By name: pytest tests/benchmarks/bench_sweeps.py. Whole commands; two sweeps of unlike length tell a
point from the start of the program. Dask runs on two workers of this machine, as processes of their
own.
"""

from __future__ import annotations

import csv
import json
import statistics
import time
from pathlib import Path

import pytest
from processes import simulate
from work import nothing, ten_milliseconds

from simulator.pool import POOLS, Job
from simulator.store import Folder
from simulator.sweep import points, read, table
from simulator.sweep.points import program
from simulator.sweep.run import Finished, Task, run_point

WARM, FEW, MANY = 4, 8, 48
"""Points of a sweep that warms workers up, and of the two that are measured."""
POOL = {"1 worker": ["--workers", "1"], "2 workers": ["--workers", "2"], "dask": ["--scheduler"]}


def axes(points):
    """Return the axes of a sweep over links and batch of DeepSeek-V3, so many points long.

    Sweeps of different length have no rate in common: workers of a cluster outlive a sweep.
    """
    lowest = 40 + points / 1000
    return {
        "topology.node.nic": [f"{lowest + n} GB/s per direction" for n in range(points // 4)],
        "training.global_batch_size": [15360, 14336, 13312, 12288],
    }


def sweep(folder, points, options):
    """Run a sweep into a folder of its own."""
    name = f"sweep-{points}"
    keys = {"name": name, "topology": "h800-2048", "workload": "deepseek-v3", "axes": axes(points)}
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(keys), encoding="utf-8")
    return simulate("sweep", str(file), "-o", str(folder / name), *options)


def inside(folder, points):
    """Return the time of a point's own call, as its worker measured it: the median [s]."""
    text = (folder / f"sweep-{points}" / "timing.csv").read_text(encoding="utf-8")
    return statistics.median(float(row["seconds"]) for row in csv.DictReader(text.splitlines()))


@pytest.mark.parametrize("pool", POOL)
def test_sweep(benchmark, processes, request, tmp_path, pool):
    options = list(POOL[pool])
    if pool == "dask":
        options.append(request.getfixturevalue("scheduler"))
        sweep(tmp_path, WARM, options)  # its workers are there before, those of others start anew
    few = sweep(tmp_path, FEW, options)
    many = processes(lambda: sweep(tmp_path, MANY, options))
    point = (many.seconds - few.seconds) / (MANY - FEW)
    benchmark.extra_info["sweep"] = {
        "points": MANY,
        "per_second": 1 / point,
        "cpu_per_point": (many.used.cpu - few.used.cpu) / (MANY - FEW),
        "start": few.seconds - FEW * point,
        "inside": inside(tmp_path, MANY),
    }
    results = Path(tmp_path / f"sweep-{MANY}" / "results.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(results.splitlines()))
    assert [row["status"] for row in rows] == ["ok"] * MANY
    assert len({row["step_time_s"] for row in rows}) == MANY


def test_shipped_sweep(processes, tmp_path):
    # Four layouts over six rates of NVLink.
    options = ("-o", str(tmp_path / "nvlink"), "--workers", "1")
    output = processes(lambda: simulate("sweep", "nvlink", *options))
    assert "24 ok" in output.text


def jobs(count):
    """Return jobs with as much to send as those of a sweep: two documents of some kilobytes."""
    tree = {"keys": {f"key{n}": [n, str(n)] for n in range(200)}}
    return [Job(str(number), {"number": number, **tree}) for number in range(count)]


@pytest.mark.parametrize("work", [nothing, ten_milliseconds])
@pytest.mark.parametrize("pool", ["1 worker", "2 workers", "dask"])
def test_pool(benchmark, request, pool, work):
    if pool == "dask":
        kind, where = "dask", request.getfixturevalue("scheduler")
    else:
        kind, where = "processes", int(pool[0])
    started = []
    count = 10_000 if work is nothing else 1000  # so many that connections take no part

    def run_all():
        outcomes = POOLS[kind](work, jobs(count), where)
        values = [next(outcomes).value]
        started.append(time.perf_counter())  # imports and connections are over
        values += [outcome.value for outcome in outcomes]
        started.append(time.perf_counter())
        return values

    values = benchmark.pedantic(run_all, rounds=1)
    benchmark.extra_info["per_job"] = (started[1] - started[0]) / (len(values) - 1)
    assert sorted(values) == list(range(count))


def test_parent_alone(benchmark, tmp_path):
    # What one process does for all workers: lists 1,000 points, writes each, and at last the table.
    keys = {"name": "parent", "topology": "h800-2048", "workload": "deepseek-v3"}
    file = tmp_path / "parent.yaml"
    file.write_text(json.dumps({**keys, "axes": axes(1000)}), encoding="utf-8")
    plan, folder = read(str(file)), Folder(tmp_path / "parent")
    first = points(plan)[0]
    tree = run_point(Task(first.cluster, first.run, first.refusal, False, program()))

    def all_but_the_simulations():
        with folder.open():
            chosen = points(plan)
            for point in chosen:
                folder.put(point.name, tree)
                folder.time(point.number, point.name, 0.01, 1)
            folder.put_results(table(plan, [Finished(point, tree) for point in chosen]))
        return chosen

    assert len(benchmark.pedantic(all_but_the_simulations, rounds=1)) == 1000


def test_tasks_of_dask(benchmark, scheduler):
    # 1,000 tasks of one job that does nothing: what a scheduler and its client take for each.
    distributed = pytest.importorskip("distributed")

    def all_tasks():
        futures = [client.submit(nothing, job.payload, pure=False) for job in jobs(1000)]
        finished = distributed.as_completed(futures, loop=client.loop)
        return sorted(future.result() for future in finished)

    with distributed.Client(scheduler, set_as_default=False) as client:
        assert benchmark.pedantic(all_tasks, rounds=1) == list(range(1000))

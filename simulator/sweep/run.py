"""Points -> finished points in a folder, through any pool; what is there is not repeated."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from simulator.errors import EngineError, InputError
from simulator.inputs import Document, validate
from simulator.model import ModelConfig
from simulator.pool import POOLS, Job, Outcome
from simulator.scenario import WorkloadConfig, build
from simulator.store import Folder, flat
from simulator.sweep.points import Point, program, reason
from simulator.topology import TopologyConfig

Tree = dict[str, Any]
"""Keys of a file -> what they hold."""
Twins = dict[str, list[Point]]
"""Name -> the points that have it, in their order."""
LEFT_OUT = ("schema_version", "topology", "workload", "assumed")
"""Parts of a report that are no figures of the point, or that its inputs have already."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A point with its results."""

    point: Point
    """The point."""
    tree: Tree
    """What its file holds: status, error, inputs, outputs."""
    reused: bool = False
    """Whether the folder had it before this run."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker needs of a point."""

    cluster: Document
    """Its topology."""
    run: Document
    """Its workload."""
    refusal: str
    """Why it cannot be a scenario, if it cannot."""
    penalties: bool
    """Whether to find what unequal experts and slow GPUs cost as well."""
    program: str
    """Hash of the code that must run it."""


def run(
    points: Sequence[Point],
    folder: Folder,
    *,
    penalties: bool = False,
    pool: str = "processes",
    where: Any = 1,
) -> Generator[Finished, None, None]:
    """Yield every point as it is finished, those first that the folder has already.

    pool: a row of POOLS. where: how many workers, or the address of a scheduler. Each point is
    written as it comes. A point that no worker could finish is yielded with status `failed` and not
    kept, so that the next run tries it again.
    """
    missing: list[Point] = []
    for point in points:
        tree = folder.get(point.name)
        if tree is None:
            missing.append(point)
        else:
            yield Finished(point, tree, reused=True)
    twins = _by_name(missing)
    jobs = _jobs(points, twins, penalties)
    outcomes = POOLS[pool](run_point, jobs, where)
    try:
        for outcome in outcomes:
            name = outcome.job.key
            same = twins[name]
            tree = outcome.value or _failed(outcome)
            # On disk before it is yielded: whoever stops us in between loses nothing.
            if not outcome.error:
                folder.put(name, tree)
            folder.time(same[0].number, name, outcome.seconds, outcome.tries)
            for point in same:
                yield Finished(point, tree)
    finally:
        outcomes.close()


def _by_name(points: Iterable[Point]) -> Twins:
    """Return the points that are simulated together, because all their inputs are equal."""
    twins: Twins = {}
    for point in points:
        twins.setdefault(point.name, []).append(point)
    return twins


def _jobs(points: Sequence[Point], twins: Twins, penalties: bool) -> list[Job]:
    """Return a job for each name, in the order of groups: a worker reuses what it just computed."""
    first: dict[str, int] = {}  # group -> number of its first point
    for point in points:
        first.setdefault(point.group, point.number)
    simulated = [same[0] for same in twins.values()]
    simulated.sort(key=lambda point: (first[point.group], point.number))
    return [_job(point, penalties) for point in simulated]


def _job(point: Point, penalties: bool) -> Job:
    task = Task(point.cluster, point.run, point.refusal, penalties, program())
    return Job(point.name, task, point.group)


def _failed(outcome: Outcome) -> Tree:
    return {"status": "failed", "error": outcome.error, "inputs": {}, "outputs": {}}


def run_point(task: Task) -> Tree:
    """Simulate one point and return what its file holds. Errors: EngineError."""
    from simulator.whatif import study

    if task.program != program():
        raise EngineError("this worker has another version of simulate than the sweep")
    tree: Tree = {"status": "ok", "error": "", "inputs": _valid(task), "outputs": {}}
    try:
        if task.refusal:
            return {**tree, "status": "illegal", "error": task.refusal}
        scenario = build(task.cluster, task.run)
        result = study(scenario, penalties=task.penalties)
    except InputError as error:
        return {**tree, "status": "illegal", "error": reason(error)}
    figures = result.as_dict()
    for part in LEFT_OUT:
        figures.pop(part, None)
    # The same point gives the same bytes.
    figures["engine"].pop("wall_s")
    if not task.penalties:
        # They were not looked for; None would say that there are none.
        figures.pop("imbalance")
        figures.pop("stragglers")
        figures["memory"].pop("remedies")
    return {**tree, "outputs": flat(figures)}


def _valid(task: Task) -> Tree:
    """Return the inputs in SI units, defaults included, of each file that is valid by itself."""
    keys = task.run.data.get("model") or {}
    model = Document("", keys, {})
    left_out = {"model", "reference", "assumed", "published_on"}
    return {
        **_row("topology", task.cluster, TopologyConfig, set()),
        **_row("workload", task.run, WorkloadConfig, left_out),
        **_row("model", model, ModelConfig, set()),
    }


def _row(kind: str, document: Document, model: type[BaseModel], left_out: set[str]) -> Tree:
    """Return a document as a row, with its kind before each path; nothing where it is not valid."""
    try:
        config = validate(document, model)
    except InputError:
        return {}
    tree = config.model_dump(mode="json", exclude=left_out)
    return flat({kind: tree})

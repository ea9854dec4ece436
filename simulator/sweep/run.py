"""Points -> finished points in a folder, through any pool; what is there is not repeated."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
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

LEFT_OUT = ("schema_version", "topology", "workload", "assumed")
"""Parts of a report that are no figures of the point, or that its inputs have already."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A point with its results."""

    point: Point
    """The point."""
    tree: dict[str, Any]
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
    outcomes = POOLS[pool](run_point, _jobs(points, twins, penalties), where)
    try:
        for outcome in outcomes:
            name = outcome.job.key
            tree = outcome.value or _failed(outcome)
            if not outcome.error:
                folder.put(name, tree)
            folder.time(twins[name][0].number, name, outcome.seconds, outcome.tries)
            for point in twins[name]:
                yield Finished(point, tree)
    finally:
        outcomes.close()


def _by_name(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Return the points that are simulated together, because all their inputs are equal."""
    twins: dict[str, list[Point]] = {}
    for point in points:
        twins.setdefault(point.name, []).append(point)
    return twins


def _jobs(
    points: Sequence[Point], twins: Mapping[str, Sequence[Point]], penalties: bool
) -> list[Job]:
    """Return a job for each name, in the order of groups: a worker reuses what it just computed."""
    first: dict[str, int] = {}  # group -> its first point
    for point in points:
        first.setdefault(point.group, point.number)
    ordered = sorted(
        (same[0] for same in twins.values()), key=lambda point: (first[point.group], point.number)
    )
    return [Job(point.name, _task(point, penalties), point.group) for point in ordered]


def _task(point: Point, penalties: bool) -> Task:
    return Task(point.cluster, point.run, point.refusal, penalties, program())


def _failed(outcome: Outcome) -> dict[str, Any]:
    return {"status": "failed", "error": outcome.error, "inputs": {}, "outputs": {}}


def run_point(task: Task) -> dict[str, Any]:
    """Simulate one point and return what its file holds. Errors: EngineError."""
    from simulator.whatif import study

    if task.program != program():
        raise EngineError("this worker has another version of simulate than the sweep")
    tree: dict[str, Any] = {"status": "ok", "error": "", "inputs": _valid(task), "outputs": {}}
    try:
        if task.refusal:
            return {**tree, "status": "illegal", "error": task.refusal}
        scenario = build(task.cluster, task.run)
        result = study(scenario, penalties=task.penalties)
    except InputError as error:
        return {**tree, "status": "illegal", "error": reason(error)}
    figures = {key: value for key, value in result.as_dict().items() if key not in LEFT_OUT}
    figures["engine"].pop("wall_s")
    if not task.penalties:  # None would say that there are none
        figures.pop("imbalance")
        figures.pop("stragglers")
        figures["memory"].pop("remedies")
    return {**tree, "outputs": flat(figures)}


def _valid(task: Task) -> dict[str, Any]:
    """Return the inputs in SI units, defaults included, of each file that is valid by itself."""
    model = Document("", task.run.data.get("model") or {}, {})
    left_out = {"model", "reference", "assumed", "published_on"}
    return {
        **_row("topology", task.cluster, TopologyConfig, set()),
        **_row("workload", task.run, WorkloadConfig, left_out),
        **_row("model", model, ModelConfig, set()),
    }


def _row(
    kind: str, document: Document, model: type[BaseModel], left_out: set[str]
) -> dict[str, Any]:
    """Return a document as a row, with its kind before each path; nothing where it is not valid."""
    try:
        config = validate(document, model)
    except InputError:
        return {}
    return flat({kind: config.model_dump(mode="json", exclude=left_out)})

"""Points -> finished points in a folder, through any pool; whatever is there already is not repeated."""

from __future__ import annotations

from collections.abc import Generator, Sequence
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
"""Parts of a report that are no figures of the point, or stand among its inputs."""


@dataclass(frozen=True, slots=True)
class Finished:
    """One more point is finished. tree: as its file holds it. kept: it had been, before this run."""

    point: Point
    tree: dict[str, Any]
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker needs of a point. program: the code that must run it."""

    cluster: Document
    run: Document
    refusal: str
    penalties: bool
    program: str


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
    same: dict[str, list[Point]] = {}
    for point in points:
        tree = folder.get(point.name)
        if tree is None:
            same.setdefault(point.name, []).append(point)
        else:
            yield Finished(point, tree, kept=True)
    # In the order of groups, so that a worker finds what it computed for the point before.
    places: dict[str, int] = {}
    for point in points:
        places.setdefault(point.group, point.number)
    first = sorted(
        (twins[0] for twins in same.values()), key=lambda point: (places[point.group], point.number)
    )
    jobs = [
        Job(
            point.name,
            Task(point.cluster, point.run, point.refusal, penalties, program()),
            point.group,
        )
        for point in first
    ]
    outcomes = POOLS[pool](run_point, jobs, where)
    try:
        for outcome in outcomes:
            twins = same[outcome.job.key]
            tree = outcome.value or _failed(outcome)
            if not outcome.error:
                folder.put(outcome.job.key, tree)
            folder.time(twins[0].number, outcome.job.key, outcome.seconds, outcome.tries)
            for point in twins:
                yield Finished(point, tree)
    finally:
        outcomes.close()


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
    if not task.penalties:  # not asked for is not none
        figures.pop("imbalance")
        figures.pop("stragglers")
        figures["memory"].pop("remedies")
    return {**tree, "outputs": flat(figures)}


def _valid(task: Task) -> dict[str, Any]:
    """Return the inputs in SI units, defaults included, of each file that is valid by itself."""
    found: dict[str, Any] = {}
    homes: list[tuple[str, Document, type[BaseModel], set[str]]] = [
        ("topology", task.cluster, TopologyConfig, set()),
        ("workload", task.run, WorkloadConfig, {"model", "reference", "assumed", "published_on"}),
        ("model", Document("", task.run.data.get("model") or {}, {}), ModelConfig, set()),
    ]
    for kind, document, model, left_out in homes:
        try:
            found |= flat(
                {kind: validate(document, model).model_dump(mode="json", exclude=left_out)}
            )
        except InputError:
            continue
    return found

"""The pipeline schedule of a scenario, before the times of its chunks are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from simulator import inputs, schedules
from simulator.errors import InputError, leave_out
from simulator.inputs import Document
from simulator.layout import Layout
from simulator.scenario.config import ScheduleConfig
from simulator.schedules import SCHEDULES, Schedule, Shape, Times

_READ_BY = {"file": ("custom",), "group": ("interleaved",), "limit": ("zb-1p", "zb-2p")}
"""Key of the schedule -> the schedules that read it."""


@dataclass(frozen=True)
class Pipeline:
    """A schedule and the sizes that it is built for."""

    name: str
    """Row of `schedules.SCHEDULES`."""
    shape: Shape
    """Ranks, micro-batches and options."""
    stages: int
    """Stages of the model."""
    overlaps: bool
    """Whether forward and backward passes run as overlapped pairs."""
    fixed: Schedule | None
    """The schedule; None where the order of its actions follows from the times of chunks."""

    def schedule(self, times: Times) -> Schedule:
        """Return the schedule for chunks of these times. Errors: ScheduleError."""
        if self.fixed:
            return self.fixed
        built = SCHEDULES[self.name].build(replace(self.shape, times=times))
        schedules.check(built)
        return built


def pipeline(config: ScheduleConfig, ranks: Layout, micro_batches: int, run: Document) -> Pipeline:
    """Return the pipeline that a workload asks for. Errors: InputError."""
    _check_keys(config)
    text = _text(config, run)
    try:
        shape = schedules.shape_of(
            config.name,
            ranks.pp,
            micro_batches,
            virtual=ranks.vpp,
            group=config.group,
            limit=config.limit,
            text=text,
        )
        family = SCHEDULES[config.name]
        if family.timed:
            return Pipeline(config.name, shape, family.stages(ranks.pp, ranks.vpp), False, None)
        built = family.build(shape)
        schedules.check(built)
    except InputError as error:
        if error.key:
            error.key = f"schedule.{error.key}"
        of_virtual_stages = ranks.vpp > 1 and error.value == ranks.vpp
        raise error.at(key="layout.vpp" if of_virtual_stages else "schedule.name") from error
    _check_sizes(config, built, ranks, micro_batches)
    return Pipeline(config.name, shape, built.stages, built.overlaps, built)


def _check_keys(config: ScheduleConfig) -> None:
    """Refuse keys that the schedule does not read."""
    if config.name == "custom" and not config.file:
        raise InputError(
            "needs a grid", key="schedule.name", value="custom", remedy="Add schedule.file."
        )
    for key, names in _READ_BY.items():
        value = getattr(config, key)
        if value and config.name not in names:
            raise InputError(
                f"is not read by schedule {config.name}",
                key=f"schedule.{key}",
                value=value,
                remedy=f"{leave_out(f'schedule.{key}')} It belongs to {' and '.join(names)}.",
            )


def _text(config: ScheduleConfig, run: Document) -> str:
    """Return the grid of a custom schedule; nothing for the others."""
    if not config.file:
        return ""
    path = Path(run.file).parent / config.file
    if not path.is_file():
        raise InputError(
            "does not exist",
            key="schedule.file",
            value=config.file,
            remedy="Give its path, relative to the workload's file.",
        )
    return inputs.text(path)


def _check_sizes(
    config: ScheduleConfig, built: Schedule, ranks: Layout, micro_batches: int
) -> None:
    """Refuse a grid that is not that of the layout and the batch."""
    if len(built.ranks) == ranks.pp and built.micro_batches == micro_batches:
        return
    raise InputError(
        f"has {len(built.ranks)} ranks and {built.micro_batches} micro-batches where layout.pp is "
        f"{ranks.pp} and the batch makes {micro_batches}",
        key="schedule.file" if config.file else "schedule.name",
        value=config.file or config.name,
        remedy="Change layout.pp or training.global_batch_size, or the grid.",
    )

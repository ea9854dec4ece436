"""The pipeline schedule of a scenario, before the times of its chunks are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from simulator import inputs, schedules
from simulator.errors import InputError, leave_out
from simulator.inputs import Document
from simulator.layout import Layout
from simulator.scenario.config import ScheduleConfig
from simulator.schedules import SCHEDULES, PipelineOverlap, Schedule, Shape, Times

_READ_BY = {
    "file": ("custom",),
    "group": ("interleaved",),
    "limit": ("zb-1p", "zb-2p"),
}
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
    sends: PipelineOverlap = PipelineOverlap.ALL
    """Which sends and receives between its ranks travel next to compute."""

    def schedule(self, times: Times, kept: float = 1.0) -> Schedule:
        """Return the schedule for chunks of these times. Errors: ScheduleError.

        kept: share of a chunk's activations that is held from its input to its weight gradient.
        """
        if self.fixed:
            return self.fixed
        # Zero-bubble schedules place weight gradients by how long chunks take.
        shape = replace(self.shape, times=times, kept=kept)
        return schedules.checked(self.name, shape)


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
            overlap_moe_expert_parallel_comm=config.overlap_moe_expert_parallel_comm,
            limit=config.limit,
            text=text,
        )
        family = SCHEDULES[config.name]
        if family.timed:
            # Chunks have no times before layers are priced: the schedule is built after that.
            return Pipeline(
                name=config.name,
                shape=shape,
                stages=family.stages(ranks.pp, ranks.vpp),
                overlaps=False,
                fixed=None,
            )
        # Built and checked here, so that a wrong grid is refused before anything is priced.
        built = schedules.checked(config.name, shape)
    except InputError as error:
        raise _at_its_key(error, ranks) from error
    _check_sizes(config, built, ranks, micro_batches)
    return Pipeline(
        name=config.name,
        shape=shape,
        stages=built.stages,
        overlaps=built.overlaps,
        fixed=built,
    )


def _at_its_key(error: InputError, ranks: Layout) -> InputError:
    """Return a schedule's complaint as one about the workload's key that it follows from."""
    if error.key:
        error.key = f"schedule.{error.key}"
    if ranks.vpp == 1 or error.value != ranks.vpp:
        return error.at(key="schedule.name")
    # `simulate schedule` has an option to leave out; here the value may be a shipped file's.
    removing = "Leave it out (--set layout.vpp=null removes it)"
    error.remedy = error.remedy.replace("Leave it out", removing)
    return error.at(key="layout.vpp")


def _check_keys(config: ScheduleConfig) -> None:
    """Refuse keys that the schedule does not read."""
    if config.name == "custom" and not config.file:
        raise InputError(
            "needs a grid", key="schedule.name", value="custom", remedy="Add schedule.file."
        )
    for key, names in _READ_BY.items():
        value = getattr(config, key)
        if value and config.name not in names:
            path = f"schedule.{key}"
            owners = " and ".join(names)
            raise InputError(
                f"is not read by schedule {config.name}",
                key=path,
                value=value,
                remedy=f"{leave_out(path)} It belongs to {owners}.",
            )


def _text(config: ScheduleConfig, run: Document) -> str:
    """Return the grid of a custom schedule; nothing for the others."""
    if not config.file:
        return ""
    path = Path(run.file).parent / config.file
    fault = inputs.file_fault(path)
    if fault:
        raise InputError(
            fault,
            key="schedule.file",
            value=config.file,
            remedy="Give its path, relative to the workload's file.",
        )
    return inputs.text(path)


def _check_sizes(
    config: ScheduleConfig, built: Schedule, ranks: Layout, micro_batches: int
) -> None:
    """Refuse a grid that is not that of the layout and the batch."""
    # A custom grid brings its own sizes; those of other schedules follow from the layout.
    count = len(built.ranks)
    if count == ranks.pp and built.micro_batches == micro_batches:
        return
    key = "schedule.file" if config.file else "schedule.name"
    raise InputError(
        f"has {count} ranks and {built.micro_batches} micro-batches where layout.pp is "
        f"{ranks.pp} and the batch makes {micro_batches}",
        key=key,
        value=config.file or config.name,
        remedy="Change layout.pp or training.global_batch_size, or the grid.",
    )

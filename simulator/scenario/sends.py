"""Which sends and receives between pipeline stages a run overlaps: its own choice, or its stack's."""

from __future__ import annotations

from dataclasses import replace

from simulator import schedules
from simulator.errors import InputError, leave_out
from simulator.hardware import StackConfig
from simulator.scenario.pipeline import Pipeline
from simulator.schedules import SCHEDULES, PipelineOverlap

_KEY = "communication.pipeline.overlap"


def with_sends(line: Pipeline, chosen: str, stack: StackConfig) -> Pipeline:
    """Return a pipeline with what overlaps between its stages.

    chosen: `communication.pipeline.overlap`. Errors: InputError where the schedule's own code does
    otherwise, or its ranks would wait for each other for ever.
    """
    overlap = _overlap(line, chosen, stack)
    if line.fixed and line.name == "custom":
        try:
            schedules.check_posts(line.fixed, schedules.posts(line.fixed, overlap))
        except InputError as error:
            raise error.at(key=_KEY) from error
    return replace(line, sends=overlap)


def _overlap(line: Pipeline, chosen: str, stack: StackConfig) -> PipelineOverlap:
    own = PipelineOverlap.ALL
    if chosen != "stack":
        own = PipelineOverlap(chosen)
    if SCHEDULES[line.name].split and own is not PipelineOverlap.ALL:
        # The published code of these posts receives ahead and waits for no send (sail-sg
        # zero-bubble-pipeline-parallelism, zb_schedules.py; deepseek-ai DualPipe, dualpipe.py).
        raise InputError(
            f"is not what schedule {line.name} does, whose code overlaps all sends and receives",
            key=_KEY,
            value=chosen,
            remedy=leave_out(_KEY),
        )
    virtual = line.stages > line.shape.ranks
    if virtual and own is PipelineOverlap.SERIAL:
        raise InputError(
            "is for one stage per rank",
            key=_KEY,
            value=chosen,
            remedy="Write none, or leave out virtual stages.",
        )
    follows_stack = chosen == "stack" and not SCHEDULES[line.name].split and line.name != "custom"
    if not follows_stack:
        return own
    return PipelineOverlap(stack.pipeline.virtual if virtual else stack.pipeline.single)

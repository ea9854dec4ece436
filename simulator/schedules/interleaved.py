"""Interleaved 1F1B (arXiv 2104.04473, figure 4 bottom; order as in Megatron-LM, core/pipeline_parallel/schedules.py).

Stage s is on rank s % P, V stages on each rank. Micro-batches run in groups: a group through
the rank's first stage, then through its second, and so on. Megatron's group holds P micro-batches;
Llama 3 lets it hold any number from P to M (arXiv 2407.21783, section 3.3.2): larger groups leave
sends more time and hold more activations.
"""

from __future__ import annotations

from simulator.errors import ScheduleError
from simulator.schedules.action import Action, Chunk, singles
from simulator.schedules.one_f_one_b import one_by_one, paired
from simulator.schedules.schedule import Schedule
from simulator.schedules.shape import Shape


def build(shape: Shape) -> Schedule:
    """Return the interleaved schedule of `shape.virtual` stages per rank.

    Errors: ScheduleError for a group of fewer micro-batches than ranks, or micro-batches that leave
    such a group over.
    """
    group = min(shape.group or shape.ranks, shape.micro_batches)
    if shape.virtual > 1:
        _check_groups(shape, group)
    stages = shape.ranks * shape.virtual
    ranks = []
    for rank in range(shape.ranks):
        ranks.append(_order(shape, group, rank))
    return Schedule("interleaved", stages, shape.micro_batches, tuple(ranks))


def _check_groups(shape: Shape, group: int) -> None:
    """Refuse groups that would leave a rank waiting for its own first stage, as Megatron-LM does."""
    if group < shape.ranks:
        few = shape.micro_batches < shape.ranks
        what = "micro-batches" if few else "micro-batches in a group"
        raise ScheduleError(
            f"{what} are fewer than {shape.ranks} ranks: interleaved runs a group through all "
            "ranks before their second stages",
            value=group,
            remedy=f"Use at least {shape.ranks}.",
        )
    rest = shape.micro_batches % group
    # A group of one's own choice may leave a last one that still fills all ranks.
    if rest and (not shape.group or rest < shape.ranks):
        down = shape.micro_batches - rest
        up = down + group
        raise ScheduleError(
            f"micro-batches do not divide into groups of {group}: interleaved runs whole groups on "
            f"{shape.ranks} ranks, and {rest} would be left over",
            value=shape.micro_batches,
            remedy=f"The nearest that do: {down} and {up}.",
        )


def _order(shape: Shape, group: int, rank: int) -> tuple[Action, ...]:
    """Return one rank's order."""
    warm_up = shape.ranks - 1 - rank
    if shape.virtual > 1:
        # Twice the way to the last rank, as a backward comes back over it, and all stages but the
        # last of one group.
        lap = (shape.virtual - 1) * group
        warm_up = 2 * warm_up + lap
    # A gradient enters at the last stage, so backwards take the rank's stages in reverse.
    stages = range(rank, shape.ranks * shape.virtual, shape.ranks)
    forward_chunks = _chunks(shape.micro_batches, group, stages)
    backward_chunks = _chunks(shape.micro_batches, group, stages[::-1])
    forwards = singles("F", forward_chunks)
    backwards = singles("B", backward_chunks)
    if shape.overlap_moe_expert_parallel_comm:
        return tuple(paired(forwards, backwards, warm_up + 1))
    return tuple(one_by_one(forwards, backwards, warm_up))


def _chunks(micro_batches: int, group: int, stages: range) -> list[Chunk]:
    """Return one rank's forwards or backwards in their order. stages: the rank's, in theirs."""
    chunks = []
    for start in range(0, micro_batches, group):
        end = min(start + group, micro_batches)
        members = range(start, end)
        for stage in stages:
            chunks += [(micro_batch, stage) for micro_batch in members]
    return chunks

"""What pairs of a forward and a backward pass need outside of DualPipe: experts elsewhere, and a stack that can."""

from __future__ import annotations

from simulator.errors import InputError, leave_out
from simulator.hardware import StackConfig
from simulator.layout import Layout
from simulator.scenario.config import WorkloadConfig

_PAIRS = "schedule.overlap_moe_expert_parallel_comm"
_DELAY = "schedule.delay_wgrad_compute"


def check_pairs(workload: WorkloadConfig, ranks: Layout, stack: StackConfig) -> None:
    """Refuse pairs that would do nothing, or that no stack runs. Errors: InputError."""
    config = workload.schedule
    if config.delay_wgrad_compute and not config.overlap_moe_expert_parallel_comm:
        raise InputError(
            "does nothing without overlap_moe_expert_parallel_comm",
            key=_DELAY,
            value=True,
            remedy=leave_out(_DELAY),
        )
    if not config.overlap_moe_expert_parallel_comm:
        return
    for rule, faulty, remedy in (
        (
            f"is nothing that the stack '{stack.name}' does",
            not stack.pipeline.pairs,
            "stack=megatron",
        ),
        ("has no exchange to overlap with ep 1", ranks.ep == 1, "layout.ep=2 or more"),
        (
            "does not go with full recompute, as in Megatron",
            "full" in workload.training.recompute,
            "training.recompute without full",
        ),
    ):
        if faulty:
            removing = leave_out(_PAIRS).rstrip(".")
            raise InputError(rule, key=_PAIRS, value=True, remedy=f"{removing}, or write {remedy}.")

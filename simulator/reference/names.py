"""The names that a key may hold, from the tables that define them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from simulator import inputs
from simulator.collectives import ALGORITHMS, DISPATCHERS, OF_STACK, Traffic
from simulator.collectives.named import NCCL, NEEDS
from simulator.hardware import KernelConfig
from simulator.model import FAMILIES
from simulator.precision import RECIPES, RECOMPUTE
from simulator.scenario import QUANTITIES
from simulator.schedules import SCHEDULES
from simulator.topology import FABRICS
from simulator.topology.cluster import ROUTINGS


def gpus() -> list[str]:
    """Return the names of the GPUs that have a datasheet."""
    return inputs.data_names("gpus")


def attention() -> list[str]:
    """Return the implementations of attention that were measured on any GPU, and those of every GPU."""
    tables = [
        inputs.validate(inputs.data("kernels", name), KernelConfig)
        for name in inputs.data_names("kernels")
    ]
    measured = sorted({name for table in tables for name in table.attention})
    return ["flash", "unfused", *measured]


def algorithms(traffic: Traffic) -> list[str]:
    """Return the collective algorithms that the groups of a kind may run, and what stands for NCCL's choice."""
    needed = set(NEEDS[traffic])
    able = [name for name, row in ALGORITHMS.items() if needed <= set(row.ops)]
    return [*able, NCCL]


CHOICES: Mapping[str, Callable[[], Iterable[str]]] = {
    "TopologyConfig.gpu": gpus,
    "Fabric.kind": lambda: FABRICS,
    "Fabric.routing": lambda: ("", *ROUTINGS),
    "ScheduleConfig.name": lambda: SCHEDULES,
    "TrainingConfig.attention": attention,
    "TrainingConfig.recompute": lambda: RECOMPUTE,
    "PrecisionConfig.recipe": lambda: RECIPES,
    "GroupConfig.algorithm": lambda: algorithms(Traffic.DATA),
    "ExpertGroupConfig.algorithm": lambda: algorithms(Traffic.EXPERT),
    "ExpertsConfig.dispatcher": lambda: (OF_STACK, *DISPATCHERS),
    "Reference.quantity": lambda: QUANTITIES,
    "WorkloadConfig.stack": lambda: inputs.data_names("stacks"),
    "ModelConfig.model_type": lambda: FAMILIES,
}
"""Configuration and field -> the names that the field, or each item of its list, may hold."""

"""What a GPU keeps in the memory of its host, and what crosses the link to it in a step."""

from __future__ import annotations

from typing import NamedTuple

from simulator.costs import Costs, buckets
from simulator.scenario import Scenario
from simulator.schedules import Action


class HostUse(NamedTuple):
    """Of one GPU and one step."""

    kept: float
    """Activations that wait at once, at most, and optimizer states [B]."""
    out: float
    """Copied from the GPU to the host: activations, and gradients for the update [B]."""
    back: float
    """Copied from the host to the GPU: activations, and updated parameters [B]."""


NO_HOST = HostUse(0.0, 0.0, 0.0)
"""Where nothing is offloaded."""


def host_use(
    scenario: Scenario,
    costs: Costs,
    order: tuple[Action, ...],
    hosts: dict[int, tuple[int, ...]],
    stages: tuple[int, ...],
) -> HostUse:
    """Return what a rank keeps on its host; zeros where nothing is offloaded.

    order: its actions. hosts: stage -> pipeline indices that hold it. stages: its own.
    """
    recipe = scenario.recipe
    now = most = copied = 0.0
    for action in order:
        for kind, _, stage in action.halves():
            away = sum(block.away for block in costs.memories(stage))
            if kind == "F":
                now += away
                copied += away
                most = max(most, now)
            elif kind != "W":  # a split backward pass reads it for its input gradient
                now -= away
    updated = sum(buckets.updated(costs, scenario.layout, hosts, stages))
    states = scenario.workload.training.offload.optimizer * updated
    return HostUse(
        kept=most + states * (recipe.master + recipe.moments),
        out=copied + states * recipe.gradient,
        back=copied + states * recipe.parameter,
    )


def offloads(scenario: Scenario) -> bool:
    """Tell whether anything is offloaded."""
    offload = scenario.workload.training.offload
    return bool(offload.activations or offload.optimizer)

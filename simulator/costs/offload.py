"""Activations that wait in the memory of the host, and optimizer states that live there.

What a layer keeps is copied out by a copy engine while the next layer's forward pass runs, and
copied back while the backward pass of the layer behind it does; both directions have a link of
their own. A layer that computes for less time than its copy takes leaves the rest of the copy to
wait for (Transformer Engine, cpu_offload; Megatron-LM, fine-grained activation offloading).
"""

from __future__ import annotations

from dataclasses import replace

from simulator.costs.blocks import BlockCost, Parts, PhaseCost
from simulator.costs.segments import Segment
from simulator.ops import Pass, Phase
from simulator.scenario import Scenario

PART = "offload"
"""Class of the waiting, as the breakdown names it."""
HOST_ADAM = 30.0
"""Bytes that AdamW moves per parameter on a host, in FP32: gradient, weight and both moments read,
the last three written, and the weight once more in BF16 [B]."""


def link(scenario: Scenario) -> float:
    """Return what copies between a GPU and its host reach, in one direction [B/s]."""
    return scenario.gpu.host_link * scenario.kernels.host_copy


def offloaded(scenario: Scenario, parts: Parts) -> Parts:
    """Return the parts of a block with a share of what they keep on the host."""
    share = scenario.workload.training.offload.activations
    if not share:
        return parts
    rate = link(scenario)
    return tuple(_part(part, share, rate) for part in parts)


def _part(part: BlockCost, share: float, rate: float) -> BlockCost:
    away = share * part.saved
    memory = part.memory._replace(saved=part.saved - away, away=away)
    phases = dict(part.phases)
    for passes, last in ((Pass.FORWARD, _behind(part)), (Pass.INPUT, Phase.ATTENTION_T)):
        phases[last] = _waiting(phases[last], away / rate - _seconds(part, passes))
    mean = _part(part.mean, share, rate) if part.mean else None
    return replace(part, memory=memory, phases=phases, mean=mean)


def _behind(part: BlockCost) -> Phase:
    """Return the phase behind which the rest of a copy to the host is waited for.

    Not one that recompute repeats: nothing is copied out a second time.
    """
    ahead = (Phase.MLP_F, Phase.ATTENTION_F)
    once = [phase for phase in ahead if not part.repeats(phase)]
    return once[0] if once else Phase.ATTENTION_T


def _seconds(part: BlockCost, passes: Pass) -> float:
    """Return how long the layer computes in a forward, or in a full backward pass [s].

    A backward pass has what it recomputes besides.
    """
    if passes == Pass.FORWARD:
        return _sum(part, [Pass.FORWARD])
    again = sum(cost.total for phase, cost in part.phases.items() if part.repeats(phase))
    return _sum(part, [Pass.INPUT, Pass.WEIGHT]) + again


def _sum(part: BlockCost, kinds: list[Pass]) -> float:
    """Return the time of the kernels of some passes [s]."""
    return sum(cost.total for phase, cost in part.phases.items() if phase.computes in kinds)


def _waiting(cost: PhaseCost, seconds: float) -> PhaseCost:
    """Return a phase with a wait for a copy behind it. seconds: none where not above 0 [s]."""
    if seconds <= 0:
        return cost
    wait = Segment(seconds={PART: seconds}, flops={}, recomputed=0.0)
    return PhaseCost((*cost.items, wait))


def host_update(scenario: Scenario, parameters: float) -> float:
    """Return how long a host takes to update parameters of one GPU, one step after another [s].

    Gradients are copied to it, it updates all GPUs' of its node at the rate of its memory, which is
    the least that takes, and parameters are copied back; Megatron-LM overlaps none of these by
    default (overlap_cpu_optimizer_d2h_h2d). parameters: of one GPU.
    """
    recipe = scenario.recipe
    copied = parameters * (recipe.gradient + recipe.parameter) / link(scenario)
    node = scenario.topology.node
    return copied + parameters * HOST_ADAM * node.gpus / node.host_memory

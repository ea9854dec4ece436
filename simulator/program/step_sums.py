"""The small all-reduces between the last gradient and the update, which nothing hides.

Megatron-LM: core/distributed/finalize_model_grads.py sums the gradients of norms over the tensor
parallel ranks that hold parts of the sequence, and those of a tied embedding over the first and the
last stage; core/optimizer/clip_grads.py sums the squares of all gradients over all GPUs, once for
each optimizer (dense and routed parameters have one each); training/training.py averages the loss
over data parallel ranks. Others sum the norm alone (torch.nn.utils.clip_grad_norm_).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from simulator.collectives import Kernels, choices, chosen, of_nccl
from simulator.collectives.few_bytes import few_bytes
from simulator.costs import Costs
from simulator.scenario import Scenario


@dataclass(frozen=True)
class StepSums:
    """The all-reduces in front of the update of every rank."""

    scenario: Scenario
    """What is simulated."""
    costs: Costs
    """What its blocks cost."""

    def seconds(self, stages: Sequence[int]) -> float:
        """Return what those of one rank take [s]. stages: which it trains."""
        scenario, wanted = self.scenario, self.scenario.stack.step_sums
        seconds = 0.0
        if "gradient_norm" in wanted:
            routed = scenario.model.n_routed_experts > 0 and "optimizers" in wanted
            seconds += (2 if routed else 1) * self._gradient_norm
        if "loss" in wanted:
            seconds += self._loss
        if "norms" in wanted and scenario.workload.layout.sequence_parallel:
            seconds += _norms(scenario, self.costs, stages)
        if "tied_embedding" in wanted:
            seconds += _tied(scenario, self.costs, stages)
        return seconds

    @cached_property
    def _gradient_norm(self) -> float:
        return _one_number(self.scenario, range(self.scenario.topology.gpus))

    @cached_property
    def _loss(self) -> float:
        return _one_number(self.scenario, self.scenario.layout.ranks(0, "data")[0].tolist())


def _one_number(scenario: Scenario, members: Sequence[int]) -> float:
    return few_bytes(scenario.topology, scenario.network, scenario.kernels, members)


def _norms(scenario: Scenario, costs: Costs, stages: Sequence[int]) -> float:
    """Return the sum of the gradients of a rank's norms: each saw its part of the sequence."""
    if scenario.layout.tp == 1:
        return 0.0
    layers = sum(_layers(costs.stages[stage]) for stage in stages)
    size = 2 * layers * scenario.model.hidden_size * scenario.recipe.gradient
    (group, *_) = scenario.layout.ranks(0, "tp").tolist()
    return _all_reduce(scenario, group, size)


def _layers(kinds: Sequence[str]) -> int:
    """Return how many of a stage's blocks are layers, of two norms each."""
    return sum(kind not in ("embedding", "head") for kind in kinds)


def _tied(scenario: Scenario, costs: Costs, stages: Sequence[int]) -> float:
    """Return the sum of a tied embedding's gradients, where its copy stands on another stage.

    Whole, before ZeRO scatters anything of it.
    """
    last = len(costs.stages) - 1
    apart = scenario.layout.pp > 1 and "embedding" not in costs.stages[last]
    if not (scenario.model.tie_word_embeddings and apart):
        return 0.0
    if not {0, last} & set(stages):
        return 0.0
    parameters = scenario.model.vocab_size * scenario.model.hidden_size / scenario.layout.tp
    ends = [int(scenario.layout.ranks(index, "tp")[0, 0]) for index in (0, scenario.layout.pp - 1)]
    return _all_reduce(scenario, ends, parameters * scenario.recipe.gradient)


def _all_reduce(scenario: Scenario, members: Sequence[int], size: float) -> float:
    """Return the time of an all-reduce alone, as NCCL would run it [s]."""
    table = of_nccl("all_reduce")
    possible = choices(scenario.network, members, Kernels.of(scenario.kernels), "all_reduce", table)
    return chosen(possible, size).seconds(size)

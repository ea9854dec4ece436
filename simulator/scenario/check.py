"""What a cluster, a model and a training run must agree on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from simulator import inputs
from simulator.errors import InputError, LayoutError
from simulator.hardware import GpuConfig, KernelConfig
from simulator.inputs import Document
from simulator.layout import Layout, parse_stages, resolve
from simulator.model import ModelConfig
from simulator.precision import RECIPES
from simulator.scenario.config import TrainingConfig, WorkloadConfig
from simulator.scenario.pipeline import pipeline
from simulator.scenario.value import Scenario
from simulator.topology import Network, TopologyConfig


def cross_check(
    documents: tuple[Document, Document],
    site: TopologyConfig,
    workload: WorkloadConfig,
    architecture: ModelConfig,
    gpu: GpuConfig,
    network: Network,
) -> Scenario:
    """Return the scenario of configurations that are valid each by itself. Errors: InputError."""
    recipe = RECIPES[workload.precision.recipe]
    if workload.precision.gradients == "bf16":
        recipe = replace(recipe, gradient=2)
    if recipe.peak not in gpu.peak:
        raise InputError(
            f"multiplies in {recipe.peak}, which {gpu.name} cannot: it has {', '.join(gpu.peak)}",
            key="precision.recipe",
            value=recipe.name,
            remedy="Write precision.recipe=bf16, or choose another GPU.",
        )
    kernels = inputs.validate(inputs.data("kernels", gpu.kernels), KernelConfig)
    if workload.training.attention not in ("flash", "unfused", *kernels.attention):
        raise InputError(
            f"was not measured on {gpu.name}",
            key="training.attention",
            value=workload.training.attention,
            remedy=f"Write one of flash, unfused, {', '.join(kernels.attention)}.",
        )
    if "mla_up_projection" in workload.training.recompute and not architecture.is_mla:
        raise InputError(
            "is nothing that this model has",
            key="training.recompute",
            value="mla_up_projection",
            remedy="Leave it out: only multi-head latent attention expands compressed vectors.",
        )
    ranks = resolve(workload.layout, site.gpus, architecture)
    _check_nodes(ranks, site)
    copies = architecture.n_routed_experts + workload.experts.redundant_experts
    if copies % ranks.ep:
        raise InputError(
            f"and {architecture.n_routed_experts} experts do not divide over ep {ranks.ep}",
            key="experts.redundant_experts",
            value=workload.experts.redundant_experts,
            remedy=f"Choose a number that makes a multiple of {ranks.ep}.",
        )
    if workload.experts.sms >= gpu.sms:
        raise InputError(
            f"leaves no SM of {gpu.sms} to compute on",
            key="experts.sms",
            value=workload.experts.sms,
            remedy="DeepSeek-V3 keeps 20.",
        )
    _check_sequence(workload, ranks)
    micro_batches = _micro_batches(workload.training, ranks)
    line = pipeline(workload.schedule, ranks, micro_batches, documents[1])
    if not isinstance(workload.layout.stages, str):
        parse_stages(workload.layout.stages, line.stages, architecture)
    return Scenario(
        topology=site,
        workload=workload,
        model=architecture,
        gpu=gpu,
        kernels=kernels,
        layout=ranks,
        recipe=recipe,
        micro_batches=micro_batches,
        pipeline=line,
        network=network,
        documents=documents,
        counts=_counts(documents[1], workload),
    )


def _check_sequence(workload: WorkloadConfig, ranks: Layout) -> None:
    """Refuse sequences that context and sequence parallelism cannot cut evenly, and what cannot run on a part."""
    training = workload.training
    parts = ranks.cp * (ranks.tp if workload.layout.sequence_parallel else 1)
    if training.seq_length % parts:
        raise LayoutError(
            f"does not divide over cp {ranks.cp} x tp {ranks.tp} = {parts} parts",
            key="training.seq_length",
            value=training.seq_length,
            remedy=f"Write a multiple of {parts}.",
        )
    if training.attention == "unfused" and ranks.cp > 1:
        raise LayoutError(
            "needs the whole sequence on a GPU, and cp cuts it",
            key="training.attention",
            value="unfused",
            remedy="Write attention: flash, or cp: 1.",
        )


def _counts(run: Document, workload: WorkloadConfig) -> tuple[tuple[float, ...], ...] | None:
    """Return the recorded loads that a workload names, steps added up; the file is seen from the workload's."""
    if workload.experts.file is None:
        return None
    table = inputs.counts(Path(run.file).parent / workload.experts.file)
    table = table.sum(axis=0) if table.ndim == 3 else table
    return tuple(tuple(row) for row in table.tolist())


def _check_nodes(ranks: Layout, site: TopologyConfig) -> None:
    """Refuse groups that hold part of a node beside whole ones: some of their rails would have no peer."""
    gpus = site.node.gpus
    experts = ranks.etp * ranks.ep
    sizes = (
        ("layout.ep", experts, "expert parallel"),
        ("layout.pp", ranks.per_stage, "pipeline stage"),
    )
    for key, size, what in sizes:
        small, large = sorted((size, gpus))
        if large % small and site.nodes > 1:
            raise LayoutError(
                f"makes {what} groups of {size} ranks, which fill no whole nodes of {gpus} GPUs nor divide one",
                key=key,
                value=ranks.ep if key == "layout.ep" else ranks.pp,
                remedy=f"Choose it so that they hold a multiple or a divisor of {gpus} ranks.",
            )


def _micro_batches(training: TrainingConfig, ranks: Layout) -> int:
    per_round = ranks.dp * training.micro_batch_size
    count, rest = divmod(training.global_batch_size, per_round)
    if rest:
        legal = " and ".join(str(per_round * n) for n in (count, count + 1) if n)
        raise InputError(
            f"does not divide over dp {ranks.dp} x micro_batch_size {training.micro_batch_size} = {per_round}",
            key="training.global_batch_size",
            value=training.global_batch_size,
            remedy=f"The nearest that do: {legal}.",
        )
    return count

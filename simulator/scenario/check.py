"""What a cluster, a model and a training run must agree on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from simulator import inputs
from simulator.errors import InputError, LayoutError, leave_out
from simulator.hardware import GpuConfig, HostConfig, KernelConfig, PowerLaw, StackConfig
from simulator.inputs import Document
from simulator.layout import Layout, parse_stages, resolve
from simulator.model import ModelConfig
from simulator.precision import RECIPES, Recipe
from simulator.scenario.config import TrainingConfig, WorkloadConfig
from simulator.scenario.pairs import check_pairs
from simulator.scenario.pipeline import pipeline
from simulator.scenario.sends import with_sends
from simulator.scenario.value import Documents, ExpertCounts, Scenario
from simulator.topology import Network, TopologyConfig


def cross_check(
    documents: Documents,
    site: TopologyConfig,
    workload: WorkloadConfig,
    architecture: ModelConfig,
    gpu: GpuConfig,
    network: Network,
) -> Scenario:
    """Return the scenario of configurations that are valid each by itself. Errors: InputError."""
    run = documents.workload
    table = inputs.data("kernels", gpu.kernels)
    kernels = inputs.validate(table, KernelConfig).over(site.fabric.carrier)
    stack = _stack(workload)
    # From the plainest to what rests on it, so that the first complaint is the cause: number formats
    # and kernels, then degrees, then what must divide by them, then the schedule.
    recipe = _recipe(workload, gpu, kernels)
    _check_attention(workload, gpu, kernels)
    _check_recompute(workload, architecture)
    ranks = resolve(workload.layout, site.gpus, architecture)
    _check_nodes(ranks, site)
    _check_experts(workload, architecture, ranks, gpu)
    _check_used(workload, architecture, ranks)
    _check_sequence(workload, architecture, ranks)
    _check_loss(workload, ranks)
    micro_batches = _micro_batches(workload.training, ranks)
    check_pairs(workload, ranks, stack)
    line = with_sends(
        pipeline(workload.schedule, ranks, micro_batches, run),
        workload.communication.pipeline.overlap,
        stack,
    )
    if not isinstance(workload.layout.stages, str):
        # A list of stages is only checked here: costs read it again, next to the rules.
        parse_stages(workload.layout.stages, line.stages, architecture)
    return Scenario(
        topology=site,
        workload=workload,
        model=architecture,
        gpu=gpu,
        kernels=kernels,
        stack=stack,
        host=host_pace(stack.host.pace),
        layout=ranks,
        recipe=recipe,
        micro_batches=micro_batches,
        pipeline=line,
        network=network,
        documents=documents,
        counts=_counts(run, workload),
    )


def _stack(workload: WorkloadConfig) -> StackConfig:
    """Return the software stack of a run. Errors: InputError where there is none of its name."""
    try:
        table = inputs.data("stacks", workload.stack)
    except InputError as error:
        raise error.at(key="stack") from error
    stack = inputs.validate(table, StackConfig)
    if workload.layout.tp_comm_overlap and not stack.tensor_overlap.default:
        raise InputError(
            f"is nothing that the stack '{stack.name}' does",
            key="layout.tp_comm_overlap",
            value=True,
            remedy="Write layout.tp_comm_overlap=false, or stack=megatron.",
        )
    return stack


def host_pace(name: str) -> HostConfig:
    """Return what a pace of hosts takes. Errors: InputError where there is none of that name."""
    return inputs.validate(inputs.data("hosts", name), HostConfig)


def _recipe(workload: WorkloadConfig, gpu: GpuConfig, kernels: KernelConfig) -> Recipe:
    """Return the run's number formats. Errors: InputError where the GPU cannot multiply in them."""
    recipe = RECIPES[workload.precision.recipe]
    if not _runs(recipe, gpu, kernels):
        raise InputError(
            f"multiplies in {recipe.peak}, which {gpu.name} cannot",
            key="precision.recipe",
            value=recipe.name,
            remedy=_other_recipes(recipe, gpu, kernels),
        )
    if kernels.fp8_layouts == "any":
        recipe = recipe.in_any_layout()
    precision = workload.precision
    gradient = 2.0 if precision.gradients == "bf16" else recipe.gradient
    master = 2.0 if precision.master == "remainders" else recipe.master
    # Both moments of a parameter together.
    moments = {"recipe": recipe.moments, "fp32": 8.0, "bf16": 4.0}[precision.moments]
    return replace(recipe, gradient=gradient, master=master, moments=moments)


def _other_recipes(recipe: Recipe, gpu: GpuConfig, kernels: KernelConfig) -> str:
    """Return the remedy for a recipe that a GPU cannot run: recipes and GPUs that go together."""
    fitting = [name for name, other in RECIPES.items() if _runs(other, gpu, kernels)]
    choice = ", ".join(fitting)  # every GPU runs BF16: there is one at least
    if len(fitting) > 1:
        choice = f"one of {choice}"
    gpus = inputs.data_names("gpus")
    able = ", ".join(name for name in gpus if recipe.peak in _gpu(name).peak)
    return f"Write {choice}, or choose a GPU that can: {able}."


def _runs(recipe: Recipe, gpu: GpuConfig, kernels: KernelConfig) -> bool:
    """Tell whether a GPU has tensor cores and known GEMMs for a recipe."""
    # The datasheet alone does not do: without measured GEMMs there is no efficiency.
    has_peak = recipe.peak in gpu.peak
    return has_peak and recipe.gemm in kernels.gemm


def _gpu(name: str) -> GpuConfig:
    return inputs.validate(inputs.data("gpus", name), GpuConfig)


def check_power(site: TopologyConfig, gpu: GpuConfig) -> None:
    """Refuse a power limit that nothing meets, or at which no SM runs. Errors: InputError."""
    limit = site.node.power_limit
    if limit is None:
        return
    law = inputs.validate(inputs.data("power", "limit"), PowerLaw)
    known = _gpu(gpu.relative) if gpu.relative else gpu
    least = law.drawn(known) * gpu.sms
    # At this limit the clock is what the peak takes: GPUs of slower tensor cores never meet theirs.
    most = min(gpu.power, law.watts(gpu.peak_of_sm / known.peak_of_sm, known) * gpu.sms)
    rule = ""
    if limit > gpu.power:
        rule = f"exceeds the limit that {gpu.name} comes with"
    elif limit <= least:
        rule = f"leaves no power for the clock of {gpu.name}'s SMs"
    elif most < limit < gpu.power:
        rule = f"is not known to slow {gpu.name}, whose tensor cores need less"
    if rule:
        raise InputError(
            rule,
            key="node.power_limit",
            value=f"{limit:g} W",
            remedy=f"Write more than {least:.0f} W and at most {most:.0f} W.",
        )


def _check_attention(workload: WorkloadConfig, gpu: GpuConfig, kernels: KernelConfig) -> None:
    known = ("flash", "unfused", *kernels.attention)
    if workload.training.attention not in known:
        raise InputError(
            f"was not measured on {gpu.name}",
            key="training.attention",
            value=workload.training.attention,
            remedy=f"Choose from: {', '.join(known)}.",
        )


def _check_recompute(workload: WorkloadConfig, architecture: ModelConfig) -> None:
    """Refuse to recompute what the model does not have."""
    training = workload.training
    has_experts = "moe" in architecture.blocks
    present = {
        "mla_up_projection": architecture.is_mla,
        "moe_act": has_experts,
        "moe": has_experts,
        "shared_experts": has_experts and architecture.shared_expert_width > 0,
        "mlp": "dense" in architecture.blocks,
    }
    for name in training.recompute:
        if not present.get(name, True):
            raise InputError(
                "is not part of this model",
                key="training.recompute",
                value=name,
                remedy=f"Leave it out: {_NEEDS[name]}.",
            )
    if training.recompute_method == "block" and not training.recompute_layers:
        raise InputError(
            "does nothing without a number of layers",
            key="training.recompute_method",
            value="block",
            remedy=f"{leave_out('training.recompute_method')} Or write recompute_layers.",
        )
    if training.recompute_layers and "full" not in training.recompute:
        raise InputError(
            "counts layers that are recomputed as a whole, and none is",
            key="training.recompute_layers",
            value=training.recompute_layers,
            remedy=f"{leave_out('training.recompute_layers')} Or write recompute: [full].",
        )


_NEEDS = {
    "mla_up_projection": "only multi-head latent attention expands compressed vectors",
    "moe_act": "only layers with routed experts have it",
    "moe": "only layers with routed experts have it",
    "shared_experts": "only layers with shared experts have it",
    "mlp": "only layers without routed experts have it",
}
"""What can be recomputed -> which models have it."""


def _check_experts(
    workload: WorkloadConfig, architecture: ModelConfig, ranks: Layout, gpu: GpuConfig
) -> None:
    """Refuse replicas that do not fill the expert ranks evenly, and kernels that take all SMs."""
    experts = workload.experts
    if (architecture.n_routed_experts + experts.redundant_experts) % ranks.ep:
        raise InputError(
            f"and {architecture.n_routed_experts} experts do not divide over ep {ranks.ep}",
            key="experts.redundant_experts",
            value=experts.redundant_experts,
            remedy=f"Choose a number that makes a multiple of {ranks.ep}.",
        )
    if experts.sms is not None and experts.sms >= gpu.sms:
        raise InputError(
            f"leaves none of the {gpu.sms} SMs to compute on",
            key="experts.sms",
            value=experts.sms,
            remedy="DeepSeek-V3 keeps 20.",
        )


def _check_used(workload: WorkloadConfig, architecture: ModelConfig, ranks: Layout) -> None:
    """Refuse keys that would do nothing in the model. Errors: InputError."""
    # Degrees that leave a key nothing to do are not refused but said: `moot`.
    without = workload.layout.tp_comm_overlap and not workload.layout.sequence_parallel
    if without and ranks.tp > 1:
        # Megatron-LM asserts as much: what is summed whole has no parts to pass on.
        raise _unused("layout.tp_comm_overlap", True, "without layout.sequence_parallel")
    # Of a model with experts they stay with ep 1 too: it is where a comparison of degrees begins.
    if architecture.n_routed_experts:
        return
    experts = workload.experts
    for key in ("dispatcher", "sms"):
        value = getattr(experts, key)
        if value != type(experts).model_fields[key].default:
            raise _unused(f"experts.{key}", value, f"in {architecture.name}, which has no experts")


def _unused(key: str, value: object, where: str) -> InputError:
    """Return what to say of a key that would do nothing."""
    return InputError(f"does nothing {where}", key=key, value=value, remedy=leave_out(key))


def _check_sequence(workload: WorkloadConfig, architecture: ModelConfig, ranks: Layout) -> None:
    """Refuse sequences that cannot be cut evenly, and attention that cannot run on a part."""
    training = workload.training
    # Sequence parallelism cuts each context parallel part once more, between tensor parallel ranks.
    parts = ranks.cp
    if workload.layout.sequence_parallel:
        parts *= ranks.tp
    if training.seq_length % parts:
        raise LayoutError(
            f"does not divide over cp {ranks.cp} x tp {ranks.tp} = {parts} parts",
            key="training.seq_length",
            value=training.seq_length,
            remedy=f"Write a multiple of {parts}.",
        )
    _check_heads(workload, architecture, ranks)
    if training.attention == "unfused" and ranks.cp > 1:
        raise LayoutError(
            "needs the whole sequence on a GPU, and cp cuts it",
            key="training.attention",
            value="unfused",
            remedy="Write attention: flash, or cp: 1.",
        )


def _check_heads(workload: WorkloadConfig, architecture: ModelConfig, ranks: Layout) -> None:
    """Refuse heads that context parallel ranks cannot share evenly, where they share heads."""
    if workload.layout.cp_comm != "a2a":
        return
    # MLA expands a key and a value for each query head.
    fewest = architecture.num_attention_heads
    if not architecture.is_mla:
        fewest = min(fewest, architecture.kv_heads)
    heads = max(1, fewest // ranks.tp)
    if heads % ranks.cp:
        raise LayoutError(
            f"spreads heads over cp {ranks.cp}, and a tensor parallel rank has {heads} of keys and "
            "values",
            key="layout.cp_comm",
            value="a2a",
            remedy="Write p2p or all_gather, or a cp that divides the heads.",
        )


def _check_loss(workload: WorkloadConfig, ranks: Layout) -> None:
    """Refuse a loss by parts of the sequence where the head is cut by the vocabulary."""
    if workload.training.loss == "chunked" and ranks.tp > 1:
        raise InputError(
            f"needs the whole head on a GPU, and tp {ranks.tp} cuts it",
            key="training.loss",
            value="chunked",
            remedy="Write loss: fused, or tp: 1.",
        )


def _counts(run: Document, workload: WorkloadConfig) -> ExpertCounts | None:
    """Return the recorded loads that a workload names, summed over steps [layer, expert]."""
    if workload.experts.file is None:
        return None
    path = Path(run.file).parent / workload.experts.file
    fault = inputs.file_fault(path)
    if fault:
        raise InputError(
            fault,
            key="experts.file",
            value=workload.experts.file,
            remedy="Give the path of a .npz or .csv file, relative to the workload's file.",
        )
    table = inputs.counts(path)  # [layer, expert] or [step, layer, expert]
    # One step is simulated: it gets the loads of all recorded ones together.
    if table.ndim == 3:
        table = table.sum(axis=0)
    rows = table.tolist()
    return tuple(tuple(row) for row in rows)


def _check_nodes(ranks: Layout, site: TopologyConfig) -> None:
    """Refuse groups that do not nest with nodes: some of their rails would have no peer."""
    if site.nodes == 1:
        return
    groups = (
        _Group("layout.ep", ranks.ep, "expert parallel", ranks.etp * ranks.ep),
        _Group("layout.pp", ranks.pp, "pipeline stage", ranks.per_stage),
    )
    for group in groups:
        _check_group(group, site.node.gpus)


class _Group(NamedTuple):
    """Ranks that must nest with nodes."""

    key: str
    """Key of the degree that makes the group."""
    degree: int
    """Its value."""
    what: str
    """Which groups these are, in messages."""
    size: int
    """Ranks of one group, which are consecutive."""


def _check_group(group: _Group, gpus: int) -> None:
    """Refuse groups that do not nest with nodes of so many GPUs. Errors: LayoutError."""
    small, large = sorted((group.size, gpus))
    if large % small:
        raise LayoutError(
            f"makes {group.what} groups of {group.size} ranks, which neither fill whole nodes of "
            f"{gpus} GPUs nor divide one",
            key=group.key,
            value=group.degree,
            remedy=f"Choose it so that they hold a multiple or a divisor of {gpus} ranks.",
        )


def _micro_batches(training: TrainingConfig, ranks: Layout) -> int:
    """Return the micro-batches of one replica and step. Errors: InputError."""
    per_round = ranks.dp * training.micro_batch_size
    count, rest = divmod(training.global_batch_size, per_round)
    if rest:
        # The next smaller and larger batch; a batch below one round has no smaller one.
        rounds = [number for number in (count, count + 1) if number]
        legal = " and ".join(str(per_round * number) for number in rounds)
        size = training.micro_batch_size
        raise InputError(
            f"does not divide over dp {ranks.dp} x micro_batch_size {size} = {per_round}",
            key="training.global_batch_size",
            value=training.global_batch_size,
            remedy=f"The nearest that do: {legal}.",
        )
    return count

"""Topology + workload, cross-checked: the one value that says what is simulated."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from simulator import inputs, schedules
from simulator.errors import InputError, LayoutError
from simulator.experts import ExpertsConfig
from simulator.hardware import GpuConfig, KernelConfig
from simulator.inputs import Document
from simulator.layout import Layout, LayoutConfig, parse_stages, resolve
from simulator.model import NOT_YET, UNREAD, ModelConfig
from simulator.precision import RECIPES, RECOMPUTE, Recipe
from simulator.schedules import Schedule
from simulator.topology import TopologyConfig, network

QUANTITIES = (
    "step_time_s", "tokens_per_second", "tokens_per_day", "tflops_per_gpu", "gpu_hours",
    "gpu_hours_per_trillion_tokens",
    "wall_days", "cost_usd", "parameters", "active_parameters", "flops_per_token",
)
"""What published figures can be compared with."""
LIST_KEYS = ("layout.stages", "training.recompute", "assumed", "reference", "faults", "fabric.dims",
             "fabric.oversubscription")
"""Keys whose value is a list; a list for any other key is several values to compare."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScheduleConfig(_Section):
    """The pipeline schedule."""

    name: str = Field(description="a row of simulator.schedules.SCHEDULES")


class TrainingConfig(_Section):
    """What one step and the whole run train on."""

    global_batch_size: int = Field(gt=0, description="sequences per step")
    micro_batch_size: int = Field(1, gt=0, description="sequences per micro-batch")
    seq_length: int = Field(gt=0, description="tokens per sequence")
    tokens: float = Field(gt=0, description="tokens of the whole run")
    recompute: tuple[str, ...] = Field((), description=f"what the backward pass computes again: {', '.join(RECOMPUTE)}")

    @field_validator("recompute", mode="before")
    @classmethod
    def _a_list(cls, names: object) -> object:
        if isinstance(names, str):
            raise InputError("is no list", value=names, remedy=f"Write [{names}].")
        return names

    @field_validator("recompute")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in RECOMPUTE:
                raise InputError("cannot be recomputed by name", value=name, remedy=f"Known: {', '.join(RECOMPUTE)}.")
        return names


class PrecisionConfig(_Section):
    """The number formats of the run."""

    recipe: str = Field("bf16", description=f"one of {', '.join(RECIPES)}")

    @field_validator("recipe")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in RECIPES:
            raise InputError("is not a recipe", value=name, remedy=f"Use one of {', '.join(RECIPES)}.")
        return name


class Reference(_Section):
    """A published figure that the simulated one stands beside."""

    quantity: str = Field(description="one of QUANTITIES")
    value: float = Field(gt=0, description="as published, in the quantity's unit")
    source: str = Field(description="where it was published")

    @field_validator("quantity")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in QUANTITIES:
            raise InputError("is not reported", value=name, remedy=f"Known: {', '.join(QUANTITIES)}.")
        return name


class Assumption(_Section):
    """A value that was not published, and the alternatives over which the report gives the span."""

    key: str = Field(description="path of the assumed key in this file")
    rule: str = Field(description="how the value was chosen, without looking at the result")
    alternatives: tuple[Any, ...] = Field((), description="values that the report runs beside it")


class WorkloadConfig(_Section):
    """A training run: what is wanted."""

    name: str = Field(description="for reports")
    model: dict[str, Any] = Field(description="hf_config: path of a config.json, or its keys")
    layout: LayoutConfig = Field(description="degrees of parallelism")
    schedule: ScheduleConfig = Field(description="pipeline schedule")
    training: TrainingConfig = Field(description="batch, sequence and tokens")
    precision: PrecisionConfig = Field(PrecisionConfig(), description="number formats")
    experts: ExpertsConfig = Field(ExpertsConfig(), description="token routing")
    assumed: tuple[Assumption, ...] = Field((), description="values that were not published")
    reference: tuple[Reference, ...] = Field((), description="published figures")


@dataclass(frozen=True)
class Scenario:
    """One cluster and one training run that fit each other.

    schedule: who runs what in which order.
    micro_batches: per replica of the model and step, both directions of a bidirectional pipeline together.
    documents: topology and workload as they were read. counts: recorded loads [layer, expert], if any.
    """

    topology: TopologyConfig
    workload: WorkloadConfig
    model: ModelConfig
    gpu: GpuConfig
    kernels: KernelConfig
    layout: Layout
    recipe: Recipe
    micro_batches: int
    schedule: Schedule
    documents: tuple[Document, Document] = field(repr=False)
    counts: tuple[tuple[float, ...], ...] | None = field(default=None, repr=False)

    @property
    def tokens_per_micro_batch(self) -> int:
        """Return the tokens of one micro-batch."""
        return self.workload.training.micro_batch_size * self.workload.training.seq_length

    @property
    def tokens_per_step(self) -> int:
        """Return the tokens of one step."""
        return self.workload.training.global_batch_size * self.workload.training.seq_length


def load(topology_name: str, workload_name: str = "deepseek-v3", sets: Mapping[str, Any] | None = None) -> Scenario:
    """Read two files, apply overrides and cross-check them.

    topology_name/workload_name: a path, or the bare name of a shipped file. sets: path of keys -> value, with the
    file's kind before it where both have the key (`topology.name`). Errors: InputError.
    """
    documents = {
        "topology": inputs.read(inputs.find(topology_name, "topologies")),
        "workload": inputs.read(inputs.find(workload_name, "workloads")),
    }
    for path, value in (sets or {}).items():
        kind, inner = _owner(path)
        documents[kind] = inputs.override(documents[kind], inner, value)
    return build(documents["topology"], documents["workload"])


def workload_of(name: str) -> tuple[WorkloadConfig, ModelConfig]:
    """Read a workload and its model by themselves, for what does not ask for a whole run. Errors: InputError."""
    document = inputs.read(inputs.find(name, "workloads"))
    workload = inputs.validate(document, WorkloadConfig)
    return workload, _model(document, workload)


def _owner(path: str) -> tuple[str, str]:
    """Return which file a path of keys belongs to, and the path inside it."""
    head, _, rest = path.partition(".")
    if head in ("topology", "workload") and rest:
        return head, rest
    owners = {
        "topology": set(TopologyConfig.model_fields),
        "workload": set(WorkloadConfig.model_fields),
    }
    found = [kind for kind, fields in owners.items() if head in fields]
    if len(found) == 1:
        return found[0], path
    if found:
        remedy = f"Write 'topology.{path}' or 'workload.{path}'."
        raise InputError("is a key of both files", file="--set", key=path, remedy=remedy)
    known = sorted(owners["topology"] | owners["workload"])
    near = difflib.get_close_matches(head, known, n=1)
    remedy = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known)}."
    raise InputError("is no key of a topology or a workload", file="--set", key=path, value=head, remedy=remedy)


def build(cluster: Document, run: Document) -> Scenario:
    """Return the scenario of two documents. Errors: InputError that names file, line, key, value, rule and remedy."""
    site = inputs.validate(cluster, TopologyConfig)
    workload = _only_assumed(run, inputs.validate(run, WorkloadConfig))
    architecture = _model(run, workload)
    gpu = _gpu(cluster, site)
    try:
        network(site)  # it is kept, so that lowering finds it built
    except InputError as error:
        raise error.at(**cluster.place(tuple(error.key.split(".")))) from error
    try:
        return _cross_check((cluster, run), site, workload, architecture, gpu)
    except InputError as error:
        raise error.at(**run.place(tuple(error.key.split(".")))) from error


def _only_assumed(run: Document, workload: WorkloadConfig) -> WorkloadConfig:
    """Drop the assumptions whose keys the user has set: they are not assumed any more."""
    known = set(_paths(run.data))
    kept = tuple(row for row in workload.assumed if not _overridden(run, tuple(row.key.split("."))))
    for assumption in kept:
        if assumption.key not in known:
            error = InputError("is no key of this file", value=assumption.key, remedy="Name a key by its path.")
            raise error.at(**run.place(("assumed",)))
    return workload.model_copy(update={"assumed": kept})


def _overridden(run: Document, path: tuple[str, ...]) -> bool:
    """Tell whether `--set` replaced a key or a group that holds it."""
    return any(path[: len(taken)] == taken for taken in run.overridden)


def _paths(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield above + key
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{key}.")


def _model(run: Document, workload: WorkloadConfig) -> ModelConfig:
    """Return the model of a workload: inline keys, or a config.json with the keys beside it in its stead."""
    lines = {keys[1:]: line for keys, line in run.lines.items() if keys[0] == "model" and len(keys) > 1}
    replaced = frozenset(keys[1:] for keys in run.overridden if keys[0] == "model")
    own = {key: value for key, value in workload.model.items() if key != "hf_config"}
    for key in own:
        if key not in ModelConfig.model_fields and key not in UNREAD and key not in NOT_YET:
            error = InputError("is no key of a model that simulate reads", value=key, remedy=_near_model_key(key))
            raise error.at(**run.place(("model", key)))
    if "hf_config" not in workload.model:
        return _prefixed(Document(run.file, {"name": workload.name, **own}, lines, replaced))
    path = Path(run.file).parent / str(workload.model["hf_config"])
    if not path.is_file():
        raise InputError(
            "does not exist", value=workload.model["hf_config"],
            remedy="Give the path of a config.json, seen from this file.",
        ).at(**run.place(("model", "hf_config")))
    document = inputs.read(path)
    merged = {"name": path.stem, **document.data, **own}
    return _prefixed(replace(document, data=merged, overridden=replaced))


def _prefixed(document: Document) -> ModelConfig:
    """Return the model of a document of its keys alone; messages name a key by its path in the workload."""
    try:
        return inputs.validate(document, ModelConfig)
    except InputError as error:
        error.key = f"model.{error.key}"
        raise


def _near_model_key(key: str) -> str:
    near = difflib.get_close_matches(key, ModelConfig.model_fields, n=1)
    return f"Did you mean '{near[0]}'?" if near else "Use Hugging Face's names, as in config.json."


def _gpu(cluster: Document, site: TopologyConfig) -> GpuConfig:
    try:
        return inputs.validate(inputs.data("gpus", site.gpu), GpuConfig)
    except InputError as error:
        raise error.at(**cluster.place(("gpu",))) from error


def _cross_check(documents: tuple[Document, Document], site: TopologyConfig, workload: WorkloadConfig,
                 architecture: ModelConfig, gpu: GpuConfig) -> Scenario:
    recipe = RECIPES[workload.precision.recipe]
    if recipe.peak not in gpu.peak:
        raise InputError(
            f"multiplies in {recipe.peak}, which {gpu.name} cannot: it has {', '.join(gpu.peak)}",
            key="precision.recipe", value=recipe.name, remedy="Write precision.recipe=bf16, or choose another GPU.",
        )
    ranks = resolve(workload.layout, site.gpus, architecture)
    _check_nodes(ranks, site)
    copies = architecture.n_routed_experts + workload.experts.redundant_experts
    if copies % ranks.ep:
        raise InputError(f"and {architecture.n_routed_experts} experts do not divide over ep {ranks.ep}",
                         key="experts.redundant_experts", value=workload.experts.redundant_experts,
                         remedy=f"Choose a number that makes a multiple of {ranks.ep}.")
    if workload.experts.sms >= gpu.sms:
        raise InputError(f"leaves no SM of {gpu.sms} to compute on", key="experts.sms", value=workload.experts.sms,
                         remedy="DeepSeek-V3 keeps 20.")
    if not isinstance(workload.layout.stages, str):
        parse_stages(workload.layout.stages, ranks.pp, architecture)
    micro_batches = _micro_batches(workload.training, ranks)
    return Scenario(
        topology=site,
        workload=workload,
        model=architecture,
        gpu=gpu,
        kernels=inputs.validate(inputs.data("kernels", gpu.kernels), KernelConfig),
        layout=ranks,
        recipe=recipe,
        micro_batches=micro_batches,
        schedule=_schedule(workload.schedule.name, ranks.pp, micro_batches),
        documents=documents,
        counts=_counts(documents[1], workload),
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
    for key, size, what in (("layout.ep", ranks.ep, "expert parallel"), ("layout.pp", ranks.dp, "data parallel")):
        small, large = sorted((size, gpus))
        if large % small and site.nodes > 1:
            raise LayoutError(
                f"makes {what} groups of {size} ranks, which fill no whole nodes of {gpus} GPUs nor divide one",
                key=key, value=ranks.ep if size == ranks.ep else ranks.pp,
                remedy=f"Choose it so that they hold a multiple or a divisor of {gpus} ranks.",
            )


def _schedule(name: str, stages: int, micro_batches: int) -> Schedule:
    try:
        schedule = schedules.build(name, stages, micro_batches)
    except InputError as error:
        raise error.at(key="schedule.name") from error
    schedules.check(schedule)
    return schedule


def _micro_batches(training: TrainingConfig, ranks: Layout) -> int:
    per_round = ranks.dp * training.micro_batch_size
    count, rest = divmod(training.global_batch_size, per_round)
    if rest:
        legal = " and ".join(str(per_round * n) for n in (count, count + 1) if n)
        raise InputError(
            f"does not divide over dp {ranks.dp} x micro_batch_size {training.micro_batch_size} = {per_round}",
            key="training.global_batch_size", value=training.global_batch_size, remedy=f"The nearest that do: {legal}.",
        )
    return count


def variants(scenario: Scenario, assumption: Assumption) -> Iterator[tuple[Any, Scenario | None]]:
    """Return each alternative of an assumption with its scenario, None where it does not fit the rest."""
    cluster, run = scenario.documents
    for value in assumption.alternatives:
        try:
            yield value, build(cluster, inputs.override(run, assumption.key, value))
        except InputError:
            yield value, None

"""Two files -> a Scenario: read, override, validate, cross-check."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from simulator import inputs
from simulator.errors import InputError
from simulator.hardware import GpuConfig
from simulator.inputs import Document
from simulator.model import KEYS, ModelConfig
from simulator.scenario.check import cross_check
from simulator.scenario.config import Assumption, WorkloadConfig
from simulator.scenario.value import Scenario
from simulator.topology import TopologyConfig, network


def load(
    topology_name: str, workload_name: str = "deepseek-v3", sets: Mapping[str, Any] | None = None
) -> Scenario:
    """Read two files, apply overrides and cross-check them.

    topology_name/workload_name: a path, or the bare name of a shipped file. sets: path of keys ->
    value, with the file's kind before it where both have the key (`topology.name`). Errors:
    InputError.
    """
    documents = {
        "topology": inputs.read(inputs.find(topology_name, "topologies")),
        "workload": inputs.read(inputs.find(workload_name, "workloads")),
    }
    for path, value in (sets or {}).items():
        kind, inner = owner(path)
        documents[kind] = inputs.override(documents[kind], inner, value)
    return build(documents["topology"], documents["workload"])


def workload_of(name: str) -> tuple[WorkloadConfig, ModelConfig]:
    """Read a workload and its model by themselves, for what does not ask for a whole run. Errors: InputError."""
    document = inputs.read(inputs.find(name, "workloads"))
    workload = inputs.validate(document, WorkloadConfig)
    return workload, _model(document, workload)


def owner(path: str) -> tuple[str, str]:
    """Return which file a path of keys belongs to, and the path inside it. Errors: InputError."""
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
    raise InputError(
        "is no key of a topology or a workload", file="--set", key=path, value=head, remedy=remedy
    )


def build(cluster: Document, run: Document) -> Scenario:
    """Return the scenario of two documents. Errors: InputError that names file, line, key, value, rule and remedy."""
    site = inputs.validate(cluster, TopologyConfig)
    workload = _only_assumed(run, inputs.validate(run, WorkloadConfig))
    architecture = _model(run, workload)
    gpu = _gpu(cluster, site)
    try:
        links = network(site)
    except InputError as error:
        raise error.at(**cluster.place(tuple(error.key.split(".")))) from error
    try:
        return cross_check((cluster, run), site, workload, architecture, gpu, links)
    except InputError as error:
        raise error.at(**run.place(tuple(error.key.split(".")))) from error


def _only_assumed(run: Document, workload: WorkloadConfig) -> WorkloadConfig:
    """Drop the assumptions whose keys the user has set: they are not assumed any more."""
    known = set(_paths(run.data))
    kept = tuple(row for row in workload.assumed if not _overridden(run, tuple(row.key.split("."))))
    for assumption in kept:
        if assumption.key not in known:
            error = InputError(
                "is no key of this file", value=assumption.key, remedy="Name a key by its path."
            )
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


def inline(run: Document) -> Document:
    """Return a workload whose model needs no other file: it holds the keys of its config.json. Errors: InputError."""
    workload = inputs.validate(run, WorkloadConfig)
    document = _model_document(run, workload)
    _prefixed(document)  # refuses keys of cost that are not read, before they are dropped
    kept = {key: value for key, value in document.data.items() if key in KEYS}
    return replace(run, data={**run.data, "model": kept})


def _model(run: Document, workload: WorkloadConfig) -> ModelConfig:
    """Return the model of a workload. Errors: InputError."""
    return _prefixed(_model_document(run, workload))


def _model_document(run: Document, workload: WorkloadConfig) -> Document:
    """Return the keys of a model: inline ones, or those of a config.json with the keys beside it in its stead."""
    lines = {
        keys[1:]: line for keys, line in run.lines.items() if keys[0] == "model" and len(keys) > 1
    }
    replaced = frozenset(keys[1:] for keys in run.overridden if keys[0] == "model")
    own = {key: value for key, value in workload.model.items() if key != "hf_config"}
    for key in own:
        if key not in KEYS:
            error = InputError(
                "is no key of a model that simulate reads", value=key, remedy=_near_model_key(key)
            )
            raise error.at(**run.place(("model", key)))
    if "hf_config" not in workload.model:
        return Document(run.file, {"name": workload.name, **own}, lines, replaced)
    path = Path(run.file).parent / str(workload.model["hf_config"])
    if not path.is_file():
        raise InputError(
            "does not exist",
            value=workload.model["hf_config"],
            remedy="Give the path of a config.json, seen from this file.",
        ).at(**run.place(("model", "hf_config")))
    document = inputs.read(path)
    merged = {"name": path.stem, **document.data, **own}
    return replace(document, data=merged, overridden=replaced)


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


def vary(scenario: Scenario, key: str, value: Any) -> Scenario:
    """Return a scenario with one key of its workload changed. Errors: InputError if it does not fit."""
    cluster, run = scenario.documents
    return build(cluster, inputs.override(run, key, value))


def variants(scenario: Scenario, assumption: Assumption) -> Iterator[tuple[Any, Scenario | None]]:
    """Yield each alternative of an assumption with its scenario.

    None where it does not fit the rest.
    """
    for value in assumption.alternatives:
        try:
            yield value, vary(scenario, assumption.key, value)
        except InputError:
            yield value, None

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
from simulator.progress import doing
from simulator.scenario.check import check_power, cross_check
from simulator.scenario.config import Assumption, WorkloadConfig
from simulator.scenario.value import Documents, Scenario
from simulator.topology import TopologyConfig, network

FILES = ("topology", "workload")
"""The kinds of files that make a scenario."""


@doing("reading inputs")
def load(
    topology_name: str, workload_name: str = "deepseek-v3", sets: Mapping[str, Any] | None = None
) -> Scenario:
    """Read two files, apply overrides and cross-check them.

    topology_name/workload_name: a path, or the bare name of a shipped file. sets: path of keys ->
    value, with the file's kind before it where both have the key (`topology.name`); None removes a
    key. Errors: InputError.
    """
    documents = {
        "topology": inputs.read(inputs.find(topology_name, "topologies")),
        "workload": inputs.read(inputs.find(workload_name, "workloads")),
    }
    for path, value in (sets or {}).items():
        kind, inner = owner(path)
        documents[kind] = override(documents[kind], inner, value)
    return build(documents["topology"], documents["workload"])


def override(document: Document, path: str, value: Any) -> Document:
    """Return a topology or workload with one key replaced, or removed where the value is None.

    path: inside the file. Errors: InputError where it leads into a plain value.
    """
    head, _, key = path.partition("model.hf_config.")
    model = document.data.get("model")
    config = model.get("hf_config") if isinstance(model, dict) else None
    if key and not head and isinstance(config, str):
        raise InputError(
            "is not a group of keys",
            file="--set",
            key=path,
            value="model.hf_config",
            remedy=f"Write model.{key}: it overrides what the file {config} says.",
        )
    return inputs.override(document, path, value)


def workload_of(name: str) -> tuple[WorkloadConfig, ModelConfig]:
    """Read a workload and its model by themselves, for what does not ask for a whole run.

    Errors: InputError.
    """
    document = inputs.read(inputs.find(name, "workloads"))
    workload = inputs.validate(document, WorkloadConfig)
    return workload, _model(document, workload)


def owner(path: str) -> tuple[str, str]:
    """Return which file a path of keys belongs to, and the path inside it. Errors: InputError."""
    head, _, rest = path.partition(".")
    if head in FILES and rest:
        return head, rest
    keys = {
        "topology": TopologyConfig.model_fields,
        "workload": WorkloadConfig.model_fields,
    }
    owners = [kind for kind in FILES if head in keys[kind]]
    if len(owners) == 1:
        return owners[0], path
    if owners:
        remedy = f"Write 'topology.{path}' or 'workload.{path}'."
        raise InputError("is a key of both files", file="--set", key=path, remedy=remedy)
    known = {*keys["topology"], *keys["workload"]}
    raise _unknown_path(path, sorted(known))


def _unknown_path(path: str, known: list[str]) -> InputError:
    """Return the complaint about a path whose first key is in neither file. known: the first keys."""
    head, _, rest = path.partition(".")
    # A file's kind may be misspelt too, `topolgy.node`; alone it leads nowhere.
    candidates = [*known, *FILES] if rest else known
    near = difflib.get_close_matches(head, candidates, n=1)
    remedy = f"Choose from: {', '.join(known)}."
    if near:
        meant = path.replace(head, near[0], 1)
        remedy = f"Did you mean '{meant}'?"
    return InputError(
        "is not a key of a topology or a workload",
        file="--set",
        key=path,
        value=head,
        remedy=remedy,
    )


def build(cluster: Document, run: Document) -> Scenario:
    """Return the scenario of two documents.

    Errors: InputError that names file, line, key, value, rule and remedy.
    """
    site = inputs.validate(cluster, TopologyConfig)
    workload = _only_assumed(run, inputs.validate(run, WorkloadConfig))
    architecture = _model(run, workload)
    gpu = _gpu(cluster, site)
    # Lower layers know keys and no files: what they refuse is located in the file that has the key.
    try:
        links = network(site)
        check_power(site, gpu)
    except InputError as error:
        raise _located(error, cluster) from error
    documents = Documents(cluster, run)
    try:
        return cross_check(documents, site, workload, architecture, gpu, links)
    except InputError as error:
        raise _located(error, run) from error


def _located(error: InputError, document: Document) -> InputError:
    """Return an error that knows its key with the file and the line of that key."""
    keys = tuple(error.key.split("."))
    return error.at(**document.locate(keys))


def _only_assumed(run: Document, workload: WorkloadConfig) -> WorkloadConfig:
    """Drop the assumptions whose keys the user has set: they are not assumed any more."""
    known = set(_paths(run.data))
    assumed = []
    for assumption in workload.assumed:
        keys = tuple(assumption.key.split("."))
        if not run.is_overridden(keys):
            assumed.append(assumption)
    for assumption in assumed:
        if assumption.key not in known:
            error = InputError(
                "is not a key of this file",
                value=assumption.key,
                remedy="Name a key by its path.",
            )
            raise error.at(**run.locate(("assumed",)))
    return workload.model_copy(update={"assumed": tuple(assumed)})


def _paths(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Return the paths of all keys of a tree, joined by dots."""
    for key, value in tree.items():
        yield above + key
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{key}.")


def inline(run: Document) -> Document:
    """Return a workload whose model needs no other file: it holds the keys of its config.json.

    Errors: InputError.
    """
    workload = inputs.validate(run, WorkloadConfig)
    document = _model_document(run, workload)
    _validated(document, run)  # refuses keys of cost that are not read, before they are dropped
    keys = {key: value for key, value in document.data.items() if key in KEYS}
    return replace(run, data={**run.data, "model": keys})


def _model(run: Document, workload: WorkloadConfig) -> ModelConfig:
    """Return the model of a workload. Errors: InputError."""
    return _validated(_model_document(run, workload), run)


def _model_document(run: Document, workload: WorkloadConfig) -> Document:
    """Return the keys of a model: those of `hf_config`, overridden by the others of `model`."""
    own = dict(workload.model)
    own.pop("hf_config", None)
    # The model's document has the keys at its top, so the paths lose their first part.
    changed = frozenset(keys[1:] for keys in run.overridden if keys[0] == "model")
    removed = sorted(str(keys[0]) for keys in changed if keys)
    for key in (*own, *removed):
        if key not in {*KEYS, "hf_config"}:
            error = InputError(
                "is not a key of a model that simulate reads",
                value=key,
                remedy=_near_model_key(key),
            )
            raise error.at(**run.locate(("model", key)))
    base = _hf_config(run, workload)
    data = {**base.data, **own}
    for keys in changed:
        if len(keys) != 1:
            continue
        key = str(keys[0])
        if key not in own:
            data.pop(key, None)  # `--set model.key=null` removes it from a config.json too
    return replace(base, data=data, overridden=changed)


def _hf_config(run: Document, workload: WorkloadConfig) -> Document:
    """Return the keys of `hf_config`, which is a path or holds the keys itself.

    Errors: InputError.
    """
    config = workload.model.get("hf_config", {})
    if isinstance(config, dict):
        keys = {"name": workload.name, **config}
        return Document(run.file, keys, {})
    if not isinstance(config, str):
        error = InputError(
            "is neither a path nor a group of keys",
            value=config,
            remedy="Give the path of a config.json, or its keys.",
        )
        raise error.at(**run.locate(("model", "hf_config")))
    path = Path(run.file).parent / config
    fault = inputs.file_fault(path)
    if fault:
        error = InputError(
            fault,
            value=config,
            remedy="Give the path of a config.json, relative to this file.",
        )
        raise error.at(**run.locate(("model", "hf_config")))
    document = inputs.read(path)
    return replace(document, data={"name": path.stem, **document.data})


def _validated(document: Document, run: Document) -> ModelConfig:
    """Return the model of a document of its keys alone.

    Messages say where its keys are in the workload.
    """
    try:
        return inputs.validate(document, ModelConfig)
    except InputError as error:
        model = run.data["model"]
        config = model.get("hf_config")
        keys = error.key.split(".")
        path = ("model", *keys)
        in_config = isinstance(config, dict) and keys[0] in config
        if in_config and keys[0] not in model:
            path = ("model", "hf_config", *keys)
        error.key = ".".join(path)
        if keys[0] in model or not isinstance(config, str):
            # Not from a config.json: the workload's own file knows the line.
            error.file, error.line = "", 0
            error.at(**run.locate(path))
        raise


def _near_model_key(key: str) -> str:
    for near in difflib.get_close_matches(key, ModelConfig.model_fields, n=1):
        return f"Did you mean '{near}'?"
    return "Use Hugging Face's names, as in config.json."


def _gpu(cluster: Document, site: TopologyConfig) -> GpuConfig:
    try:
        datasheet = inputs.data("gpus", site.gpu)
        return inputs.validate(datasheet, GpuConfig)
    except InputError as error:
        raise error.at(**cluster.locate(("gpu",))) from error


def vary(scenario: Scenario, key: str, value: Any) -> Scenario:
    """Return a scenario with one key of its workload changed.

    Errors: InputError if it does not fit.
    """
    cluster, run = scenario.documents
    return build(cluster, override(run, key, value))


def variants(scenario: Scenario, assumption: Assumption) -> Iterator[tuple[Any, Scenario | None]]:
    """Yield each alternative of an assumption with its scenario.

    None where it does not fit the rest.
    """
    for value in assumption.alternatives:
        try:
            yield value, vary(scenario, assumption.key, value)
        except InputError:
            yield value, None

"""Paths of keys in the two files: whether a path leads to a key, and what it says there."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel

from simulator.errors import InputError
from simulator.inputs import Document
from simulator.model import KEYS
from simulator.scenario import WorkloadConfig, owner
from simulator.topology import TopologyConfig

MODELS: dict[str, type[BaseModel]] = {"topology": TopologyConfig, "workload": WorkloadConfig}
"""Kind of file -> its configuration."""


def check_path(path: str) -> None:
    """Refuse a path that leads to no key of either file. Errors: InputError with remedy."""
    kind, inner = owner(path)
    keys = inner.split(".")
    if kind == "workload" and keys[0] == "model" and len(keys) == 2:
        # A free group in the workload; its keys are Hugging Face's.
        known = sorted({*KEYS, "hf_config"})
        _check_key(path, keys[1], known)
        return
    model: type[BaseModel] | None = MODELS[kind]
    # Down the tree of configurations, as far as it is known without a file.
    for key in keys:
        if model is None:
            return  # below a list or a free group: the point itself will tell
        _check_key(path, key, list(model.model_fields))
        model = _below(model, key)


def _check_key(path: str, key: str, known: list[str]) -> None:
    if key in known:
        return
    remedy = f"Choose from: {', '.join(known)}."
    for near in difflib.get_close_matches(key, known, n=1):
        remedy = f"Did you mean '{near}'?"
    rule = f"leads to no key: there is no '{key}'"
    raise InputError(rule, value=path, remedy=remedy)


def _below(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the configuration of the group at a key, None where the key holds a value."""
    # A group may be optional: `Config | None`.
    kind: Any = model.model_fields[key].annotation
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def at(documents: dict[str, Document], path: str) -> Any:
    """Return what a file, or else a default, says at a path; None where neither does.

    documents: kind of file -> the file. Errors: InputError.
    """
    kind, inner = owner(path)
    keys = inner.split(".")
    # The file and the configuration are walked side by side: where the file ends, defaults begin.
    node: Any = documents[kind].data
    model: type[BaseModel] | None = MODELS[kind]
    for depth, key in enumerate(keys):
        if not isinstance(node, dict) or key not in node:
            return _default(model, keys[depth:])
        node = node[key]
        known = model is not None and key in model.model_fields
        model = _below(model, key) if model and known else None
    return node


def _default(model: type[BaseModel] | None, keys: list[str]) -> Any:
    """Return the default of a path that begins at a configuration, None where there is none."""
    *groups, last = keys
    for key in groups:
        if model is None or key not in model.model_fields:
            return None
        model = _below(model, key)
    field = model.model_fields.get(last) if model else None
    if field is None or field.is_required():
        return None
    return field.get_default(call_default_factory=True)

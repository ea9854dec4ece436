"""Paths of keys in the two files: whether a path leads to a key, and what stands there."""

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


def check_path(path: str) -> None:
    """Refuse a path that leads to no key of either file. Errors: InputError with remedy."""
    kind, inner = owner(path)
    keys = inner.split(".")
    if keys[0] == "model" and len(keys) == 2 and kind == "workload":
        _known(path, keys[1], sorted({*KEYS, "hf_config"}))
        return
    model: type[BaseModel] | None = MODELS[kind]
    for key in keys:
        if model is None:
            return  # below a list or a free group: the point itself will tell
        _known(path, key, list(model.model_fields))
        model = _below(model, key)


def _known(path: str, key: str, keys: list[str]) -> None:
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        remedy = f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(keys)}."
        raise InputError(f"leads to no key: there is no '{key}'", value=path, remedy=remedy)


def _below(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the configuration that stands at a key, None where it is no group of keys."""
    kind: Any = model.model_fields[key].annotation
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def at(documents: dict[str, Document], path: str) -> Any:
    """Return what a file, or else a default, says at a path; None where neither does. Errors: InputError."""
    kind, inner = owner(path)
    keys = inner.split(".")
    node: Any = documents[kind].data
    model: type[BaseModel] | None = MODELS[kind]
    for number, key in enumerate(keys):
        if isinstance(node, dict) and key in node:
            node = node[key]
            model = _below(model, key) if model and key in model.model_fields else None
            continue
        return _default(model, keys[number:])
    return node


def _default(model: type[BaseModel] | None, keys: list[str]) -> Any:
    for number, key in enumerate(keys):
        field = model.model_fields.get(key) if model else None
        if field is None:
            return None
        if not field.is_required() and number == len(keys) - 1:
            return field.get_default(call_default_factory=True)
        model = _below(model, key) if model else None
    return None

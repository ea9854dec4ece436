"""Finished points -> one table, a row a point in the order of the axes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from simulator.errors import InputError
from simulator.store import columns, flat
from simulator.sweep.config import Sweep
from simulator.sweep.run import Finished


def table(sweep: Sweep, finished: Iterable[Finished]) -> dict[str, list[Any]]:
    """Return the columns of a sweep: status, axes as written, derived figures, inputs, outputs.

    Inputs are in SI units. Columns of axes are named `axis.<path>`; of inputs by their path with
    the file before it, `workload.layout.ep`; of outputs as in `simulate run --json`.
    Errors: InputError.
    """
    ordered = sorted(finished, key=lambda result: result.point.number)
    heads = [_head(result) | derived(sweep, result) for result in ordered]
    inputs = [result.tree["inputs"] for result in ordered]
    outputs = [result.tree["outputs"] for result in ordered]
    # Apart, so that an input which only some points have does not end up among the outputs.
    return {**columns(heads), **columns(inputs), **columns(outputs)}


def _head(result: Finished) -> dict[str, Any]:
    """Return the columns that say which point it is and what became of it."""
    values = {}
    for path, value in result.point.values.items():
        values[f"axis.{path}"] = _as_cell(value)
    axes = flat(values)
    return {
        "point": result.point.number,
        "status": result.tree["status"],
        "error": result.tree["error"] or None,
        **axes,
    }


def _as_cell(value: Any) -> Any:
    """Return a group of keys as JSON: it is one value of an axis, not several columns."""
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False)
    return value


def derived(sweep: Sweep, result: Finished) -> dict[str, Any]:
    """Return the derived columns of a point, None for one that was not simulated.

    Errors: InputError for a name that is not a column.
    """
    if result.tree["status"] != "ok":
        return dict.fromkeys(sweep.derived)
    known: dict[str, Any] = {
        "point": result.point.number,
        **result.point.values,
        **result.tree["inputs"],
        **result.tree["outputs"],
    }
    figures: dict[str, Any] = {}
    for column, expression in sweep.derived.items():
        # A derived column may use those that the file derives before it.
        look_up = partial(_look_up, known | figures)
        try:
            figures[column] = expression.value(look_up)
        except InputError as error:
            raise sweep.told(error, "derived", column) from error
    return figures


def _look_up(known: Mapping[str, Any], name: str) -> Any:
    """Return a column by its name, or an input's by its path alone. Errors: InputError."""
    # Outputs and axes first: `layout.ep` is the axis as written before it is the input in SI.
    candidates = (name, f"workload.{name}", f"topology.{name}")
    for candidate in candidates:
        if candidate in known:
            return known[candidate]
    raise InputError(
        "is not a column",
        value=name,
        remedy="Name an output as in `simulate run --json`, or a key by its path.",
    )

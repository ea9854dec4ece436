"""Finished points -> one table, a row a point in the order of the axes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from simulator.errors import InputError
from simulator.store import columns, flat
from simulator.sweep.config import Sweep
from simulator.sweep.run import Finished

HEAD = ("point", "status", "error")


def table(sweep: Sweep, finished: Iterable[Finished]) -> dict[str, list[Any]]:
    """Return the columns of a sweep: number and status, axes as written, derived figures, inputs in SI, outputs.

    Columns of axes are named `axis.<path>`; of inputs by their path with the file before it,
    `workload.layout.ep`; of outputs as in `simulate run --json`. Errors: InputError.
    """
    ordered = sorted(finished, key=lambda one: one.point.number)
    heads, inputs, outputs = [], [], []
    for one in ordered:
        status = {
            "point": one.point.number,
            "status": one.tree["status"],
            "error": one.tree["error"] or None,
        }
        axes = flat({f"axis.{path}": _whole(value) for path, value in one.point.values.items()})
        heads.append({**status, **axes, **derived(sweep, one)})
        inputs.append(one.tree["inputs"])
        outputs.append(one.tree["outputs"])
    return {**columns(heads), **columns(inputs), **columns(outputs)}


def _whole(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value


def derived(sweep: Sweep, one: Finished) -> dict[str, Any]:
    """Return the derived columns of a point, None for one that was not simulated. Errors: InputError for a name."""
    known: dict[str, Any] = {
        "point": one.point.number,
        **one.point.values,
        **one.tree["inputs"],
        **one.tree["outputs"],
    }
    made: dict[str, Any] = {}
    for column, expression in sweep.derived.items():
        if one.tree["status"] != "ok":
            made[column] = None
            continue
        try:
            made[column] = expression.value(lambda name: _look_up(known | made, name))
        except InputError as error:
            raise error.at(**sweep.document.locate(("derived", column))) from error
    return made


def _look_up(known: Mapping[str, Any], name: str) -> Any:
    """Return a column by its name, or by the path of an input without its file. Errors: InputError."""
    for candidate in (name, f"workload.{name}", f"topology.{name}"):
        if candidate in known:
            return known[candidate]
    raise InputError(
        "is no column",
        value=name,
        remedy="Name an output as in `simulate run --json`, or a key by its path.",
    )

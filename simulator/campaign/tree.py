"""Ledgers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simulator.campaign.ledger import Beside, Entry, Ledger, Line, Sum

SCHEMA_VERSION = 1


def as_dict(ledgers: Sequence[Ledger]) -> dict[str, Any]:
    """Return ledgers as `--json` writes them: SI units, GPU-hours, USD."""
    return {"schema_version": SCHEMA_VERSION, "campaigns": [_ledger(one) for one in ledgers]}


def _ledger(ledger: Ledger) -> dict[str, Any]:
    config = ledger.config
    return {
        "campaign": config.name,
        "title": config.title,
        "options": config.options,
        "stages": [_entry(entry) for entry in ledger.entries],
        "total": _sum(ledger.total) | _energy(ledger),
        "owned_usd": _owned(ledger),
        "published": [_beside(row) for row in ledger.published],
        "counts": list(config.counts),
        "leaves_out": list(config.leaves_out),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    config = entry.config
    tree: dict[str, Any] = {
        "name": config.name,
        "kind": config.kind,
        "basis": config.basis,
        **_sum(entry.total),
        "published": [_beside(row) for row in entry.published],
        "notes": list(config.notes),
    }
    if config.repeat:
        tree["source"] = config.repeat.source
    if entry.lines:
        tree["spans"] = [_line(line) for line in entry.lines]
    if entry.goodput:
        tree["goodput"] = _goodput(entry)
    if entry.inner:
        tree["ledger"] = _ledger(entry.inner)
    return tree


def _line(line: Line) -> dict[str, Any]:
    report = line.step.report
    scenario = report.scenario
    return {
        "span": line.label,
        "topology": scenario.topology.name,
        "workload": scenario.workload.name,
        "gpus": line.gpus,
        "step_time_s": line.step_time,
        "mfu": report.mfu,
        "fits": report.fits,
        **_sum(line.total),
    }


def _sum(total: Sum) -> dict[str, Any]:
    return {
        "gpu_hours": total.gpu_hours,
        "gpu_hours_interval": [total.low, total.high],
        "wall_days": total.wall_days,
        "steps": total.steps,
        "tokens": total.tokens,
        "cost_usd": total.cost,
    }


def _goodput(entry: Entry) -> dict[str, Any] | None:
    found = entry.goodput
    if found is None:
        return None
    return {
        "training_share": dict(zip(("p10", "p50", "p90"), found.shares, strict=True)),
        "wall_over_training": dict(zip(("p10", "p50", "p90"), found.stretch, strict=True)),
        "parts": found.parts,
        "failures": found.failures,
        "added": _sum(entry.interruptions),
    }


def _energy(ledger: Ledger) -> dict[str, Any]:
    figures = ledger.figures
    emitted = figures["emissions_t"] if ledger.config.energy.grid else None
    return {"energy_kwh": figures["energy_kwh"], "emissions_t": emitted}


def _owned(ledger: Ledger) -> dict[str, Any] | None:
    if ledger.owned is None:
        return None
    return {**ledger.owned._asdict(), "total": ledger.owned.total}


def _beside(row: Beside) -> dict[str, Any]:
    return {
        "quantity": row.figure.quantity,
        "published": row.figure.value,
        "simulated": row.simulated,
        "error_percent": 100.0 * row.error,
        "source": row.figure.source,
        "includes": row.figure.includes,
    }

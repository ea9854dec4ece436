"""A report as the tree that `--json` writes. Keys are stable: add freely, rename never."""

from __future__ import annotations

from typing import Any

from simulator.memory import CATEGORIES, RankMemory
from simulator.report.overlap import Overlap, mean_share
from simulator.report.parts import TRAFFIC_KINDS
from simulator.report.report import Comparison, Report
from simulator.scenario import moot_keys

SCHEMA_VERSION = 1


def as_dict(report: Report) -> dict[str, Any]:
    """Return a report as JSON: seconds, bytes and FLOP/s in SI."""
    scenario = report.scenario
    return {
        "schema_version": SCHEMA_VERSION,
        "topology": scenario.topology.name,
        "workload": scenario.workload.name,
        "gpus": scenario.topology.gpus,
        "stack": scenario.stack.name,
        "model": _model(report),
        **_step(report),
        "breakdown_s": report.breakdown,
        "phases_s": report.phases,
        "traffic_bytes": {kind.name: _sent(report, kind.name) for kind in TRAFFIC_KINDS},
        "link_utilisation": report.utilisation,
        "overlap": _overlap(report),
        "stages": list(report.stages),
        "memory": _memory(report),
        "bounds": [
            {"name": bound.name, "seconds": bound.seconds, "formula": bound.formula}
            for bound in report.bounds
        ],
        "kernels": {
            "table": scenario.kernels.name,
            "measured_share": report.measured_share,
        },
        "run": _run(report),
        "moot": [moot._asdict() for moot in moot_keys(scenario)],
        "reference_is_this_run": scenario.as_published,
        "reference": [_reference(row) for row in report.references()],
        "engine": {
            "executor": report.executor,
            "ops": report.ops,
            "events": report.events,
            "rank_classes": report.rank_classes,
        },
    }


def _model(report: Report) -> dict[str, Any]:
    scenario = report.scenario
    model = scenario.model
    seq_length = scenario.workload.training.seq_length
    return {
        "name": model.name,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "flops_per_token": model.flops_per_token(seq_length),
    }


def _step(report: Report) -> dict[str, Any]:
    quantities = report.quantities()
    return {
        "step_time_s": report.step_time,
        "tokens_per_step": report.scenario.tokens_per_step,
        "tokens_per_second": report.tokens_per_second,
        "tokens_per_day": quantities["tokens_per_day"],
        "model_flops_per_step": report.model_flops,
        "tflops_per_gpu": quantities["tflops_per_gpu"],
        "mfu": report.mfu,
        "hfu": report.hfu,
        "mfu_peak_flops": report.peak_flops,
        "mfu_peak": report.peak_name,
        "bubble_fraction": report.breakdown["bubble"] / report.step_time,
    }


def _sent(report: Report, kind: str) -> dict[str, float]:
    # Every kind is listed, so that readers of the JSON need no default of their own.
    nic, nvlink = report.traffic.get(kind, (0.0, 0.0))
    return {"nic": nic, "nvlink": nvlink}


def _overlap(report: Report) -> dict[str, Any]:
    return {
        # The key is older than the word "overlap" for it; readers rely on it.
        "communication_beside_compute": mean_share(report.overlap),
        "by_rank": [_rank_overlap(overlap) for overlap in report.overlap],
    }


def _rank_overlap(overlap: Overlap) -> dict[str, Any]:
    return {
        "rank": overlap.rank,
        "pipeline_index": overlap.pipeline_index,
        "ranks": overlap.ranks,
        "communication_s": overlap.communication,
        "hidden_s": overlap.hidden,
        "share": overlap.share,
    }


def _memory(report: Report) -> dict[str, Any]:
    # `by_category` is that of the fullest pipeline index, the one that decides whether a run fits.
    worst = report.worst_memory
    return {
        "peak_bytes": worst.peak,
        "capacity_bytes": report.scenario.gpu.memory.capacity,
        "fits": report.fits,
        "by_category": {name: worst.by_category[name] for name in CATEGORIES},
        "by_stage": [_rank_memory(rank) for rank in report.memory],
    }


def _rank_memory(rank: RankMemory) -> dict[str, Any]:
    return {
        "pipeline_index": rank.pipeline_index,
        "stages": list(rank.stages),
        "peak_bytes": rank.peak,
        **rank.by_category,
        "host_bytes": rank.host.kept,
        "to_host_bytes": rank.host.out,
        "from_host_bytes": rank.host.back,
    }


def _run(report: Report) -> dict[str, float]:
    return {
        "tokens": report.scenario.workload.training.tokens,
        "steps": report.steps,
        "wall_days": report.wall_days,
        "gpu_hours": report.gpu_hours,
        "cost_usd": report.cost,
    }


def _reference(row: Comparison) -> dict[str, Any]:
    return {
        "quantity": row.quantity,
        "published": row.published,
        "simulated": row.simulated,
        "error_percent": 100.0 * row.error,
        "source": row.source,
    }
